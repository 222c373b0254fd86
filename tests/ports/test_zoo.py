"""The zoo turns a name into the right recogniser, or says in one sentence why it cannot."""

import gc
import hashlib
import json
import shutil
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports import packages, store, zoo
from ports.architectures import ARCHITECTURES
from ports.card import NpmFiles, OwnFile
from tipim_jax.core.geometry import ARCFACE_112

ARCHITECTURE = "mobilefacenet_112x96_128"


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("TIPIM_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def network(random_network):
    return random_network(ARCHITECTURE)


@pytest.fixture(scope="module")
def crop():
    return jax.random.uniform(jax.random.key(0), (112, 96, 3), maxval=255)


def _direction(network, inputs):
    """The unit embedding of one normalised crop."""
    (embedding,) = nnx.jit(lambda network, x: network(x))(network, inputs[None])
    return embedding / jnp.linalg.norm(embedding)


def _own_card(name="mine", **changes):
    origin = OwnFile("/somewhere/mine.ckpt", "0" * 64)
    return zoo.card(name, ARCHITECTURE, origin, "research use", **changes)


def test_the_default_surrogates_are_the_installed_models():
    assert zoo.SURROGATES == ("sface", "dlib")
    assert [card.missing for card in zoo.available() if card.surrogate] == ["", ""]


@pytest.mark.parametrize("card", zoo.CARDS.values(), ids=zoo.CARDS)
def test_a_card_describes_its_network(card):
    usual = ARCHITECTURES[card.architecture]
    assert (card.size, card.features) == (usual.size, usual.features)
    assert np.array(card.landmarks).shape == (5, 2)
    assert card.licence


def test_templates():
    np.testing.assert_allclose(zoo.arcface_template((112, 112)), ARCFACE_112, atol=1e-4)
    np.testing.assert_allclose(zoo.arcface_template((112, 96)), ARCFACE_112 - [8, 0], atol=1e-4)
    np.testing.assert_allclose(zoo.arcface_template((224, 224)), 2 * ARCFACE_112 + 0.5, atol=1e-3)


def test_a_missing_black_box_says_how_to_get_it(empty_directory):
    with pytest.raises(ValueError, match="run `tipim models fetch expo`"):
        zoo.load("expo")
    missing = {card.name: card.missing for card in zoo.available()}
    assert "tipim models fetch expo" in missing["expo"]


def test_a_changed_black_box_is_refused(empty_directory):
    card = zoo.CARDS["faceres"]
    assert isinstance(card.origin, NpmFiles)
    (empty_directory / "faceres").mkdir(parents=True)
    for member, _ in card.origin.files:
        (empty_directory / "faceres" / member.rsplit("/", 1)[-1]).write_bytes(b"{}")
    with pytest.raises(ValueError, match="not the pinned file"):
        zoo.load("faceres")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="there is no model 'arcface'; known: sface, dlib"):
        zoo.load("arcface")


def test_a_users_own_file_of_another_network_is_refused():
    with pytest.raises(ValueError, match="do not fit this network"):
        zoo.load("sface", path=packages.locate(packages.DLIB_RESNET))
    with pytest.raises(ValueError, match="no such weight file"):
        zoo.load("sface", path="/nowhere/sface.onnx")


def test_a_users_own_file_stands_in_for_the_package(tmp_path):
    own = shutil.copy(packages.locate(packages.DLIB_RESNET), tmp_path / "own.dat")
    leaves = [jax.tree.leaves(zoo.load("dlib", path=path).params) for path in (None, own)]
    assert all(jax.tree.map(lambda a, b: bool((a == b).all()), *leaves))


def test_loading_twice_compiles_once():
    first, second = zoo.load("dlib"), zoo.load("dlib")
    compiled = jax.jit(first.embed)
    assert first.embed is second.embed
    for recogniser in (first, second):
        compiled(recogniser.params, jnp.zeros((150, 150, 3)))
    assert compiled._cache_size() == 1


@pytest.mark.usefixtures("quick_compile")
def test_a_registered_model_works_by_name(network, crop):
    store.save(store.directory(), _own_card(), network)
    recogniser = zoo.load("mine")
    assert [card.name for card in zoo.available()][-1] == "mine"
    assert recogniser.size == (112, 96)
    embedding = jax.jit(recogniser.embed)(recogniser.params, crop)
    expected = _direction(network, (crop - 127.5) / 128)
    np.testing.assert_allclose(embedding, expected, atol=1e-4)
    with pytest.raises(ValueError, match="takes no other weight file"):
        zoo.load("mine", path=__file__)


@pytest.mark.usefixtures("quick_compile")
def test_channel_order_and_normalisation_are_the_cards(network, crop):
    card = _own_card(channels="BGR", mean=(1.0, 2.0, 3.0), scale=0.01)
    store.save(store.directory(), card, network)
    recogniser = zoo.load("mine")
    embedding = jax.jit(recogniser.embed)(recogniser.params, crop)
    expected = _direction(network, (crop[..., ::-1] - jnp.array([1.0, 2.0, 3.0])) * 0.01)
    np.testing.assert_allclose(embedding, expected, atol=1e-4)


def test_thresholds_of_a_registered_model(empty_directory):
    assert zoo.thresholds("mine") is None
    record = {"far_1e-2": 0.3, "far_1e-3": 0.4}
    (empty_directory / "mine").mkdir(parents=True)
    (empty_directory / "mine" / "calibration.json").write_text(json.dumps(record))
    assert zoo.thresholds("mine") == record


def test_a_model_is_loaded_once_while_it_is_used(monkeypatch):
    calls = []
    network = zoo.network

    def counted(*arguments, **options):
        calls.append(arguments)
        return network(*arguments, **options)

    monkeypatch.setattr(zoo, "network", counted)
    gc.collect()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(zoo.load, ["sface", "sface"])
    assert len(calls) == 1
    assert first.params is second.params
    assert first.embed is second.embed
    assert zoo.load("sface", jnp.bfloat16).params is not first.params
    assert len(calls) == 2
    held = weakref.ref(first.params)
    del first, second
    gc.collect()
    assert held() is None
    zoo.load("sface")
    assert len(calls) == 3


def test_a_file_that_changed_has_another_hash(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = packages.sha256(path)
    assert first == packages.sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two, and longer")
    assert packages.sha256(path) == hashlib.sha256(b"two, and longer").hexdigest()
