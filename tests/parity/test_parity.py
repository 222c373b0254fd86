"""Every port against PyTorch: the same weights and images give the same embeddings and gradients.

Needs the extra `parity` and three packages whose own pins clash with it:

    pip install -e ".[parity]"
    pip install --no-deps facenet-pytorch==2.6.0 frbench==1.1.3 timm==1.0.31
    python -m pytest -m parity -rP

Relative errors are of Euclidean norms. In float32 a ReLU whose argument rounds to the other side of
zero changes the gradient of that one image by about 1e-3 in either framework, so a port passes if
one image of the batch agrees within the tolerance and none is far off; a wrong gradient is wrong
for every image. In float64 no argument is that close to zero and all images must agree.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports import architectures, ir, random_weights
from ports.architectures import ARCHITECTURES, Architecture
from ports.convert import convert, export

torch = pytest.importorskip("torch", reason="needs the extra `parity`: pip install -e .[parity]")
from tests.parity import torch_models  # noqa: E402

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

EMBEDDING, GRADIENT, ROUNDED_RELU, DOUBLE = 1e-5, 1e-4, 2e-2, 1e-10

# Same code as a shallower variant in the list, so their gradients are not compared again.
DEEPER = {
    *("ir100", "ir152", "irse100", "irse152", "adaface_ir50", "adaface_ir101"),
    *("iresnet34", "iresnet100", "iresnet200", "vit_s", "vit_b", "vit_l"),
    *("mobilefacenet_112x112_128", "edgeface_xxs", "edgeface_s_gamma_05"),
}


def _small_ir(squeeze_excitation: bool) -> Architecture:
    config = ir.Config(ir.BLOCKS[18], squeeze_excitation)
    return Architecture(
        lambda *, rngs: ir.IR(config, rngs=rngs), ir.table(config), config.size, config.features
    )


# What is compared in float64: every code path once, at its smallest depth.
DOUBLES = {
    "ir18": (_small_ir(False), lambda: torch_models.ir(18)),
    "irse18": (_small_ir(True), lambda: torch_models.ir(18, squeeze_excitation=True)),
} | {
    name: (ARCHITECTURES[name], torch_models.REFERENCES[name])
    for name in (
        *("adaface_ir18", "iresnet18", "mobilefacenet_112x96_128", "mobilefacenet_gdc"),
        *("sphere20", "sphere20_cosface", "resnet50_face", "inception_resnet_v1"),
        *("mobilenet_v1", "mobilenet_v2", "shufflenet_v1", "shufflenet_v2", "vit_t"),
        *("edgeface_xxs", "edgeface_xs_gamma_06"),
    )
}


class Errors(NamedTuple):
    """Relative errors per image."""

    embedding: np.ndarray
    gradient: np.ndarray | None


def _reference(build) -> torch_models.Reference:
    try:
        return build()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed; see the head of this file")


def _compare(known, reference, tensors, dtype, *, gradient: bool) -> Errors:
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (2, *known.size, 3)).astype(dtype)
    cotangent = random.normal(size=(2, known.features)).astype(dtype)
    reference.module.to(torch.from_numpy(images).dtype)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_(gradient)
    z = reference.module(x)
    expected = z.detach().numpy()
    # facenet-pytorch normalises inside the network, the ports outside
    unit = np.allclose((expected**2).sum(1), 1)

    with jax.enable_x64(dtype == np.float64):
        model = convert(
            tensors,
            known.table,
            architectures.abstract_of(known),
            ignore=known.ignored,
            dtype=dtype,
        )
        graph, params = nnx.split(model)

        def embed(params, images):
            z = nnx.merge(graph, params)(images)
            return z / jnp.linalg.norm(z, axis=1, keepdims=True) if unit else z

        def both(params, images, cotangent):
            z, pull = jax.vjp(lambda x: embed(params, x), images)
            return z, pull(cotangent)[0]

        if not gradient:
            return Errors(_relative(jax.jit(embed)(params, images), expected), None)
        got, pulled = jax.jit(both)(params, images, cotangent)
        got, pulled = np.asarray(got), np.asarray(pulled)
    z.backward(torch.from_numpy(cotangent))
    wanted = x.grad.numpy().transpose(0, 2, 3, 1)
    return Errors(_relative(got, expected), _relative(pulled, wanted))


def _relative(got, wanted) -> np.ndarray:
    axes = tuple(range(1, wanted.ndim))
    error = np.sqrt(((np.asarray(got, np.float64) - wanted) ** 2).sum(axes))
    return error / np.sqrt((wanted.astype(np.float64) ** 2).sum(axes))


def test_every_port_has_a_reference():
    black_boxes = {"sface", "dlib_resnet29", "frfeat", "expo", "faceres"}  # have their own runtimes
    assert set(torch_models.REFERENCES) == set(ARCHITECTURES) - black_boxes


@pytest.mark.parametrize("name", torch_models.REFERENCES)
def test_converts_exactly_and_agrees_in_float32(name):
    known = ARCHITECTURES[name]
    reference = _reference(torch_models.REFERENCES[name])
    tensors = random_weights.tensors(reference.shapes())
    reference.load(tensors)
    model = convert(tensors, known.table, architectures.abstract_of(known), ignore=known.ignored)
    back = export(model, known.table)
    ignored = {"mask_token"}
    assert back.keys() == tensors.keys() - ignored
    for source, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[source], err_msg=source, strict=True)
    del model, back

    errors = _compare(known, reference, tensors, np.float32, gradient=name not in DEEPER)
    print(f"| {name} | float32 | {errors.embedding.max():.1e} | {_shown(errors.gradient)} |")
    assert errors.embedding.max() <= EMBEDDING
    if errors.gradient is not None:
        assert errors.gradient.min() <= GRADIENT
        assert errors.gradient.max() <= ROUNDED_RELU


def _shown(gradient: np.ndarray | None) -> str:
    return "not compared" if gradient is None else f"{gradient.min():.1e}, {gradient.max():.1e}"


@pytest.mark.parametrize("name", DOUBLES)
def test_agrees_in_float64(name, monkeypatch):
    known, build = DOUBLES[name]
    reference = _reference(build)
    tensors = random_weights.tensors(reference.shapes())
    reference.load(tensors)
    if name.startswith("edgeface"):
        # EdgeNeXt's position code is float32 whatever the network's type; ours has the type's
        monkeypatch.setattr(torch, "float32", torch.float64)
    errors = _compare(known, reference, tensors, np.float64, gradient=True)
    print(f"| {name} | float64 | {errors.embedding.max():.1e} | {_shown(errors.gradient)} |")
    assert errors.embedding.max() <= DOUBLE
    assert errors.gradient.max() <= DOUBLE
