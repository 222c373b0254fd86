"""Programs kept between runs: a second start neither traces nor compiles them.

Both halves lie in JAX's compilation cache folder; without one nothing is kept. What tracing gives is kept
here, as the StableHLO of `jax.export`: a flat buffer, of which nothing is unpickled. What compiling gives is
kept by JAX: machine code. So whoever can write to the folder can run code as its user, and `keep_in` takes
only a folder that is the user's alone.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from jax import export
from jax.sharding import SingleDeviceSharding

import ports
from ports import store
from tipim_jax.core.types import PyTree
from tipim_jax.errors import Notice, UserError

# Packages whose code decides what tracing and compiling give
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")
_CHOSEN: set[str] = set()  # folders that JAX was told of here
_DIGEST = hashlib.sha256().digest_size
FOLDER = "xla"  # in the user's cache
# Settings of JAX that change no program
_ELSEWHERE = {
    "jax_platforms",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
}
# What is written there: here, by JAX, and by XLA for GPUs
_ENTRIES = ("traced-*", ".traced-*.part", "*-cache", "*-atime", "xla_gpu_*")


def keep_in(folder: Path) -> None:
    """Keeps what is compiled from now on in `folder`, which is made if it is absent.

    Raises:
      UserError: the folder cannot be made or written, or is not the user's alone; nothing is kept then.
    """
    problem = _exposed(folder)
    if problem:
        raise UserError(f"{problem}; everything is compiled anew at each start")
    _CHOSEN.add(str(folder))
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def keep_in_cache() -> None:
    """Keeps what is compiled from now on in the user's cache; a `Notice` says why if that cannot be.

    A folder that somebody else told JAX of stays.
    """
    if jax.config.values["jax_compilation_cache_dir"] not in (None, *_CHOSEN):
        return
    try:
        keep_in(store.cache() / FOLDER)
    except UserError as error:
        warnings.warn(Notice(str(error)), stacklevel=2)


def clean(folder: Path) -> tuple[int, int]:
    """Removes the programs kept in `folder`, and returns the number of files and their bytes.

    Only entries with the names of kept programs go: `$TIPIM_CACHE` may name a folder that has others.

    Raises:
      OSError: a file cannot be removed.
    """
    files = size = 0
    for path in {path for pattern in _ENTRIES for path in folder.glob(pattern)}:
        folders = path.is_dir() and not path.is_symlink()
        for file in path.rglob("*") if folders else (path,):
            if file.is_symlink() or file.is_file():
                files, size = files + 1, size + file.lstat().st_size
        if folders:
            shutil.rmtree(path)
        else:
            path.unlink()
    return files, size


def lower(
    function: jax.stages.Wrapped,
    arguments: tuple[Any, ...],
    shardings: tuple[Any, ...],
    *parts: Any,
) -> jax.stages.Lowered:
    """`function.lower(*arguments)`, without tracing if the same was asked for in an earlier run.

    Args:
      function: jitted; its results are arrays in tuples, lists and dictionaries.
      arguments: trees of arrays or of `jax.ShapeDtypeStruct`.
      shardings: of the arguments, one for each or a tree of the same structure.
      parts: whatever else decides what `function` does, by its `repr`: its sources, the versions of the
        packages they need, the configuration of JAX and the processor are known already.

    Returns:
      Takes the same arguments and gives the same results as the function.
    """
    arguments = tuple(map(_placed, shardings, arguments))
    leaves, tree = jax.tree.flatten(arguments)
    name = hashlib.sha256(repr((_installation(), parts, leaves)).encode()).hexdigest()[:32]

    def flat(*leaves: jax.Array) -> PyTree:
        return function(*jax.tree.unflatten(tree, leaves))

    traced = _read(name)
    if traced is None:
        traced = export.export(jax.jit(flat))(*leaves)
        _write(name, traced.serialize())

    def kept(*arguments: PyTree) -> PyTree:
        return traced.call(*jax.tree.leaves(arguments))

    # JAX knows its entry by the name of the function, among other things, so ours decides that too.
    kept.__name__ = f"kept_{name}"
    return jax.jit(kept).lower(*arguments)


def compiled(
    function: jax.stages.Wrapped, arguments: tuple[Any, ...], device: jax.Device, *parts: Any
) -> jax.stages.Compiled | None:
    """`function` compiled for one device, or taken from an earlier run; None where none is kept.

    Args:
      function, arguments, parts: as for `lower`.
      device: where all arguments lie.
    """
    if folder() is None or device.platform != jax.default_backend():
        return None
    here = SingleDeviceSharding(device)
    return lower(function, arguments, (here,) * len(arguments), *parts).compile()


def _placed(sharding: PyTree, argument: PyTree) -> PyTree:
    """The shapes of an argument, and where each lies."""

    def placed(sharding: jax.sharding.Sharding, leaf: Any) -> PyTree:
        return jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), leaf
        )

    return jax.tree.map(placed, sharding, argument)


def _installation() -> tuple[Any, ...]:
    """What every program depends on, besides its arguments."""
    device = jax.devices()[0]
    # as they are in this thread; where programs are kept, and how the device was chosen, is no matter
    names = sorted(jax.config.values.keys() - _ELSEWHERE)
    flags = [(name, getattr(jax.config, name, jax.config.values[name])) for name in names]
    return (
        _sources(),
        [metadata.version(name) for name in _PACKAGES],
        device.device_kind,
        device.client.platform_version,
        _processor(),
        os.environ.get("XLA_FLAGS"),
        os.environ.get("LIBTPU_INIT_ARGS"),
        flags,
    )


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for root in (Path(__file__).parents[1], Path(str(ports.__file__)).parent):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@cache
def _processor() -> str:
    """What the processor can do: a compiled program is made for it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    return next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")


def _exposed(folder: Path) -> str:
    """Why programs must not be kept in `folder`, which is made if it is absent; "" if they can."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder = folder.resolve()
        about, parents = folder.stat(), [(path, path.stat().st_mode) for path in folder.parents]
    except OSError as error:
        return f"{folder} cannot be used ({error.strerror or error})"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return f"{folder} cannot be written"
    if not hasattr(os, "getuid"):
        return ""  # without POSIX permissions the profiles of users are apart
    if about.st_uid != os.getuid():
        return f"{folder} belongs to another user"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to {folder} (`chmod go-w` takes that right from them)"
    for parent, mode in parents:  # or another folder could be put in its place
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"others can write to {parent} (`chmod o-w` takes that right from them)"
    return ""


def folder() -> Path | None:
    """JAX's folder, if there is one and programs can be kept there."""
    name = jax.config.values["jax_compilation_cache_dir"]
    return Path(name) if name and "://" not in name and not _exposed(Path(name)) else None


def _read(name: str) -> export.Exported | None:
    """The traced program kept under `name`; damaged entries are as good as none."""
    here = folder()
    try:
        data = b"" if here is None else (here / f"traced-{name}").read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    try:
        return export.deserialize(bytearray(data[_DIGEST:]))
    except Exception:  # whatever JAX raises for what is no program: tracing anew is always right
        return None


def _write(name: str, data: bytes | bytearray) -> None:
    here = folder()
    if here is None:
        return
    part = here / f".traced-{name}.{os.getpid()}.part"
    try:
        part.write_bytes(hashlib.sha256(data).digest() + data)
        part.replace(here / f"traced-{name}")
    except OSError:  # a full or read-only disk costs time at the next start, nothing else
        with contextlib.suppress(OSError):
            part.unlink()
