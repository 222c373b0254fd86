"""Fixtures shared by all tests."""

import getpass
import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # after the variable that it reads

from tipim_jax.photos import programs


@pytest.fixture(scope="session")
def research_data() -> Path:
    """The optional research data (traces, LFW photos, a checkpoint); skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    path = Path(os.environ.get("TIPIM_RESEARCH_DATA", beside))
    if not (path / "traces").is_dir():
        pytest.skip(f"no research data at {path}; set TIPIM_RESEARCH_DATA to run this test")
    return path


@pytest.fixture(scope="session")
def cache() -> Path:
    """Compiled programs, shared by test processes and kept between test runs."""
    folder = Path(tempfile.gettempdir()) / f"tipim-tests-{getpass.getuser()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def kept_compilations(cache) -> dict[str, str]:
    """Keeps whatever takes long to compile; returns the environment of processes that are to find it."""
    folder = cache / programs.FOLDER
    programs.keep_in(folder)
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
    }


@pytest.fixture
def quick_compile():
    """Halves the time of compilation, for tests that compile more than they compute."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
