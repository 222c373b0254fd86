"""Each layer against a plain definition of it, and BatchNorm folding against the unfolded network."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from ports import convolutions, layers


def _grouped(x, kernel, stride, padding):
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


SHAPES = {  # image, kernel, padding
    "3x3 same": ((9, 8), (3, 3), ((1, 1), (1, 1))),
    "3x3 uneven": ((9, 10), (3, 3), ((0, 2), (1, 0))),
    "5x3": ((7, 9), (5, 3), ((2, 2), (1, 1))),
    "kernel beyond the image": ((3, 4), (9, 9), ((4, 4), (4, 4))),
    "wide padding": ((4, 4), (3, 3), ((5, 4), (4, 5))),
    "global window": ((7, 6), (7, 6), ((0, 0), (0, 0))),
    "one pixel": ((5, 5), (1, 1), ((0, 0), (0, 0))),
}


@pytest.mark.parametrize(("shape", "stride"), [*itertools.product(SHAPES, (1, 2)), ("3x3 same", 3)])
def test_depthwise_is_the_grouped_convolution_with_its_gradients(shape, stride):
    size, taps, padding = SHAPES[shape]
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, kernel = random.normal(size=(2, *size, 3)), random.normal(size=(*taps, 3))
        ours = jax.jit(lambda x, k: convolutions.depthwise(x, k, stride, padding))
        value, pull = jax.vjp(ours, x, kernel)
        expected, pull_expected = jax.vjp(lambda x, k: _grouped(x, k, stride, padding), x, kernel)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, expected, atol=1e-13)
        cotangent = random.normal(size=value.shape)
        for got, wanted in zip(pull(cotangent), pull_expected(cotangent), strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-13)


def test_depthwise_works_inside_vmap_and_jit():
    random = np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(3, 1, 6, 6, 2)), jnp.float32)
    kernel = jnp.asarray(random.normal(size=(3, 3, 2)), jnp.float32)
    pads = ((1, 1), (1, 1))

    def loss(x):
        return jnp.sum(convolutions.depthwise(x, kernel, 2, pads) ** 2)

    mapped = jax.jit(jax.vmap(jax.grad(loss)))(x)
    single = jnp.stack([jax.grad(loss)(image) for image in x])
    np.testing.assert_allclose(mapped, single, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (4, 4, 0)]
)
def test_convolution_gradients_are_those_of_xla(kernel, stride, padding):
    random = np.random.default_rng(2)
    with jax.enable_x64(True):
        x, k = random.normal(size=(2, 9, 8, 3)), random.normal(size=(kernel, kernel, 3, 5))
        layer = nnx.eval_shape(
            lambda: layers.Conv(3, 5, kernel, stride=stride, padding=padding, rngs=nnx.Rngs(0))
        )
        layer.kernel = nnx.Param(jnp.asarray(k))
        value, pull = jax.vjp(layer, jnp.asarray(x))
        expected, pull_expected = jax.vjp(
            lambda x: lax.conv_general_dilated(
                *(x, k, (stride, stride), ((padding, padding),) * 2),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            ),
            jnp.asarray(x),
        )
        np.testing.assert_allclose(value, expected, atol=1e-13)
        cotangent = random.normal(size=value.shape)
        np.testing.assert_allclose(pull(cotangent)[0], pull_expected(cotangent)[0], atol=1e-13)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (3, 2, 0), (2, 2, 0)])
def test_pools_are_windowed_reductions(size, stride, padding):
    random = np.random.default_rng(3)
    with jax.enable_x64(True):
        x = jnp.asarray(random.normal(size=(2, 8, 9, 3)))
        window, strides = (1, size, size, 1), (1, stride, stride, 1)
        pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))

        def ours(x):
            pools = (convolutions.max_pool, convolutions.average_pool)
            return [pool(x, size, stride=stride, padding=padding) for pool in pools]

        def theirs(x):
            largest = lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)
            return [largest, lax.reduce_window(x, 0.0, lax.add, window, strides, pads) / size**2]

        values, pull = jax.vjp(jax.jit(ours), x)
        expected, pull_expected = jax.vjp(jax.jit(theirs), x)
        cotangents = [jnp.asarray(random.normal(size=value.shape)) for value in values]
        gradients = (pull(cotangents)[0], pull_expected(cotangents)[0])
        for got, wanted in [*zip(values, expected, strict=True), gradients]:
            np.testing.assert_allclose(got, wanted, atol=1e-13)


def test_equal_maxima_share_one_gradient():
    x = jnp.ones((1, 3, 3, 1))
    gradient = jax.grad(lambda x: convolutions.max_pool(x, 3, stride=2).sum())(x)
    assert float(gradient.sum()) == 1.0


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 2)])
def test_grouped_convolutions(kernel, stride):
    random = np.random.default_rng(7)
    padding = kernel // 2
    layer = nnx.eval_shape(
        lambda: layers.Conv(
            6, 9, kernel, stride=stride, padding=padding, groups=3, rngs=nnx.Rngs(0)
        )
    )
    layer.kernel = nnx.Param(jnp.asarray(random.normal(size=(kernel, kernel, 2, 9)), jnp.float32))
    x = jnp.asarray(random.normal(size=(2, 5, 6, 6)), jnp.float32)
    expected = lax.conv_general_dilated(
        *(x, layer.kernel[...], (stride, stride), ((padding, padding),) * 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
    )
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_prelu_has_a_slope_per_channel():
    layer = layers.PReLU(2)
    layer.slope = nnx.Param(jnp.array([0.5, -2.0]))
    x = jnp.array([[-1.0, -1.0], [3.0, 3.0]])
    np.testing.assert_array_equal(layer(x), [[-0.5, 2.0], [3.0, 3.0]])


def test_layer_norm_is_its_definition():
    random = np.random.default_rng(4)
    layer = layers.LayerNorm(5, epsilon=1e-3)
    layer.scale, layer.bias = (nnx.Param(jnp.asarray(random.normal(size=5))) for _ in range(2))
    x = random.normal(size=(2, 3, 5)).astype(np.float32)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    expected = expected * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, atol=1e-6)


class _Net(nnx.Module):
    """Every kind of layer that can carry a BatchNorm, and one BatchNorm that cannot be folded."""

    def __init__(self, rngs):
        self.bn = layers.BatchNorm(3)
        self.plain = layers.Normed(layers.Conv(3, 4, 3, padding=1, rngs=rngs))
        self.biased = layers.Normed(layers.Conv(4, 4, 1, bias=True, rngs=rngs), epsilon=1e-2)
        grouped = layers.Conv(4, 6, 1, groups=2, bias=True, rngs=rngs)
        self.grouped = layers.Normed(grouped)
        depthwise = layers.DepthwiseConv(6, 3, padding=1, bias=True, rngs=rngs)
        self.depthwise = layers.Normed(depthwise)
        norm = layers.BatchNorm(5, learned=False)
        self.linear = layers.Normed(layers.Linear(6, 5, rngs=rngs), norm=norm)
        self.affine = layers.Normed(layers.Linear(5, 5, rngs=rngs), norm=layers.Affine(5))

    def __call__(self, x):
        x = self.grouped(self.biased(self.plain(self.bn(x))))
        return self.affine(self.linear(self.depthwise(x).mean((1, 2))))


def _random_net():
    random = np.random.default_rng(5)
    graph, state = nnx.split(nnx.eval_shape(lambda: _Net(nnx.Rngs(0))))
    draw = lambda leaf: jnp.asarray(random.uniform(0.3, 1.5, leaf.shape), leaf.dtype)  # noqa: E731
    return nnx.merge(graph, jax.tree.map(draw, state))


def test_folding_changes_no_value_and_no_gradient():
    with jax.enable_x64(True):
        model = _random_net()
        x = jnp.asarray(np.random.default_rng(6).normal(size=(2, 5, 5, 3)))
        results = []
        for net in (model, layers.fold_batch_norm(model)):
            value, pull = jax.vjp(jax.jit(net), x)
            results.append((value, pull(jnp.ones_like(value))[0]))
        for plain, folded in zip(*results, strict=True):
            np.testing.assert_allclose(folded, plain, rtol=1e-12)


def test_folding_leaves_the_model_alone_and_only_unfoldable_norms_behind():
    model = _random_net()
    before = jax.tree.leaves(nnx.state(model))
    folded = layers.fold_batch_norm(model)
    after = jax.tree.leaves(nnx.state(model))
    assert all(a is b for a, b in zip(before, after, strict=True))
    names = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(folded))}
    kept = {f"bn.{parameter}" for parameter in ("scale", "bias", "mean", "var")}
    assert {name for name in names if "bn" in name} == kept


def test_the_dtype_of_the_input_is_kept():
    model = _random_net()
    x = jax.ShapeDtypeStruct((1, 5, 5, 3), jnp.bfloat16)
    assert jax.eval_shape(model, x).dtype == jnp.bfloat16
    assert jax.eval_shape(layers.fold_batch_norm(model), x).dtype == jnp.bfloat16
