"""Reads PyTorch checkpoints without PyTorch, through an unpickler that can only rebuild tensors.

Both formats of `torch.save`: the zip archive (1.6 and later) and the legacy stream of pickles
followed by raw storages. A pickle is a program, so the unpickler knows a fixed list of harmless
names and refuses a file that mentions any other; nothing of the file is ever called.
"""

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from ports.readers import zip_file
from ports.readers.limits import Allowance, one_line, refused
from tipim_jax.errors import UserError

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
_AXES = 64  # NumPy's limit
_OPERATION = 256  # bytes that an operation of a pickle allocates at most, besides its argument
_OPERATIONS = 2_000_000  # more than any state dict has, and seconds to look at
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")  # into the memo, which grows to the place they name


def read(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    """Name -> array of the state dict in a `.pt`, `.pth` or `.ckpt` file.

    The state dict may be the whole file or lie under one of the usual names (`state_dict`,
    `net_state_dict`, `model`, ...); the `module.` prefix of DataParallel is removed. dtypes are the
    file's (bfloat16 as `ml_dtypes.bfloat16`).

    Raises:
      UserError: the file is damaged, is no checkpoint, mentions anything but tensors (it is then
        refused before anything runs), or holds several state dicts.
    """
    with refused(path, "not a readable PyTorch checkpoint"):
        try:
            reader = _read_zip if zipfile.is_zipfile(path) else _read_legacy
            return _strip_module(reader(path, allowance))
        except _Refused as error:
            raise UserError(
                f"{path}: refused, because it asks to run {one_line(str(error))} when opened; save only "
                "the weights, torch.save(model.state_dict(), path)"
            ) from None


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

    def fill(self, storages: Mapping[str, Any], allowance: Allowance) -> np.ndarray:
        dtype = self.storage.dtype
        flat = np.frombuffer(storages[self.storage.key], dtype)
        start = self.storage.offset + self.offset
        axes = len(self.size)
        if not axes == len(self.stride) <= _AXES or min((start, *self.size, *self.stride)) < 0:
            raise ValueError("a tensor has an impossible shape")
        if math.prod(self.size) == 0:
            return np.zeros(self.size, dtype)
        if math.prod(self.size) > flat.size:  # stride 0 could ask for any amount of memory
            raise ValueError("a tensor is larger than its storage")
        last = start + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if last >= flat.size:  # strides are trusted below, so they must stay inside the storage
            raise ValueError("a tensor reaches beyond its storage")
        allowance.take(math.prod(self.size) * dtype.itemsize)  # many tensors can share a storage
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

    def __init__(self, program: memoryview):
        super().__init__(io.BytesIO(program), encoding="utf-8")  # Python 2 wrote byte strings

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
            raise ValueError("an unsupported kind of storage")
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


def _load(file: io.BytesIO, allowance: Allowance) -> Any:
    """What the pickle at the position of `file` describes; the position moves behind it.

    The pickle is looked at before it is run: an unpickler allocates whatever an operation asks for, before
    it knows whether the file goes on for so long.

    Raises:
      ValueError: it is damaged, or asks for more than a state dict does.
    """
    start = file.tell()
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        allowance.take(_OPERATION)
        number = argument if isinstance(argument, int) else 0
        if count >= _OPERATIONS or (operation.name in _PUTS and number >= _OPERATIONS):
            raise ValueError("its pickle is larger than that of any state dict")
        # as keys, larger integers could all have one hash
        if abs(number) >= 2**63 and number != _LEGACY_MAGIC:
            raise ValueError("its pickle holds integers of more than 64 bits")
    return _Unpickler(file.getbuffer()[start : file.tell()]).load()


def _read_zip(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    with zip_file.opened(path, allowance) as archive:
        names = {name.partition("/")[2]: name for name in archive.names}
        if "data.pkl" not in names:
            raise ValueError("the archive has no data.pkl")
        if "constants.pkl" in names:
            raise ValueError("it is a TorchScript program; save its state_dict instead")
        if "byteorder" in names and archive.read(names["byteorder"]) != b"little":
            raise ValueError("it was written on a big-endian machine")
        content = _load(io.BytesIO(archive.read(names["data.pkl"])), allowance)
        tensors = _find_state_dict(content, {})
        keys = {tensor.storage.key for tensor in tensors.values()}
        storages = {key: archive.read(names[f"data/{key}"]) for key in keys}
    return {name: tensor.fill(storages, allowance) for name, tensor in tensors.items()}


def _read_legacy(path: Path, allowance: Allowance) -> dict[str, np.ndarray]:
    allowance.take(path.stat().st_size)
    file = io.BytesIO(path.read_bytes())
    if _load(file, allowance) != _LEGACY_MAGIC:
        raise ValueError("it has no PyTorch signature")
    _load(file, allowance)  # protocol version
    if not _load(file, allowance).get("little_endian", True):
        raise ValueError("it was written on a big-endian machine")
    content = _load(file, allowance)
    keys = _load(file, allowance)
    widths = {t.storage.key: t.storage.dtype.itemsize for t in _tensors(content)}
    storages = {}
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8))
        if key not in widths:
            raise ValueError("a storage belongs to no tensor")
        end = file.tell() + count * widths[key]
        if not file.tell() <= end <= len(file.getbuffer()):
            raise ValueError("it is cut short")
        storages[key] = file.getbuffer()[file.tell() : end]
        file.seek(end)
    tensors = _find_state_dict(content, {})
    return {name: tensor.fill(storages, allowance) for name, tensor in tensors.items()}


def _tensors(content: Any) -> list[_Tensor]:
    """Every tensor in there; containers may share their parts, and even hold themselves."""
    found, seen, waiting = [], set(), [content]
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, _Tensor):
            found.append(item)
        elif isinstance(item, Mapping):
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
    return found


def _find_state_dict(content: Any, known: dict[int, bool]) -> dict[str, _Tensor]:
    """The one dictionary of tensors in a checkpoint, looking under the usual names.

    Args:
      content: what the pickle describes.
      known: see `_holds_weights`.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no state dict")
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, _Tensor)}
    nested = {k: v for k, v in content.items() if isinstance(v, dict) and _holds_weights(v, known)}
    wrapper = next((name for name in _WRAPPERS if name in nested), None)
    if wrapper is not None:
        return _find_state_dict(nested[wrapper], known)
    if tensors:
        return tensors
    if len(nested) == 1:
        (only,) = nested.values()
        return _find_state_dict(only, known)
    if nested:
        raise ValueError(
            f"it holds several state dicts ({', '.join(map(str, nested))}); save the wanted one"
        )
    raise ValueError("it holds no state dict")


def _holds_weights(content: dict[Any, Any], known: dict[int, bool]) -> bool:
    """Whether named tensors are in there (an optimiser's state is keyed by numbers).

    Args:
      content: a dictionary of a checkpoint.
      known: the answers so far, by `id`; each dictionary is looked at once, whoever shares it.
    """
    if id(content) not in known:
        known[id(content)] = False  # while it is looked at: it may hold itself
        known[id(content)] = "param_groups" not in content and any(
            isinstance(key, str)
            and (
                isinstance(value, _Tensor)
                or (isinstance(value, dict) and _holds_weights(value, known))
            )
            for key, value in content.items()
        )
    return known[id(content)]


def _strip_module(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    while all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
    return tensors
