"""A user's checkpoint becomes a model that is known by name."""

import json

import jax
import numpy as np
import pytest

from ports import random_weights, register, zoo
from ports.packages import sha256

NETWORK = "mobilefacenet_112x96_128"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "weights.npz"
    random_weights.checkpoint(path, NETWORK)
    return path


@pytest.fixture
def checkpoint(weights, tmp_path, monkeypatch):
    """Weights of a network, and no model that is registered yet."""
    monkeypatch.setenv("TIPIM_MODELS", str(tmp_path / "models"))
    return weights


@pytest.mark.usefixtures("quick_compile")
def test_registered_model_is_known_by_name(checkpoint):
    done = register.register(checkpoint, "mine", licence="my own")
    assert done.card.architecture == NETWORK
    assert "283 tensors" in done.reason
    recogniser = zoo.load("mine")
    embedding = jax.jit(recogniser.embed)(
        recogniser.params, np.full((*recogniser.size, 3), 99.0, np.float32)
    )
    np.testing.assert_allclose(np.linalg.norm(embedding), 1, atol=1e-4)
    record = json.loads((done.folder / "card.json").read_text())
    assert record["licence"] == "my own"
    assert record["origin"]["sha256"] == sha256(checkpoint)


@pytest.mark.parametrize(
    ("name", "arch", "message"),
    [
        ("sface", "auto", "cannot be called 'sface'"),
        ("../mine", "auto", "cannot be called"),
        ("mine", "iresnet50", "mismatches"),
        ("mine", "no_such_net", "there is no network 'no_such_net'"),
    ],
)
def test_refused(checkpoint, tmp_path, name, arch, message):
    with pytest.raises(ValueError, match=message):
        register.register(checkpoint, name, arch=arch)
    assert not (tmp_path / "models").exists()


def test_name_taken(checkpoint, tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="exists already"):
        register.register(checkpoint, "mine")


def test_real_checkpoint_is_recognised(research_data, tmp_path):
    done = register.register(
        research_data / "weights" / "mobilefacenet_casia_112x96.ckpt", "casia", root=tmp_path
    )
    assert done.card.architecture == "mobilefacenet_112x96_128"
