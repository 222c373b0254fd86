"""Each reader returns what the format's own writer wrote, and refuses what it must not open."""

import importlib.util
import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import tflite
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ports import packages
from ports.readers import onnx_file, read, tflite_file
from tests.ports import weight_files
from tipim_jax.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
TORCH_FILES = (
    "torch_zip.pt",
    "torch_legacy.pt",
    "torch_data_parallel.ckpt",
    "torch_data_parallel_legacy.ckpt",
)


# PyTorch


@pytest.mark.parametrize("name", TORCH_FILES)
def test_torch_checkpoints_match_what_pytorch_saved(name):
    expected = np.load(GOLDEN / "torch_files.npz")
    tensors = read(GOLDEN / name)
    assert list(tensors) == list(expected)
    for key, array in expected.items():
        assert tensors[key].dtype == ("bfloat16" if key == "bfloat16" else array.dtype)
        np.testing.assert_array_equal(tensors[key].astype(array.dtype), array)


@pytest.mark.parametrize("name", TORCH_FILES)
@pytest.mark.parametrize("part", [0.3, 0.7, 0.97])
def test_a_truncated_checkpoint_is_an_error_of_one_line(tmp_path, name, part):
    data = (GOLDEN / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match=name) as caught:
        read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("attack", [weight_files.Command, weight_files.Evaluation])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare"])
def test_a_malicious_checkpoint_is_refused_and_nothing_runs(tmp_path, form, attack):
    marker, path = tmp_path / "executed", tmp_path / "evil.pth"
    poison = {"state_dict": attack(marker)}
    if form == "zip":
        weight_files.write_zip(path, pickle.dumps(poison))
    elif form == "legacy":
        stream = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, poison, []]
        path.write_bytes(b"".join(pickle.dumps(item, 2) for item in stream))
    else:
        path.write_bytes(pickle.dumps(poison))
    with pytest.raises(UserError, match="refused, because it asks to run"):
        read(path)
    assert not marker.exists()


def test_a_module_pickled_whole_is_refused_with_advice(tmp_path):
    path = tmp_path / "model.pt"
    weight_files.write_zip(path, b"cmodels.resnet\nResNet\n.")
    with pytest.raises(UserError, match=r"models\.resnet\.ResNet.*torch\.save\(model\.state_dict"):
        read(path)


def test_a_well_formed_tensor_program_is_read(tmp_path):
    path = tmp_path / "w.pt"
    weight_files.write_zip(
        path, weight_files.tensor_program(1, (3,), (1,)), [np.arange(4, dtype="<f4").tobytes()]
    )
    np.testing.assert_array_equal(read(path)["w"], [1, 2, 3])


@pytest.mark.parametrize(
    "tensor",
    [
        weight_files.tensor_program(2, (3,), (1,)),  # reaches beyond the storage
        weight_files.tensor_program(-1, (2,), (1,)),
        weight_files.tensor_program(3, (2,), (-1,)),
        weight_files.tensor_program(0, (2, 2), (1000, 1)),
        weight_files.tensor_program(0, (10**12,), (0,)),  # asks for terabytes
        weight_files.tensor_program(0, (2,), (1, 1)),
        weight_files.tensor_program(0, (2,), (1,), storage="QInt8Storage"),
    ],
)
def test_a_tensor_may_not_leave_its_storage(tmp_path, tensor):
    path = tmp_path / "w.pt"
    weight_files.write_zip(path, tensor, [np.arange(4, dtype="<f4").tobytes()])
    with pytest.raises(UserError, match=r"w\.pt: "):
        read(path)


def test_several_state_dicts_are_ambiguous(tmp_path):
    program = weight_files.tensor_program(0, (4,), (1,))[:-1]
    path = tmp_path / "gan.pt"
    weight_files.write_zip(path, b"}Vgen\n" + program + b"sVdisc\n" + program + b"s.", [bytes(16)])
    with pytest.raises(UserError, match=r"several state dicts \(gen, disc\)"):
        read(path)


# Plain arrays


def test_npz_and_safetensors(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(3, dtype=np.int64)}
    np.savez(tmp_path / "w.npz", **arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "w.safetensors")
    for path in (tmp_path / "w.npz", tmp_path / "w.safetensors"):
        tensors = read(path)
        assert tensors.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(tensors[name], array)
            assert tensors[name].dtype == array.dtype


def test_npz_with_pickled_objects_is_refused(tmp_path):
    marker = tmp_path / "executed"
    np.savez(tmp_path / "w.npz", a=np.array([weight_files.Command(marker)], dtype=object))
    with pytest.raises(UserError, match=r"w\.npz"):
        read(tmp_path / "w.npz")
    assert not marker.exists()


# ONNX


def test_onnx_blocked_weights_come_back_as_named_floats(tmp_path):
    rng = np.random.default_rng(0)
    path, model = weight_files.quantised_convolution(tmp_path, rng)
    graph = onnx_file.read_graph(path)
    assert graph.inputs == ("x",)
    assert graph.outputs == ("y",)
    assert [(o.kind, o.inputs) for o in graph.operations] == [("Conv", ("x", "w", "b"))]
    assert graph.operations[0].attributes == {"pads": [1, 1, 1, 1]}
    assert graph.tensors.keys() == {"w", "b"}
    # the reference evaluator, on the blocks spelled out element by element
    node = model.graph.node[0]
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    blocks = np.minimum(np.arange(27) // 10, 2)
    expected = (arrays["w_quantized"] - arrays["w_zero_point"][:, blocks].astype(np.float32)) * (
        arrays["w_scales"][:, blocks]
    )
    assert node.op_type == "DequantizeLinear"
    np.testing.assert_allclose(graph.tensors["w"], expected.reshape(4, 3, 3, 3), rtol=1e-6)
    np.testing.assert_allclose(graph.tensors["b"], arrays["b_quantized"] * np.float32(0.1))


def test_onnx_folding_equals_the_reference_evaluator(tmp_path):
    rng = np.random.default_rng(1)
    weight = rng.integers(-128, 128, (6, 4), dtype=np.int8)
    initialisers = {"q": weight, "s": rng.uniform(0.1, 0.2, 6).astype(np.float32)}
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=0),
        helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0]),
        helper.make_node("Identity", ["t"], ["i"]),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Unsqueeze", ["i", "axes"], ["u"]),
        helper.make_node("Squeeze", ["u", "axes"], ["v"]),
        helper.make_node("MatMul", ["x", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6])],
        [numpy_helper.from_array(a, name) for name, a in initialisers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.save(model, tmp_path / "m.onnx")
    x = rng.normal(size=(2, 4)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    read_back = onnx_file.read_graph(tmp_path / "m.onnx")
    (operation,) = read_back.operations
    np.testing.assert_allclose(x @ read_back.tensors[operation.inputs[1]], expected, rtol=1e-6)


def test_onnx_real_files():
    yunet = read(packages.locate(packages.YUNET))
    sface = onnx_file.read_graph(packages.locate(packages.SFACE))
    assert sum(a.ndim == 4 for a in yunet.values()) == 53
    assert sface.inputs == ("data",)
    assert sum(o.kind == "Conv" for o in sface.operations) == 27
    assert all(array.dtype == np.float32 for array in sface.tensors.values())


# TensorFlow


def test_tfjs_shards_and_quantisation(tmp_path):
    rng = np.random.default_rng(2)
    exact = rng.normal(size=(2, 3)).astype(np.float32)
    half = rng.normal(size=4).astype(np.float16)
    scaled = rng.integers(0, 256, 5, dtype=np.uint8)
    weights = [
        {"name": "a/kernel", "shape": [2, 3], "dtype": "float32"},
        {
            "name": "h",
            "shape": [4],
            "dtype": "float32",
            "quantization": {"dtype": "float16", "original_dtype": "float32"},
        },
        {
            "name": "q",
            "shape": [5],
            "dtype": "float32",
            "quantization": {"dtype": "uint8", "scale": 0.5, "min": -3.0},
        },
        {"name": "axes", "shape": [], "dtype": "int32"},
    ]
    data = exact.tobytes() + half.tobytes() + scaled.tobytes() + np.int32(9).tobytes()
    manifest = {"weightsManifest": [{"paths": ["1of2.bin", "2of2.bin"], "weights": weights}]}
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    (tmp_path / "1of2.bin").write_bytes(data[:20])
    (tmp_path / "2of2.bin").write_bytes(data[20:])
    tensors = read(tmp_path / "model.json")
    np.testing.assert_array_equal(tensors["a/kernel"], exact)
    np.testing.assert_array_equal(tensors["h"], half.astype(np.float32))
    np.testing.assert_array_equal(tensors["q"], scaled * np.float32(0.5) - 3)
    assert tensors["axes"] == 9
    assert tensors["axes"].shape == ()
    (tmp_path / "2of2.bin").write_bytes(data[20:-2])
    with pytest.raises(UserError, match="the shards end before axes"):
        read(tmp_path / "model.json")
    (tmp_path / "2of2.bin").unlink()
    with pytest.raises(UserError, match=r"2of2\.bin is missing"):
        read(tmp_path / "model.json")


def test_tfjs_shards_stay_in_the_folder(tmp_path):
    manifest = {"weightsManifest": [{"paths": ["../secret.bin"], "weights": []}]}
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="outside the model's folder"):
        read(tmp_path / "model.json")


def test_tflite_constants_are_dequantised(tmp_path):
    rng = np.random.default_rng(3)
    weight = rng.integers(-128, 128, (2, 1, 1, 3), dtype=np.int8)
    bias = rng.normal(size=2).astype(np.float16)
    scales, zeros = np.array([0.5, 0.25], np.float32), np.array([1, -2], np.int64)
    kinds = tflite.TensorType
    path = tmp_path / "m.tflite"
    path.write_bytes(
        weight_files.tflite_model(
            [
                ("x", (1, 4, 4, 3), kinds.FLOAT32, None, None, None, 0),
                ("w", (2, 1, 1, 3), kinds.INT8, weight, scales, zeros, 0),
                ("b", (2,), kinds.FLOAT16, bias, None, None, 0),
                ("y", (1, 2, 4, 2), kinds.FLOAT32, None, None, None, 0),
            ],
            ([0, 1, 2], [3]),
        )
    )
    graph = tflite_file.read_graph(path)
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))
    (operation,) = graph.operations
    assert operation.kind == "CONV_2D"
    assert operation.inputs == ("x", "w", "b")
    assert operation.attributes == {"stride": (2, 1), "padding": "VALID", "activation": "RELU"}
    shape = (2, 1, 1, 1)
    np.testing.assert_array_equal(
        read(path)["w"], (weight - zeros.reshape(shape)) * scales.reshape(shape)
    )
    np.testing.assert_array_equal(graph.tensors["b"], bias)


# dlib


def test_dlib_layers_are_split_and_numbered(tmp_path):
    rng = np.random.default_rng(4)
    convolutions = [rng.normal(size=4 * 3 * 3 * 2 + 4).astype("f4"), rng.normal(size=5 * 4 + 5)]
    affine, full = rng.normal(size=8), rng.normal(size=5 * 300)
    data = (
        b"\x01\x0dloss_metric_2"
        + weight_files.dlib_layer("con_4", convolutions[0], after=(4, 3, 2))
        + weight_files.dlib_layer("affine_", affine)
        + weight_files.dlib_layer("con_4", convolutions[1], after=(5, 1, 1))
        + weight_files.dlib_layer("fc_2", full, before=(300, 5))
    )
    path = tmp_path / "net.dat"
    path.write_bytes(data)
    tensors = read(path)
    assert {name: array.shape for name, array in tensors.items()} == {
        "con.0.weight": (4, 3, 3, 2),
        "con.0.bias": (4,),
        "affine.0.gamma": (4,),
        "affine.0.beta": (4,),
        "con.1.weight": (5, 4, 1, 1),
        "con.1.bias": (5,),
        "fc.0.weight": (5, 300),
    }
    np.testing.assert_array_equal(tensors["con.0.bias"], convolutions[0][-4:])
    np.testing.assert_array_equal(tensors["fc.0.weight"].ravel(), full.astype("f4"))
    path.write_bytes(data[:-100])
    with pytest.raises(UserError, match="damaged or cut short"):
        read(path)


def test_dlib_real_file():
    tensors = read(packages.locate(packages.DLIB_RESNET))
    assert sum(name.startswith("con") for name in tensors) == 58
    assert sum(array.size for array in tensors.values()) == 5_614_592
    assert tensors["con.0.weight"].shape == (32, 3, 7, 7)
    assert tensors["fc.0.weight"].shape == (256, 128)
    assert all(np.abs(array).max() < 100 for array in tensors.values())


# Choosing a reader


def test_the_content_decides_before_the_extension(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes((GOLDEN / "torch_files.npz").read_bytes())
    assert "scalar" in read(path)
    path.write_bytes((GOLDEN / "torch_zip.pt").read_bytes())
    assert "scalar" in read(path)


@pytest.mark.parametrize(
    "extension",
    [".pt", ".onnx", ".tflite", ".safetensors", ".npz", ".dat", ".json", ".xyz"],
)
@pytest.mark.parametrize("content", [b"", b"this is not a weight file\n" * 20])
def test_a_file_of_another_kind_is_an_error_of_one_line(tmp_path, extension, content):
    path = tmp_path / f"weights{extension}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"weights\.") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_an_absent_file(tmp_path):
    with pytest.raises(UserError, match="there is no such weight file"):
        read(tmp_path / "w.pt")


def test_an_absent_optional_package_names_the_pip_command(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(bytes(4) + b"TFL3")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "tipim-jax\[models\]"'):
        read(path)
