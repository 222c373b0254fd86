"""Reads PyTorch checkpoints without PyTorch, through an unpickler that can only rebuild tensors.

Both formats of `torch.save`: the zip archive (1.6 and later) and the legacy stream of pickles
followed by raw storages. A pickle is a program, so the unpickler knows a fixed list of harmless
names and refuses a file that mentions any other; nothing of the file is ever called.
"""

import collections
import io
import math
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_WRAPPERS = ("state_dict", "model_state_dict", "net_state_dict", "backbone_state_dict", "model",
             "net", "backbone", "network", "module", "params", "weights")  # fmt: skip
_DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError,
    IndexError, TypeError, ValueError, AttributeError, OverflowError, NotImplementedError,
    RecursionError, MemoryError, AssertionError,
)  # fmt: skip


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array of the state dict in a `.pt`, `.pth` or `.ckpt` file.

    The state dict may be the whole file or lie under one of the usual names (`state_dict`,
    `net_state_dict`, `model`, ...); the `module.` prefix of DataParallel is removed. dtypes are the
    file's (bfloat16 as `ml_dtypes.bfloat16`).

    Raises:
      ValueError: the file is damaged, is no checkpoint, mentions anything but tensors (it is then
        refused before anything runs), or holds several state dicts.
    """
    path = Path(path)
    try:
        content = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except _Refused as error:
        raise ValueError(
            f"{path}: refused, because it asks to run {error} when opened; save only the weights, "
            "torch.save(model.state_dict(), path)"
        ) from None
    except _DAMAGE as error:
        raise ValueError(f"{path}: not a readable PyTorch checkpoint ({error})") from error
    try:
        return _strip_module(_find_state_dict(content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Refused(Exception):
    """The pickle names a global that is not on the list."""


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    offset: int  # elements, for the views of the legacy format


class _Tensor(NamedTuple):
    """A tensor whose storage is still to be read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def fill(self, storages: Mapping[str, bytes]) -> np.ndarray:
        dtype = self.storage.dtype
        flat = np.frombuffer(storages[self.storage.key], dtype)
        start = self.storage.offset + self.offset
        if len(self.size) != len(self.stride) or min((start, *self.size, *self.stride)) < 0:
            raise ValueError("a tensor has an impossible shape")
        if math.prod(self.size) == 0:
            return np.zeros(self.size, dtype)
        if math.prod(self.size) > flat.size:  # stride 0 could ask for any amount of memory
            raise ValueError("a tensor is larger than its storage")
        last = start + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if last >= flat.size:  # strides are trusted below, so they must stay inside the storage
            raise ValueError("a tensor reaches beyond its storage")
        steps = tuple(step * dtype.itemsize for step in self.stride)
        return np.lib.stride_tricks.as_strided(flat[start:], self.size, steps).copy()


class _Ignored:
    """Stands for harmless objects that are not weights (metrics, options)."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Ignored":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Admits the names that rebuild tensors and a few inert ones, and refuses all others."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")  # Python 2 wrote byte strings

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name
        found = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): self._rebuild_parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): self._rebuild_parameter,
            ("torch", "Size"): tuple,
            ("torch", "device"): _Ignored,
            ("argparse", "Namespace"): _Ignored,
            ("collections", "defaultdict"): _Ignored,
            ("collections", "Counter"): _Ignored,
            ("numpy", "dtype"): _Ignored,
            ("numpy.core.multiarray", "scalar"): _Ignored,
            ("numpy._core.multiarray", "scalar"): _Ignored,
            ("numpy", "ndarray"): _Ignored,
            ("numpy.core.multiarray", "_reconstruct"): _Ignored,
            ("numpy._core.multiarray", "_reconstruct"): _Ignored,
            ("_codecs", "encode"): _Ignored,
        }.get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def persistent_load(self, saved: Any) -> _Storage:
        kind, dtype, key, _location, _count, *view = saved
        if kind != "storage" or dtype not in _STORAGES:
            raise ValueError(f"an unsupported kind of storage, {kind!r}")
        offset = view[0][1] if view and view[0] else 0
        return _Storage(str(key), _STORAGES[dtype], int(offset))

    def _rebuild_tensor(
        self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor without a storage")
        return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))

    def _rebuild_parameter(self, data: _Tensor, *_: Any) -> _Tensor:
        return data


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = {name.partition("/")[2]: name for name in archive.namelist()}
        if "data.pkl" not in names:
            raise ValueError("the archive has no data.pkl")
        if "constants.pkl" in names:
            raise ValueError("it is a TorchScript program; save its state_dict instead")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise ValueError("it was written on a big-endian machine")
        content = _Unpickler(io.BytesIO(archive.read(names["data.pkl"]))).load()
        keys = {tensor.storage.key for tensor in _tensors(content)}
        storages = {key: archive.read(names[f"data/{key}"]) for key in keys}
    return _fill(content, storages)


def _read_legacy(path: Path) -> Any:
    with open(path, "rb") as file:
        if _Unpickler(file).load() != _LEGACY_MAGIC:
            raise ValueError("it has no PyTorch signature")
        _Unpickler(file).load()  # protocol version
        system = _Unpickler(file).load()
        if not system.get("little_endian", True):
            raise ValueError("it was written on a big-endian machine")
        content = _Unpickler(file).load()
        keys = _Unpickler(file).load()
        widths = {t.storage.key: t.storage.dtype.itemsize for t in _tensors(content)}
        storages = {}
        for key in map(str, keys):
            (count,) = struct.unpack("<q", file.read(8))
            if key not in widths:
                raise ValueError("a storage belongs to no tensor")
            storages[key] = file.read(count * widths[key])
            if len(storages[key]) != count * widths[key]:
                raise ValueError("it is cut short")
    return _fill(content, storages)


def _tensors(content: Any) -> list[_Tensor]:
    if isinstance(content, _Tensor):
        return [content]
    if isinstance(content, Mapping):
        content = list(content.values())
    elif not isinstance(content, list | tuple):
        return []
    return [tensor for item in content for tensor in _tensors(item)]


def _fill(content: Any, storages: Mapping[str, bytes]) -> Any:
    """`content` with arrays in the place of tensors, inside dictionaries."""
    if isinstance(content, _Tensor):
        return content.fill(storages)
    if isinstance(content, Mapping):
        return {key: _fill(value, storages) for key, value in content.items()}
    return None


def _find_state_dict(content: Any) -> dict[str, np.ndarray]:
    """The one dictionary of arrays in a checkpoint, looking under the usual names."""
    if not isinstance(content, dict):
        raise ValueError("it holds no state dict")
    arrays = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, np.ndarray)}
    nested = {k: v for k, v in content.items() if isinstance(v, dict) and _holds_weights(v)}
    wrapper = next((name for name in _WRAPPERS if name in nested), None)
    if wrapper is not None:
        return _find_state_dict(nested[wrapper])
    if arrays:
        return arrays
    if len(nested) == 1:
        return _find_state_dict(*nested.values())
    if nested:
        raise ValueError(
            f"it holds several state dicts ({', '.join(map(str, nested))}); save the wanted one"
        )
    raise ValueError("it holds no state dict")


def _holds_weights(content: dict[Any, Any]) -> bool:
    """Whether named arrays are in there (an optimiser's state is keyed by numbers)."""
    return (
        any(
            isinstance(key, str)
            and (
                isinstance(value, np.ndarray) or (isinstance(value, dict) and _holds_weights(value))
            )
            for key, value in content.items()
        )
        and "param_groups" not in content
    )


def _strip_module(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors
