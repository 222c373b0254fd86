"""A program that is kept is neither traced nor compiled again, and nothing in the folder can run Python."""

import hashlib
import os
import pickle
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from ports import detection
from ports.networks import yunet
from tests.photos import album as albums
from tipim_jax.core.geometry import ARCFACE_112
from tipim_jax.core.types import Recogniser
from tipim_jax.errors import UserError
from tipim_jax.photos import faces, programs, verify


@pytest.fixture
def folder(tmp_path):
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.reset_cache()
    programs.keep_in(tmp_path / "kept")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    yield tmp_path / "kept"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


TREE = {"a": jnp.ones((2, 4)), "b": (jnp.arange(12.0).reshape(4, 3),)}
KEY = jax.random.key(1)
SHAPES = ({"a": shape(2, 4), "b": (shape(4, 3),)}, shape(dtype=KEY.dtype))


class Counted:
    """A step of an attack in small, and how often it was traced."""

    def __init__(self):
        self.traced = 0

    def __call__(self, tree, key):
        self.traced += 1
        return tree["a"] @ tree["b"][0] + jax.random.normal(key, (2, 3)), {"key": key}


def lower(*parts, shapes=SHAPES):
    """(the lowered step, how often this call traced it), as in a process of its own."""
    counted = Counted()
    here = SingleDeviceSharding(jax.devices()[0])
    return programs.lower(jax.jit(counted), shapes, (here, here), *parts), counted.traced


def step(*parts):
    """(result of the step, how often this call traced it)."""
    lowered, traced = lower(*parts)
    result, _ = lowered.compile()(TREE, KEY)
    return np.asarray(result), traced


@pytest.fixture
def compilations():
    """How often JAX compiled, `[compiled, taken from its cache]`."""
    counts = [0, 0]

    def count(event, **_):
        for i, what in enumerate(("misses", "hits")):
            counts[i] += event == f"/jax/compilation_cache/cache_{what}"

    jax.monitoring.register_event_listener(count)
    yield counts
    jax.monitoring.unregister_event_listener(count)


def test_a_second_start_neither_traces_nor_compiles(folder, compilations):
    first, traced = step("one")
    compiled = compilations[0]
    assert (traced, compiled > 0) == (1, True)
    second, traced = step("one")
    assert (traced, compilations[0] - compiled) == (0, 0)
    assert compilations[1] > 0
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, jax.jit(Counted())(TREE, KEY)[0])


def names(folder):
    return {path.name for path in folder.glob("traced-*")}


@pytest.mark.parametrize("setting", ["jax_platforms", "jax_persistent_cache_min_compile_time_secs"])
def test_settings_that_change_no_program_find_the_same_entry(folder, setting):
    lower("one")
    before = jax.config.values[setting]
    jax.config.update(setting, {"jax_platforms": ""}.get(setting, 7.0))
    try:
        assert lower("one")[1] == 0
    finally:
        jax.config.update(setting, before)


def test_another_program_is_another_entry(folder, monkeypatch):
    lower("one")
    kept = {*names(folder)}

    def another(*parts, **options):
        assert lower(*parts, **options)[1] == 1
        assert len(names(folder) - kept) == 1
        kept.update(names(folder))

    another("two")
    another("one", 1)
    another("one", shapes=({"a": shape(2, 5), "b": (shape(5, 3),)}, SHAPES[1]))
    with jax.default_matmul_precision("highest"):
        another("one")
    versions = programs.metadata.version
    for package in ("jax", "jaxlib", "flax", "optax", "numpy"):
        monkeypatch.setattr(
            programs.metadata, "version", lambda p, n=package: versions(p) + "+" * (p == n)
        )
        another("one")
    monkeypatch.undo()
    for attribute in ("_sources", "_processor"):
        monkeypatch.setattr(programs, attribute, lambda: "another")
        another("one")
        monkeypatch.undo()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_max_isa=AVX2")
    another("one")


@pytest.mark.parametrize("damage", [b"", b"no program", "cut", "bit"])
def test_a_damaged_entry_is_as_good_as_none(folder, damage):
    whole, _ = step("one")
    (entry,) = folder.glob("traced-*")
    data = bytearray(entry.read_bytes())
    data[len(data) // 2] ^= 1
    entry.write_bytes({"cut": data[:-20], "bit": data}.get(damage, damage))
    again, traced = step("one")
    assert traced == 1
    np.testing.assert_array_equal(whole, again)
    assert step("one")[1] == 0


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


HOSTILE = {
    "pickle": lambda data: data,
    "pickle with a checksum": lambda data: hashlib.sha256(data).digest() + data,
    "compressed pickle": lambda data: zlib.compress(bytes(4) + data),
}


@pytest.mark.filterwarnings("ignore:Error reading persistent compilation cache entry")
@pytest.mark.parametrize("form", HOSTILE)
def test_hostile_files_run_nothing(folder, tmp_path, form):
    whole, _ = step("one")
    entries = [path for path in folder.iterdir() if path.is_file()]
    assert {path.name.split("_")[0].split("-")[0] for path in entries} == {"traced", "jit"}
    marker = tmp_path / "executed"
    payload = HOSTILE[form](pickle.dumps(Payload(marker)))
    for path in entries:
        path.write_bytes(payload)
    again, traced = step("one")
    assert not marker.exists()
    assert traced == 1
    np.testing.assert_array_equal(whole, again)
    pickle.loads(pickle.dumps(Payload(marker)))  # the payload would have told
    assert marker.exists()


# Whose folder it is


def test_a_folder_is_made_for_the_user_alone(tmp_path, folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert programs.folder() == folder


def exposed(folder):
    """Why `keep_in` refuses, after checking that nothing in the folder would be loaded."""
    before = jax.config.jax_compilation_cache_dir
    with pytest.raises(UserError, match=r"everything is compiled anew at each start$") as error:
        programs.keep_in(folder)
    assert jax.config.jax_compilation_cache_dir == before
    return str(error.value)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(folder, mode):
    step("one")
    folder.chmod(mode)
    assert programs.folder() is None
    assert step("one")[1] == 1  # traced anew
    assert f"others can write to {folder} " in exposed(folder)


def test_a_folder_that_others_can_put_another_in_place_of_is_refused(folder):
    folder.parent.chmod(0o777)
    assert f"others can write to {folder.parent} " in exposed(folder)
    folder.parent.chmod(0o1777)  # as /tmp: only the owner renames
    programs.keep_in(folder)


def test_the_folder_of_another_user_is_refused(folder, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert "belongs to another user" in exposed(folder)
    link = folder.with_name("link")
    link.symlink_to(folder)
    assert "belongs to another user" in exposed(link)


def test_what_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "file cannot be used (File exists)" in exposed(tmp_path / "file")
    assert "kept cannot be used (File exists)" in exposed(tmp_path / "file" / "kept")


def test_nothing_is_kept_without_a_local_folder(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    for place in (None, "", "gs://bucket/programs"):
        jax.config.update("jax_compilation_cache_dir", place)
        assert programs.folder() is None
    jax.config.update("jax_compilation_cache_dir", None)
    assert step("one")[1] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_the_detector_is_kept_and_finds_the_same(folder):
    pixels = np.asarray(albums.face())
    params = yunet.load()
    faces._program.cache_clear()
    kept = faces.find(params, pixels)
    assert names(folder)  # of its looks
    plain = detection.find_faces(params, pixels)
    faces._program.cache_clear()
    assert len(kept) == len(plain.scores) == 1
    np.testing.assert_array_equal(kept[0].landmarks, plain.landmarks[0])


def test_a_judge_is_traced_once_for_all_processes(folder):
    params = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    canvases = np.random.default_rng(1).uniform(0, 255, (2, 160, 160, 3))
    traced = []

    def embedded(kept):
        def embed(params, crop):
            traced.append(kept)
            return params @ crop.mean((0, 1))

        judge = verify.from_recogniser(
            Recogniser("toy", embed, params, (112, 112), ARCFACE_112), kept=kept
        )
        return verify.embed_canvases(judge, canvases)

    first = embedded("toy")
    assert traced
    traced.clear()
    np.testing.assert_array_equal(embedded("toy"), first)
    assert not traced
    embedded("another toy")
    assert set(traced) == {"another toy"}
