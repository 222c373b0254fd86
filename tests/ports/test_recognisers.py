"""Every installable recogniser embeds as its own runtime does, and differentiates as PyTorch."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports import architectures, random_weights, readers, zoo
from ports.architectures import ARCHITECTURES
from ports.convert import convert, export
from ports.layers import fold_batch_norm

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "recognisers.npz")  # make_recognisers.py
STEP = 16  # of the kept gradient


@pytest.fixture(params=zoo.CARDS)
def name(request):
    try:
        zoo.locate(zoo.CARDS[request.param])
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


def _crops(recogniser, dtype=np.float32):
    crop = GOLDEN[f"crop_{recogniser.size[0]}"]
    return jnp.asarray(np.stack([crop, crop[:, ::-1]]), dtype)


def test_embeds_like_its_runtime(name):
    recogniser, expected = zoo.load(name), GOLDEN[f"{name}_embedding"]
    embeddings = jax.jit(jax.vmap(recogniser.embed, (None, 0)))(
        recogniser.params, _crops(recogniser)
    )
    assert embeddings.dtype == jnp.float32
    assert embeddings.shape[1:] == (zoo.CARDS[name].features,)
    tolerance = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("quick_compile")
def test_has_the_input_gradient_of_pytorch(name):
    # In float64: in float32 a unit within rounding of a ReLU's kink changes a whole neighbourhood.
    with jax.enable_x64(True):
        recogniser, expected = zoo.load(name, jnp.float64), GOLDEN[f"{name}_gradient"]
        features = zoo.CARDS[name].features
        signs = (-1.0) ** np.arange(features) / features**0.5

        def cosine(crop, params):
            return recogniser.embed(params, crop) @ signs

        gradients = jax.jit(jax.vmap(jax.grad(cosine), (0, None)))(
            _crops(recogniser, np.float64), recogniser.params
        )[:, ::STEP, ::STEP]
    tolerance = 1e-6 * np.abs(expected).max()  # the golden numbers are float32
    np.testing.assert_allclose(gradients, expected, rtol=0, atol=tolerance)


@pytest.mark.usefixtures("quick_compile")
def test_bfloat16_barely_turns_the_embedding(name):
    recogniser = zoo.load(name, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(recogniser.params)} == {jnp.dtype("bfloat16")}
    embed = jax.jit(jax.vmap(recogniser.embed, (None, 0)))
    embeddings = embed(recogniser.params, _crops(recogniser))
    assert embeddings.dtype == jnp.float32
    cosines = np.sum(embeddings * GOLDEN[f"{name}_embedding"], axis=1)
    assert cosines.min() > 0.98


def test_the_table_gives_the_file_back_bit_for_bit(name):
    card = zoo.CARDS[name]
    usual = ARCHITECTURES[card.architecture]
    tensors = readers.read(zoo.locate(card))
    abstract = architectures.abstract(card.architecture)
    exported = export(convert(tensors, usual.table, abstract, ignore=usual.ignored), usual.table)
    for source, array in exported.items():
        np.testing.assert_array_equal(array, tensors[source], strict=True)


@pytest.mark.parametrize("name", zoo.CARDS)
def test_embeds_like_its_graph_with_random_weights(name):
    card = zoo.CARDS[name]
    network = random_weights.network(architectures.abstract(card.architecture))
    graph, params = nnx.split(fold_batch_norm(network))

    def embed(params, crops):
        crops = crops[..., ::-1] if card.channels == "BGR" else crops
        return nnx.merge(graph, params)((crops - jnp.array(card.mean)) * card.scale)

    crop = GOLDEN[f"crop_{card.size[0]}"]
    embeddings = jax.jit(embed)(params, np.stack([crop, crop[:, ::-1]]).astype(np.float32))
    embeddings /= jnp.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = GOLDEN[f"{name}_random"]
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
