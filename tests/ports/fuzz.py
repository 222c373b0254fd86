"""Damaged and hostile weight files, seeded; and a process of bounded memory that reads them all.

`python -m tests.ports.fuzz FIRST COUNT` reads the files numbered FIRST … FIRST + COUNT − 1 and, if FIRST is 0,
the hostile ones, and prints how each ended as JSON. What ends the process: a crash, a hang, an exception that
is no `UserError`, and any code that runs.
"""

import faulthandler
import io
import json
import os
import pickle
import resource
import sys
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import safetensors.numpy
import tflite
from onnx import TensorProto, helper, numpy_helper

from ports.readers import limits, read
from tests.ports import weight_files
from tipim_jax.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
SLOWEST = 10  # seconds a file may take
SPARE = 64 * 2**20  # bytes of address space beyond the limit, for arenas and the interpreter

# What reading a file must never do. Unpickling looks names up as "pickle.find_class".
FORBIDDEN = (
    *("pickle.find_class", "exec", "os.system", "os.exec", "os.fork", "os.posix_spawn"),
    *("subprocess.Popen", "socket.connect", "shutil.rmtree", "os.remove", "os.rename", "os.mkdir"),
)
READING = threading.Event()  # set while a file is read


class File(NamedTuple):
    """A weight file: its name decides the reader where its content does not; `beside` are its shards."""

    name: str
    data: bytes
    beside: dict[str, bytes] = {}  # noqa: RUF012 (never changed)


class Seed(NamedTuple):
    """A sound file: what is to be damaged, and what makes a file of it, checksums and all."""

    data: bytes
    made: Callable[[bytes], File]


@cache
def seeds() -> tuple[Seed, ...]:
    """A small sound file of every format; archives twice, to be damaged from outside and from inside."""
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(4, 6)).astype("f4"), "b": np.arange(5), "c": np.float16(1)}
    found = [
        Seed((GOLDEN / name).read_bytes(), lambda data, name=name: File(name, data))
        for name in ("torch_zip.pt", "torch_legacy.pt", "torch_data_parallel_legacy.ckpt")
    ]
    members = dict(_members((GOLDEN / "torch_zip.pt").read_bytes()))
    pickled = next(name for name in members if name.endswith("data.pkl"))
    found.append(
        Seed(members[pickled], lambda data: File("w.pt", zipped({**members, pickled: data})))
    )
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    found.append(Seed(packed.getvalue(), lambda data: File("w.npz", data)))
    plain = io.BytesIO()
    np.save(plain, arrays["a"])
    found.append(
        Seed(plain.getvalue(), lambda data: File("w.npz", zipped({"a.npy": data}, deflated=True)))
    )
    tensors = safetensors.numpy.save({name: np.asarray(a) for name, a in arrays.items()})
    found.append(Seed(tensors, lambda data: File("w.safetensors", data)))
    size = int.from_bytes(tensors[:8], "little")
    rest = tensors[8 + size :]
    found.append(Seed(tensors[8 : 8 + size], lambda data: _safetensors(data, rest)))
    with tempfile.TemporaryDirectory() as folder:
        path, _ = weight_files.quantised_convolution(Path(folder), rng)
        found.append(Seed(path.read_bytes(), lambda data: File("w.onnx", data)))
    found.append(Seed(_tflite(), lambda data: File("w.tflite", data)))
    manifest, shard = _tfjs(rng)
    found.append(Seed(manifest, lambda data: File("model.json", data, {"1.bin": shard})))
    found.append(Seed(shard, lambda data: File("model.json", manifest, {"1.bin": data})))
    dlib = (
        b"\x01\x0dloss_metric_2"
        + weight_files.dlib_layer("con_4", rng.normal(size=4 * 3 * 3 * 2 + 4), after=(4, 3, 2))
        + weight_files.dlib_layer("affine_", rng.normal(size=8))
        + weight_files.dlib_layer("fc_2", rng.normal(size=60), before=(12, 5))
    )
    found.append(Seed(dlib, lambda data: File("w.dat", data)))
    return tuple(found)


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            yield name, archive.read(name)


def zipped(members: dict[str, bytes], *, deflated: bool = False) -> bytes:
    """An archive whose checksums are right whatever its members are."""
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _safetensors(header: bytes, rest: bytes = b"") -> File:
    return File("w.safetensors", len(header).to_bytes(8, "little") + header + rest)


def _tflite() -> bytes:
    kinds = tflite.TensorType
    scales, zeros = np.array([0.5, 0.25], np.float32), np.array([1, -2], np.int64)
    weight = np.arange(6, dtype=np.int8).reshape(2, 1, 1, 3)
    return weight_files.tflite_model(
        [
            ("x", (1, 4, 4, 3), kinds.FLOAT32, None, None, None, 0),
            ("w", (2, 1, 1, 3), kinds.INT8, weight, scales, zeros, 0),
            ("b", (2,), kinds.FLOAT16, np.ones(2, np.float16), None, None, 0),
            ("y", (1, 2, 4, 2), kinds.FLOAT32, None, None, None, 0),
        ],
        ([0, 1, 2], [3]),
    )


def _tfjs(rng: np.random.Generator) -> tuple[bytes, bytes]:
    quantised = {"dtype": "uint8", "scale": 0.5, "min": -3.0}
    weights = [
        {"name": "a/kernel", "shape": [2, 3], "dtype": "float32"},
        {"name": "q", "shape": [5], "dtype": "float32", "quantization": quantised},
        {"name": "axes", "shape": [], "dtype": "int32"},
    ]
    manifest = {"weightsManifest": [{"paths": ["1.bin"], "weights": weights}]}
    return json.dumps(manifest).encode(), rng.bytes(2 * 3 * 4 + 5 + 4)


# Numbers and other things where a text has numbers, and bytes where a binary file has them
_TOKENS = (b"0", b"-1", b"1e9", b"2147483648", b"9" * 30, b"null", b'"x"', b"[]", b"{}", b"1.5")
_NUMBERS = (b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\1\0", b"\xff" * 8)


def mutated(number: int) -> File:
    """The `number`-th damaged file: bytes flipped, cut, doubled, or of another file."""
    rng = np.random.default_rng(number)
    seed = seeds()[number % len(seeds())]
    data = bytearray(seed.data)
    way = rng.integers(6)
    if way == 0:
        data = data[: rng.integers(len(data))]
    elif way == 1:  # any bytes
        for place in rng.integers(0, len(data), rng.integers(1, 30)):
            data[place] = rng.integers(256)
    elif way == 2:  # few bits
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] ^= 1 << int(rng.integers(8))
    elif way == 3:  # numbers that are larger or smaller than anybody expects
        places = [i for i, byte in enumerate(data) if byte in b"0123456789"]
        if seed.data[:1] in b"{(" and places:
            place = rng.choice(places)
            data[place : place + 1] = rng.choice(np.array(_TOKENS, dtype=object))
        else:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                value = _NUMBERS[rng.integers(len(_NUMBERS))]
                data[place : place + len(value)] = value
    elif way == 4:  # a part twice, or missing
        first, last = sorted(rng.integers(0, len(data), 2))
        data[first:last] = data[first:last] * int(rng.integers(3))
    else:  # the tail of another file
        other = seeds()[rng.integers(len(seeds()))].data
        data[rng.integers(len(data)) :] = other[rng.integers(len(other)) :]
    return seed.made(bytes(data))


def hostile() -> Iterator[File]:
    """Files that are made to hurt: code to run, sizes that are not there, lists that hold themselves."""
    for program in _pickles():
        yield File("w.pt", zipped({"a/data.pkl": program, "a/data/0": bytes(64)}))
        yield File("w.pkl", program)
        head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little": 1})]
        for place in range(5):
            stream = [*head, pickle.dumps({}), pickle.dumps([])]
            stream[place] = program
            yield File("w.pth", b"".join(stream))
        for name in ("w.npz", "w.safetensors", "w.onnx", "w.tflite", "w.dat", "model.json"):
            yield File(name, program)
        yield File("w.npz", zipped({"a.npy": program}))
        yield File(
            "w.npz",
            zipped(
                {"a.npy": _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + program}
            ),
        )
        header = {"__metadata__": {"a": program.decode("latin-1")}}
        yield _safetensors(json.dumps(header).encode())
        yield File("w.onnx", _onnx([helper.make_node("X", ["a"], ["b"], p=program)]))
    yield from _torch_sizes()
    yield from _archives()
    yield from _plain_arrays()
    yield from _onnx_sizes()
    yield from _tflite_sizes()
    yield from _tfjs_sizes()
    for size in (bytes(0), b"\x0f" + b"\xff" * 15, b"\x8f" + b"\xff" * 15, b"\x04\xff\xff\xff\x7f"):
        for tag in (b"con_4", b"affine_", b"fc_2"):
            layer = bytes([1, len(tag)]) + tag + b"\x01\x02" + size * 4
            yield File("w.dat", b"\x01\x0dloss_metric_2" + layer * 3 + bytes(100))
    yield File("w.dat", b"\x01\x0dloss_metric_2" + b"\x01\x05con_4" * 100_000)


def _pickles() -> Iterator[bytes]:
    """Programs that call something, in every way that a pickle has."""
    marker = Path("executed")
    for payload in (weight_files.Command(marker), weight_files.Evaluation(marker)):
        for protocol in range(6):
            yield pickle.dumps({"state_dict": payload}, protocol)
    yield from (
        b"(S'touch executed'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch executed'\no.",
        b"cos\nsystem\n(S'touch executed'\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
        b"cos\nsystem\n)\x81.",
        b"c__builtin__\ngetattr\n(cos\nS'system'\ntR.",
        b"\x80\x04\x8c\x0ctorch._utils\x8c\x1e_rebuild_tensor_v2.__globals__\x93.",
        b"ccollections\nOrderedDict\n)R}S'__setstate__'\ncos\nsystem\nsbS'touch executed'\nb.",
        b"ctorch._utils\n_rebuild_parameter\n}S'__code__'\nI1\nsb.",
        b"\x82\x01.",
    )


def _torch_sizes() -> Iterator[File]:
    def archive(program: bytes, storage: bytes = bytes(64)) -> File:
        return File("w.pt", zipped({"a/data.pkl": program, "a/data/0": storage}))

    yield archive(b"\x80\x04}r\xff\xff\xff\xff.")  # a place in the memo
    yield archive(b"p4000000000\n.")
    for size in (2**31 - 1, 2**40, 2**62):
        for operation in (b"\x8d", b"\x8e", b"\x96"):  # text, bytes, bytearray
            yield archive(b"\x80\x05" + operation + size.to_bytes(8, "little") + b"x.")
            yield File("w.pth", b"\x80\x05" + operation + size.to_bytes(8, "little") + b"x.")
    yield archive(b"\x80\x04B\xff\xff\xff\x7fx.")
    yield archive(b"\x80\x02\x8b\xff\xff\xff\x7fx.")
    for empty, add in ((b"]", b"a"), (b"}", b"s")):
        key = b"Vmodel\n" if add == b"s" else b""
        yield archive(empty + b"q\0" + key + b"h\0" + add + b".")  # holds itself
        levels = [empty + b"q\0"]
        for level in range(1, 60):  # each level holds the one before twice
            keys = (b"Va\n", b"Vb\n") if key else (b"", b"")
            before = b"h" + bytes([level - 1])
            levels.append(empty + b"q" + bytes([level]) + b"".join(k + before + add for k in keys))
        yield archive(b"0".join(levels) + b".")
        yield archive((empty + key) * 100_000 + b"N" + add * 100_000 + b".")  # deep
    tensor = weight_files.tensor_program(0, (1 << 18,), (1,))[:-1]
    body = tensor[tensor.index(b"ctorch._utils") : -1]
    shared = b"}" + b"".join(b"Vw%d\n" % i + body + b"s" for i in range(2_000)) + b"."
    yield archive(shared, bytes(1 << 20))  # many tensors over one storage
    for size in ((10**12,), (2**62, 2**62), (0, 2**62), (1,) * 70, (10**30,), (-1, -4)):
        yield archive(weight_files.tensor_program(0, size, (0,) * len(size)))
    yield archive(weight_files.tensor_program(0, (10**4000,) * 3000, (1,) * 3000))
    colliding = b"".join(
        b"\x8a\x0b" + (i * (2**61 - 1)).to_bytes(11, "little") + b"I0\ns" for i in range(1, 50_000)
    )
    yield archive(b"}" + colliding + b".")
    yield archive(b"N" * 3_000_000 + b".")
    yield archive(b"\x8f" * 3_000_000 + b".")


def _archives() -> Iterator[File]:
    yield File("w.pt", zipped({"a/data.pkl": b"N" * (200 << 20)}, deflated=True))
    tensor = weight_files.tensor_program(0, (1,), (1,))
    yield File("w.pt", zipped({"a/data.pkl": tensor, "a/data/0": bytes(200 << 20)}, deflated=True))
    large = _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (16777216,)}") + bytes(1 << 24)
    yield File("w.npz", zipped({f"{i}.npy": large for i in range(16)}, deflated=True))
    for kind in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            archive.writestr("a.npy", large[:4096])
        yield File("w.npz", buffer.getvalue())
    small = bytearray(zipped({"a.npy": large[:80]}))
    for place in range(len(small) - 100, len(small) - 4):  # every field of the directory
        for value in _NUMBERS[:3]:
            changed = bytearray(small)
            changed[place : place + 4] = value
            if place % 4 == 0:
                yield File("w.npz", bytes(changed))
    for flag in (1, 8, 64, 2048):  # encrypted, sizes behind the data, strong encryption, UTF-8
        changed = bytearray(small)
        directory = changed.index(b"PK\x01\x02")
        changed[6:8] = changed[directory + 8 : directory + 10] = flag.to_bytes(2, "little")
        yield File("w.npz", bytes(changed))


def _npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header.encode("latin-1")


def _plain_arrays() -> Iterator[File]:
    for shape in ("(1000000000000,)", "(-1,)", "(-4, -4)", "(2**62,)", "(4294967296, 4294967296)"):
        for kind in ("<f4", "|V0", "|V2000000000", "<U500000000", "|O", "<M8[ns]"):
            header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}"
            yield File("w.npz", zipped({"a.npy": _npy(header) + bytes(64)}))
    for header in (
        "(" * 9000,
        "[" * 200 + "]" * 200,
        "{'descr': __import__('os')}",
        "-" * 9000 + "1",
    ):
        yield File("w.npz", zipped({"a.npy": _npy(header)}))
    for size in (2**63, 2**64 - 1, 2**40, 100_000_001, 0, 1):
        yield File("w.safetensors", size.to_bytes(8, "little") + b"{" + bytes(64))
    for shape, end in (([2**40], 8), ([2**62, 4], 0), ([2], 2**40), ([-1], 4), ([0] * 1000, 0)):
        entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, end]}
        yield _safetensors(json.dumps({"a": entry}).encode(), bytes(8))
    one = {"dtype": "F32", "shape": [2**18], "data_offsets": [0, 2**20]}
    yield _safetensors(json.dumps({str(i): one for i in range(2_000)}).encode(), bytes(2**20))
    yield _safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000)


def _onnx(nodes: list[onnx.NodeProto], *constants: onnx.TensorProto) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [], list(constants))
    return helper.make_model(graph).SerializeToString()


def _onnx_sizes() -> Iterator[File]:
    used = helper.make_node("Conv", ["x", "w"], ["y"])
    small = numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    for dims in ((10**12,), (2**62, 2**62), (-1,), (0,), (1,) * 100):
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(64))
        yield File("w.onnx", _onnx([used], tensor))
        tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=dims, raw_data=bytes(8))
        yield File("w.onnx", _onnx([used], tensor))
    outside = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=(4,), data_location=1)
    for location in ("/etc/passwd", "../w.onnx", "/dev/zero"):
        del outside.external_data[:]
        outside.external_data.add(key="location", value=location)
        yield File("w.onnx", _onnx([used], outside))
        yield File("w.onnx", _onnx([helper.make_node("Constant", [], ["w"], value=outside), used]))
    text = TensorProto(name="w", data_type=TensorProto.STRING, dims=(2,), string_data=[b"a", b"b"])
    yield File("w.onnx", _onnx([used], text))
    for block, axis in ((2**62, 1), (-1, 1), (1, 99), (1, -9), (3, 0)):
        node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], block_size=block, axis=axis)
        q = numpy_helper.from_array(np.ones((4, 6), np.int8), "q")
        s = numpy_helper.from_array(np.ones((4, 2), np.float32), "s")
        yield File("w.onnx", _onnx([node, used], q, s))
    for options in ({}, {"block_size": 1}, {"axis": 0}):  # a table of both
        node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], **options)
        q = numpy_helper.from_array(np.ones((1, 60_000), np.int8), "q")
        s = numpy_helper.from_array(np.ones((60_000, 1), np.float32), "s")
        yield File("w.onnx", _onnx([node, used], q, s))
    large = numpy_helper.from_array(np.ones(1 << 20, np.uint8), "0")
    for kind in (TensorProto.DOUBLE, TensorProto.STRING, 0, 77):
        casts = [
            helper.make_node(
                "Cast", [str(i)], [str(i + 1)], to=kind if i % 2 else TensorProto.FLOAT
            )
            for i in range(400)
        ]
        yield File("w.onnx", _onnx([*casts, used], large))
    for kind in ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Constant", "Cast"):
        for inputs in ((), ("w",), ("w", "w"), ("", "w"), ("w", "")):
            for attributes in (
                {},
                {"axes": [2**62]},
                {"perm": [5, 5]},
                {"to": 1},
                {"axes": [0] * 99},
            ):
                yield File(
                    "w.onnx", _onnx([helper.make_node(kind, inputs, ["v"], **attributes)], small)
                )
    nested = b""
    for number in ((6, 5, 1) * 10_000)[1:] + (7,):  # a graph in an attribute of a node of a graph …
        size = len(nested)
        varint = [size >> shift & 127 | 128 for shift in range(0, 28, 7)] + [size >> 28]
        nested = bytes([number << 3 | 2, *varint]) + nested
    yield File("w.onnx", nested)


def _tflite_sizes() -> Iterator[File]:
    sound = bytearray(_tflite())
    for place in range(4, len(sound) - 4, 4):  # every offset, length and number of it
        for value in _NUMBERS[:4]:
            changed = bytearray(sound)
            changed[place : place + 4] = value
            if place % 12 == 0:
                yield File("w.tflite", bytes(changed))
    kinds = tflite.TensorType
    weight, many = np.ones((1, 60_000), np.int8), np.ones(60_000, np.float32)
    zeros = np.zeros(60_000, np.int64)
    tensor = ("w", weight.shape, kinds.INT8, weight, many, zeros, 0)  # a table of both
    yield File("w.tflite", weight_files.tflite_model([tensor], ([0], [0])))
    weight = np.ones(1 << 20, np.int8)
    first = ("w", weight.shape, kinds.INT8, weight, None, None, 0)
    shared = [first, *[("v", weight.shape, kinds.INT8, 0, None, None, 0)] * 1_000]
    yield File("w.tflite", weight_files.tflite_model(shared, ([0], [0])))


def _tfjs_sizes() -> Iterator[File]:
    def model(
        weights: list[dict], paths: tuple[str, ...] = ("1.bin",), data: bytes = bytes(64)
    ) -> File:
        manifest = {"weightsManifest": [{"paths": list(paths), "weights": weights}]}
        return File("model.json", json.dumps(manifest).encode(), {"1.bin": data})

    shapes = (
        [2**33, 2**31],
        [[0], 10**9],
        [10**12],
        [-4, -4],
        ["x"],
        [2.0],
        [True],
        [0] * 99,
        "abc",
        None,
    )
    for shape in (*shapes, [10**300] * 2000, {"a": 1}):
        yield model([{"name": "a", "shape": shape, "dtype": "float32"}])
    for name in (1, None, [], {}):
        yield model([{"name": name, "shape": [16], "dtype": "float32"}])
    for quantization in (None, [], {"dtype": "uint8", "scale": 10**400, "min": 0}, {"dtype": "x"}):
        yield model(
            [{"name": "a", "shape": [16], "dtype": "float32", "quantization": quantization}]
        )
    weight = {"name": "a", "shape": [1 << 20], "dtype": "uint8"}
    yield model([weight] * 1_000, ("1.bin",) * 1_000, bytes(1 << 20))  # one shard a thousand times
    for path in ("../1.bin", "/etc/passwd", "", ".", "a\0b", "x" * 5000, 7):
        yield model([], (path,))  # type: ignore[arg-type]
    for text in (
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"\xff\xfe",
        b"9" * 10_000,
        b"{}",
        b"[]",
        b"null",
    ):
        yield File("model.json", text)


def outcome(folder: Path, file: File) -> str:
    """`arrays`, or the one sentence without the path."""
    path = folder / file.name
    for name, data in {**file.beside, file.name: file.data}.items():
        (folder / name).write_bytes(data)
    try:
        tensors = read(path)
    except UserError as refused:
        sentence, cause = str(refused), refused.__cause__
        assert not isinstance(cause, MemoryError), sentence
        assert sentence.startswith(f"{path}: "), sentence
        return sentence[len(f"{path}: ") :]
    assert all(isinstance(name, str) for name in tensors)
    assert all(isinstance(array, np.ndarray) for array in tensors.values())
    return "arrays"


def measured(folder: Path, file: File) -> tuple[str, float]:
    """(outcome, seconds of CPU) within the limits of memory and time."""
    size = sum(map(len, (file.data, *file.beside.values())))
    limit = 2 * (limits.HEADROOM + limits.GROWTH * size)
    here = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + limit + SPARE, here[1]))
    faulthandler.dump_traceback_later(10 * SLOWEST, exit=True)
    tracemalloc.start()
    started = time.process_time()
    READING.set()
    try:
        told = outcome(folder, file)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        READING.clear()
        tracemalloc.stop()
        resource.setrlimit(resource.RLIMIT_AS, here)
        faulthandler.cancel_dump_traceback_later()
    assert peak <= limit, f"{peak} bytes for a file of {size}: {told}"
    return told, time.process_time() - started


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main(first: int, count: int) -> None:
    """Reads the files and prints what became of them."""
    outcomes, slowest = [], 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        for seed in seeds():  # imports what the readers need
            outcome(folder, seed.made(seed.data))

        def forbid(event: str, arguments: tuple) -> None:
            if READING.is_set() and event in FORBIDDEN:
                print(f"{event} {arguments} while reading", file=sys.stderr, flush=True)
                os._exit(3)

        sys.addaudithook(forbid)
        for number in range(first, first + count):
            told, seconds = measured(folder, mutated(number))
            outcomes.append(told)
            slowest = max(slowest, seconds)
        for file in hostile() if first == 0 else ():
            told, seconds = measured(folder, file)
            outcomes.append(told)
            slowest = max(slowest, seconds)
        assert not (folder / "executed").exists()
    print(json.dumps({"outcomes": outcomes, "slowest": slowest}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
