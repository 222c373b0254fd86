"""Every port against PyTorch: the same weights and images give the same embeddings and gradients.

Needs the extra `parity` and three packages whose own pins clash with it:

    pip install -e ".[parity]"
    pip install --no-deps facenet-pytorch==2.6.0 frbench==1.1.3 timm==1.0.31
    python -m pytest -m parity -rP

Relative errors are of Euclidean norms. In float32 a ReLU whose argument rounds to the other side of
zero changes the gradient of that one image by about 1e-3 in either framework, so a port passes if
one image of a batch agrees within the tolerance and none is far off (a few batches are tried); a
wrong gradient is wrong for every image. In float64 no argument is that close to zero and all images must agree.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports import architectures, random_weights
from ports.architectures import ARCHITECTURES, Architecture
from ports.convert import convert, export
from ports.networks import ir

torch = pytest.importorskip("torch", reason='run `pip install -e ".[parity]"`')
from experiments.pytorch.networks import Reference  # noqa: E402
from tests.parity.references import networks, packaged  # noqa: E402

torch.set_num_threads(1)  # more would wait for each other on a busy machine
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("default")]

EMBEDDING, GRADIENT, ROUNDED_RELU, DOUBLE = 1e-5, 1e-4, 2e-2, 1e-10
BATCHES = 4

_IRSE18 = ir.Config(ir.BLOCKS[18], squeeze_excitation=True)
_SMALL = Architecture(partial(ir.IR, _IRSE18), ir.table(_IRSE18), _IRSE18.size, _IRSE18.features)
# What is compared in float64: every code path once, at its smallest depth.
DOUBLES = {"irse18": (_SMALL, lambda: packaged.ir(18, squeeze_excitation=True))} | {
    name: (ARCHITECTURES[name], networks.REFERENCES[name])
    for name in (
        "adaface_ir18",
        "iresnet18",
        "mobilefacenet_112x96_128",
        "sphere20",
        "resnet50_face",
        "inception_resnet_v1",
        "mobilenet_v1",
        "mobilenet_v2",
        "shufflenet_v1",
        "shufflenet_v2",
        "vit_t",
        "edgeface_xs_gamma_06",
        "dlib_resnet29",
    )
}


class Errors(NamedTuple):
    """Relative errors per image."""

    embedding: np.ndarray
    gradient: np.ndarray


def _reference(build) -> Reference:
    try:
        return build()
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed; see the head of this file")


def _compare(known, reference, tensors, dtype) -> Errors:
    with jax.enable_x64(dtype == np.float64):
        model = convert(
            tensors,
            known.table,
            architectures.abstract_of(known),
            ignore=known.ignored,
            dtype=dtype,
        )
        graph, params = nnx.split(model)
    reference.module.to(torch.from_numpy(np.zeros(1, dtype)).dtype)

    def torch_side(images, cotangent):
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).requires_grad_(True)
        z = reference.module(x)
        z.backward(torch.from_numpy(cotangent))
        return z.detach().numpy(), x.grad.numpy().transpose(0, 2, 3, 1)

    def embed(params, images):
        z = nnx.merge(graph, params)(images)
        # facenet-pytorch normalises inside the network, the ports outside
        unit = "inception" in type(reference.module).__name__.lower()
        return z / jnp.linalg.norm(z, axis=1, keepdims=True) if unit else z

    @jax.jit
    def flax_side(params, images, cotangent):
        z, pull = jax.vjp(lambda x: embed(params, x), images)
        return z, pull(cotangent)[0]

    for seed in range(BATCHES):
        random = np.random.default_rng(seed)
        images = random.uniform(-1, 1, (2, *known.size, 3)).astype(dtype)
        cotangent = random.normal(size=(2, known.features)).astype(dtype)
        wanted = torch_side(images, cotangent)
        with jax.enable_x64(dtype == np.float64):
            got = flax_side(params, images, cotangent)
        errors = Errors(_relative(got[0], wanted[0]), _relative(got[1], wanted[1]))
        if errors.gradient.min() <= GRADIENT:
            break
    return errors


def _relative(got, wanted) -> np.ndarray:
    axes = tuple(range(1, wanted.ndim))
    error = np.sqrt(((np.asarray(got, np.float64) - wanted) ** 2).sum(axes))
    return error / np.sqrt((wanted.astype(np.float64) ** 2).sum(axes))


def test_every_port_has_a_reference():
    black_boxes = {"frfeat", "expo", "faceres"}  # compared with their own runtimes
    assert set(networks.REFERENCES) == set(ARCHITECTURES) - black_boxes


@pytest.mark.parametrize("name", networks.REFERENCES)
def test_converts_exactly_and_agrees_in_float32(name):
    known = ARCHITECTURES[name]
    reference = _reference(networks.REFERENCES[name])
    tensors = random_weights.tensors(reference.shapes())
    reference.load(tensors)
    model = convert(tensors, known.table, architectures.abstract_of(known), ignore=known.ignored)
    back = export(model, known.table)
    ignored = {"mask_token"}
    assert back.keys() == tensors.keys() - ignored
    for source, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[source], err_msg=source, strict=True)
    del model, back

    errors = _compare(known, reference, tensors, np.float32)
    print(f"| {name} | float32 | {errors.embedding.max():.1e} | {_shown(errors.gradient)} |")
    assert errors.embedding.max() <= EMBEDDING
    assert errors.gradient.min() <= GRADIENT
    assert errors.gradient.max() <= ROUNDED_RELU


def _shown(gradient: np.ndarray) -> str:
    return f"{gradient.min():.1e}, {gradient.max():.1e}"


@pytest.mark.parametrize("name", DOUBLES)
def test_agrees_in_float64(name, monkeypatch):
    known, build = DOUBLES[name]
    reference = _reference(build)
    tensors = random_weights.tensors(reference.shapes())
    reference.load(tensors)
    if name.startswith("edgeface"):
        # EdgeNeXt's position code is float32 whatever the network's type; ours has the type's
        monkeypatch.setattr(torch, "float32", torch.float64)
    errors = _compare(known, reference, tensors, np.float64)
    print(f"| {name} | float64 | {errors.embedding.max():.1e} | {_shown(errors.gradient)} |")
    assert errors.embedding.max() <= DOUBLE
    assert errors.gradient.max() <= DOUBLE
