"""What is kept between runs comes back the same, and a bad entry is as good as none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax.photos import programs


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "kept"))
    yield tmp_path / "kept"
    jax.config.update("jax_compilation_cache_dir", before)


def compiled():
    def step(tree, key):
        return tree["a"] @ tree["b"][0] + jax.random.normal(key, (2, 3))

    tree = {"a": jnp.ones((2, 4)), "b": (jnp.arange(12.0).reshape(4, 3),)}
    arguments = (tree, jax.random.key(1))
    return jax.jit(step).lower(*arguments).compile(), arguments


@pytest.mark.parametrize("cached", [False, True])
def test_a_program_comes_back(folder, cached):
    if cached:  # JAX's own cache holds it already
        least = jax.config.jax_persistent_cache_min_compile_time_secs
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        compiled()
        jax.clear_caches()
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
        assert list(folder.glob("jit_step-*"))
    with programs.compiled_anew():
        program, arguments = compiled()
    assert programs.load("one") is None
    programs.save("one", program)
    assert programs.load("two") is None
    np.testing.assert_array_equal(programs.load("one")(*arguments), program(*arguments))
    assert [path.name for path in folder.iterdir() if "jit_" not in path.name] == ["program-one"]


def test_arrays_come_back(folder):
    tree = {"a": jnp.arange(5), "b": (jnp.eye(2, dtype=jnp.bfloat16), jnp.ones(3))}
    programs.save_arrays("one", tree)
    jax.tree.map(np.testing.assert_array_equal, programs.load_arrays("one"), tree)


@pytest.mark.parametrize("damage", [b"", b"no pickle", None])
def test_a_damaged_entry_is_none(folder, damage):
    program, _ = compiled()
    programs.save("one", program)
    programs.save_arrays("one", jnp.ones(3))
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert programs.load("one") is None
    assert programs.load_arrays("one") is None


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_folder", lambda: None)
    programs.save_arrays("one", jnp.ones(3))
    assert programs.load_arrays("one") is None
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(programs, "_folder", lambda: blocked)  # no folder can be made there
    programs.save_arrays("one", jnp.ones(3))
    assert programs.load_arrays("one") is None


def test_a_name_depends_on_all_that_decides(monkeypatch):
    assert programs.digest("a", 1) == programs.digest("a", 1)
    names = {programs.digest("a", 1), programs.digest("a", 2), programs.digest("a")}
    monkeypatch.setattr(programs, "_installation", lambda: ("another",))
    assert len({*names, programs.digest("a", 1)}) == 4
