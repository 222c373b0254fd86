"""Compiled programs and converted weights, kept between runs: a second start neither traces nor compiles.

They lie in JAX's compilation cache folder (`jax_compilation_cache_dir`; `tipim` sets it), and without one
nothing is kept. A name is a digest of everything that decides the content: the sources of this library and
of the ports, versions, processor, and what the caller adds. An entry that cannot be read is made anew.
"""

import contextlib
import hashlib
import os
import pickle
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

import ports
import tipim_jax
from tipim_jax.types import PyTree


def digest(*parts: Any) -> str:
    """The name of an entry that depends on `parts` (by their `repr`) and on this installation."""
    return hashlib.sha256(repr((_installation(), parts)).encode()).hexdigest()[:32]


@cache
def _installation() -> tuple[str, ...]:
    sources = hashlib.sha256()
    for package in (tipim_jax, ports):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            sources.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    device = jax.devices()[0]
    return (
        sources.hexdigest(),
        *(jax.__version__, jaxlib.__version__, np.__version__),
        *(device.device_kind, device.client.platform_version, _processor()),
        *(os.environ.get("XLA_FLAGS", ""), str(jax.config.values["jax_enable_x64"])),
        str(jax.config.values["jax_default_matmul_precision"]),
    )


def _processor() -> str:
    """What the processor can do: a compiled program is made for it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


@contextlib.contextmanager
def compiled_anew() -> Iterator[None]:
    """Compiles without JAX's own cache, for `save`: a program that came out of that cache serialises
    without its code, and fails only when it is called."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def load(name: str) -> Any | None:
    """The compiled program kept under `name`, ready to be called, or None."""
    data = _read(f"program-{name}")
    try:
        return (
            None if data is None else serialize_executable.deserialize_and_load(*pickle.loads(data))
        )
    except (
        Exception
    ):  # whatever a damaged or foreign file raises: compiling it anew is always right
        return None


def save(name: str, program: Any) -> None:
    """Keeps a program from `compiled_anew`."""
    _write(f"program-{name}", pickle.dumps(serialize_executable.serialize(program)))


def load_arrays(name: str) -> PyTree | None:
    """The arrays kept under `name`, on the default device, or None."""
    data = _read(f"arrays-{name}")
    try:
        return None if data is None else jax.tree.map(jax.numpy.asarray, pickle.loads(data))
    except Exception:  # as above
        return None


def save_arrays(name: str, arrays: PyTree) -> None:
    """Keeps a tree of arrays."""
    _write(f"arrays-{name}", pickle.dumps(jax.tree.map(np.asarray, arrays), protocol=5))


def _folder() -> Path | None:
    folder = jax.config.values["jax_compilation_cache_dir"]
    return Path(folder) if folder else None


def _read(name: str) -> bytes | None:
    folder = _folder()
    try:
        return None if folder is None else (folder / name).read_bytes()
    except OSError:
        return None


def _write(name: str, data: bytes) -> None:
    folder = _folder()
    if folder is None:
        return
    part = folder / f".{name}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(folder / name)
    except OSError:  # a full or read-only disk costs time at the next start, nothing else
        with contextlib.suppress(OSError):
            part.unlink()
