"""Weight tables: strict, complete, readable both ways."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from ports import architectures, random_weights
from ports.architectures import ARCHITECTURES
from ports.convert import (
    CONV,
    DEPTHWISE,
    LINEAR,
    LINEAR_AS_CONV,
    POINTWISE,
    ConversionError,
    Rule,
    batch_norm,
    convert,
    export,
    flattened_linear,
    mismatches,
    prefixed,
    source_shapes,
    unknown_names,
)
from ports.layers import Conv, Linear, Normed, fold_batch_norm


class _Net(nnx.Module):
    def __init__(self, rngs):
        self.convs = nnx.List([Normed(Conv(i, o, 3, rngs=rngs)) for i, o in ((3, 4), (4, 5))])
        self.fc = Linear(5, 2, rngs=rngs)


TABLE = (
    Rule("body.{n}.weight", "convs.{n}.layer.kernel", CONV),
    *batch_norm("body.{n}.bn", "convs.{n}.bn"),
    Rule("fc.weight", "fc.kernel", LINEAR),
    Rule("fc.bias", "fc.bias"),
)


def _abstract():
    return nnx.eval_shape(lambda: _Net(nnx.Rngs(0)))


def _tensors():
    return random_weights.tensors(source_shapes(_abstract(), TABLE))


def test_shapes_of_the_source():
    shapes = source_shapes(_abstract(), TABLE)
    assert shapes["body.1.weight"] == (5, 4, 3, 3)
    assert shapes["fc.weight"] == (2, 5)
    assert shapes["body.0.bn.running_var"] == (4,)
    assert len(shapes) == 12


def test_a_round_trip_is_exact():
    tensors = _tensors()
    back = export(convert(tensors, TABLE, _abstract()), TABLE)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


def test_every_mismatch_is_reported_at_once_with_names_and_shapes():
    tensors = _tensors()
    del tensors["fc.bias"]
    tensors["body.0.weight"] = np.zeros((4, 3, 5, 5), np.float32)
    tensors["body.1.weight"] = np.zeros(7, np.float32)
    tensors["body.2.weight"] = np.zeros((1, 1, 1, 1), np.float32)
    tensors["stranger"] = np.zeros((2, 9), np.float32)
    with pytest.raises(ConversionError) as error:
        convert(tensors, TABLE, _abstract())
    message = str(error.value)
    for expected in (
        "5 mismatches",
        "fc.bias (2,): no source tensor fills it",
        "body.0.weight (4, 3, 5, 5): becomes (5, 5, 3, 4), convs.0.layer.kernel is (3, 3, 3, 4)",
        "body.1.weight (7,): cannot be laid out for convs.1.layer.kernel (3, 3, 4, 5)",
        "body.2.weight (1, 1, 1, 1): the network has no parameter convs.2.layer.kernel",
        "stranger (2, 9): no rule of the table takes it",
    ):
        assert expected in message
    assert mismatches(tensors, TABLE, _abstract()) == [s.strip() for s in message.splitlines()[1:]]


def test_two_tensors_cannot_fill_one_parameter():
    table = prefixed(TABLE, "model.")
    tensors = _tensors()
    tensors["model.fc.bias"] = tensors["fc.bias"]
    with pytest.raises(
        ConversionError, match=r"model\.fc\.bias \(2,\): fc\.bias was already filled"
    ):
        convert(tensors, table, _abstract())


def test_a_prefix_may_be_there_or_not():
    tensors = _tensors()
    with_prefix = {f"model.{name}": tensor for name, tensor in tensors.items()}
    for given in (tensors, with_prefix):
        back = export(convert(given, prefixed(TABLE, "model."), _abstract()), TABLE)
        assert all(np.array_equal(back[name], tensors[name]) for name in tensors)


def test_counters_and_named_heads_are_ignored_and_nothing_else():
    extra = {
        "body.0.bn.num_batches_tracked": np.array(3),
        "head.weight": np.zeros((9, 2), np.float32),
    }
    tensors = _tensors() | extra
    convert(tensors, TABLE, _abstract(), ignore=(r"head\..*",))
    assert unknown_names(tensors, TABLE) == ["head.weight"]
    with pytest.raises(ConversionError, match=r"head\.weight"):
        convert(tensors, TABLE, _abstract(), ignore=("head",))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_source_types(dtype):
    tensors = {name: tensor.astype(dtype) for name, tensor in _tensors().items()}
    model = convert(tensors, TABLE, _abstract())
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.float32.dtype}
    if dtype != np.float64:
        kept = export(convert(tensors, TABLE, _abstract(), dtype=None), TABLE)
        assert all(np.array_equal(kept[name], tensors[name]) for name in tensors)
        assert kept["fc.bias"].dtype == dtype


def test_a_folded_model_has_no_source():
    model = fold_batch_norm(convert(_tensors(), TABLE, _abstract()))
    with pytest.raises(ValueError, match=r"no rule of the table exports convs\.0\.layer\.bias"):
        export(model, TABLE)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        (CONV, (5, 4, 3, 2)),
        (DEPTHWISE, (5, 1, 3, 2)),
        (LINEAR, (5, 4)),
        (POINTWISE, (5, 4, 1, 1)),
        (LINEAR_AS_CONV, (5, 4)),
        (flattened_linear(3, 4, 5), (2, 60)),
    ],
)
def test_layouts_are_inverses(layout, shape):
    tensor = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(layout.to_source(layout.to_flax(tensor)), tensor)


def test_layouts_refuse_to_drop_weights():
    for layout in (DEPTHWISE, POINTWISE):
        with pytest.raises(ValueError, match="squeeze"):
            layout.to_flax(np.zeros((4, 2, 3, 3)))


def test_a_flattened_linear_layer_follows_the_channels():
    random = np.random.default_rng(0)
    image, weight = random.normal(size=(3, 4, 5)), random.normal(size=(2, 60))
    flax = flattened_linear(3, 4, 5).to_flax(weight)
    np.testing.assert_allclose(
        image.transpose(1, 2, 0).reshape(-1) @ flax, weight @ image.reshape(-1)
    )


@pytest.mark.parametrize("name", ["ir50", "mobilefacenet_112x96_128", "adaface_ir18"])
def test_recognition_by_names_and_shapes(name):
    known = ARCHITECTURES[name]
    shapes = source_shapes(architectures.abstract(name), known.table)
    tensors = {source: np.empty(shape, np.float32) for source, shape in shapes.items()}
    tensors["x.num_batches_tracked"] = np.array(1)
    found = architectures.recognise(tensors)
    assert found.name == name
    assert f"all {len(tensors)} tensors fit" in found.reason


def test_recognition_says_how_the_nearest_network_differs():
    shapes = source_shapes(architectures.abstract("sphere20"), ARCHITECTURES["sphere20"].table)
    tensors = {source: np.empty(shape, np.float32) for source, shape in shapes.items()}
    tensors["fc5.weight"] = np.empty((512, 25088), np.float32)
    with pytest.raises(ValueError, match=r"nearest is sphere20, with 1 mismatches.*fc5\.weight"):
        architectures.recognise(tensors)


def test_recognition_of_something_else_entirely():
    with pytest.raises(ValueError, match=r"none of their 1 names is known \(the first is pear\)"):
        architectures.recognise({"pear": np.zeros(2)})


def test_recognition_refuses_to_guess(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "twin", ARCHITECTURES["sphere20"])
    shapes = source_shapes(architectures.abstract("sphere20"), ARCHITECTURES["sphere20"].table)
    tensors = {source: np.empty(shape, np.float32) for source, shape in shapes.items()}
    with pytest.raises(ValueError, match="fit several networks, sphere20, twin; say which"):
        architectures.recognise(tensors)
