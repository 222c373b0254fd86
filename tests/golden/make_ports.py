"""Writes ports.npz: embeddings and input gradients of a small network of every family, in float64.

    python -m tests.golden.make_ports

The weights are not stored: `ports.random_weights` draws the same ones from the tensors' names. The
values are those of the ports when they agreed with PyTorch at full size (tests/parity), and guard
them where PyTorch is absent; write them again only together with those tests.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ports import random_weights
from ports.convert import Rule, convert, source_shapes
from ports.networks import (
    edgeface,
    inception_resnet,
    ir,
    iresnet,
    mobilefacenet,
    mobilenet,
    resnet50_face,
    shufflenet,
    sphere,
    vit,
)

FILE = Path(__file__).with_name("ports.npz")


class Case(NamedTuple):
    """A network of reduced depth, width and input."""

    build: Callable[..., nnx.Module]
    config: Any
    table: tuple[Rule, ...]

    def abstract(self) -> nnx.Module:
        """With shapes only."""
        return nnx.eval_shape(lambda: self.build(self.config, rngs=nnx.Rngs(0)))


SMALL = {"size": (32, 32), "features": 8}
IR = ir.Config(blocks=(1, 2, 1, 1), widths=(16, 32, 32, 48), **SMALL)
IRESNET = iresnet.Config(blocks=(1, 2, 1, 1), widths=(8, 16, 16, 24), **SMALL)
SPHERE = sphere.Config(blocks=(1, 2, 1, 1), widths=(8, 16, 16, 24), size=(32, 48), features=8)
RESNET = resnet50_face.Config((1, 2, 1, 1), (64, 64), (4, 8, 8, 8), 8)
MOBILENET_V2 = mobilenet.ConfigV2(
    1, ((1, 16, 1, 2), (2, 16, 2, 2), (2, 24, 1, 2), (2, 24, 1, 2)), 40, **SMALL
)
EDGEFACE = edgeface.Config(
    (16, 24, 32, 48), (1, 2, 2, 1), kernels=(3, 3, 5, 3), size=(64, 64), features=8
)

CASES = {
    "ir": Case(ir.IR, IR, ir.table(IR)),
    "irse": Case(
        *(ir.IR, IR._replace(squeeze_excitation=True)),
        ir.table(IR._replace(squeeze_excitation=True)),
    ),
    "adaface": Case(ir.IR, IR._replace(adaface=True), ir.table(IR._replace(adaface=True))),
    "iresnet": Case(iresnet.IResNet, IRESNET, iresnet.table(IRESNET)),
    "mobilefacenet": Case(
        *(mobilefacenet.MobileFaceNet, mobilefacenet.Config((32, 48), 8), mobilefacenet.TABLE)
    ),
    "mobilefacenet_gdc": Case(
        *(mobilefacenet.MobileFaceNet, mobilefacenet.Config((32, 32), 8), mobilefacenet.GDC_TABLE)
    ),
    "sphere": Case(sphere.Sphere, SPHERE, sphere.table(SPHERE)),
    "sphere_cosface": Case(
        *(sphere.Sphere, SPHERE._replace(cosface=True)),
        sphere.table(SPHERE._replace(cosface=True)),
    ),
    "resnet": Case(resnet50_face.ResNetFace, RESNET, resnet50_face.table(RESNET)),
    "inception_resnet": Case(
        inception_resnet.InceptionResnetV1,
        inception_resnet.Config((1, 1, 1), (96, 96), 8),
        inception_resnet.TABLE,
    ),
    "mobilenet_v1": Case(
        mobilenet.MobileNetV1,
        mobilenet.ConfigV1(1, ((16, 2), (16, 1), (24, 2), (24, 2), (32, 2)), **SMALL),
        mobilenet.TABLE_V1,
    ),
    "mobilenet_v2": Case(mobilenet.MobileNetV2, MOBILENET_V2, mobilenet.table_v2(MOBILENET_V2)),
    "shufflenet_v1": Case(
        shufflenet.ShuffleNetV1,
        shufflenet.ConfigV1(3, (48, 96, 192), (2, 2, 2), **SMALL),
        shufflenet.TABLE_V1,
    ),
    "shufflenet_v2": Case(
        shufflenet.ShuffleNetV2,
        shufflenet.ConfigV2(1, (24, 32, 48), (2, 2, 2), 40, **SMALL),
        shufflenet.TABLE_V2,
    ),
    "vit": Case(vit.ViT, vit.Config(32, 2, 4, 9, (38, 29), 8), vit.TABLE),
    "edgeface": Case(edgeface.EdgeFace, EDGEFACE._replace(rank=None), edgeface.TABLE),
    "edgeface_gamma": Case(edgeface.EdgeFace, EDGEFACE, edgeface.TABLE),
}
# Another layout or a simpler head of a network that is in the list: converted, not computed again.
SAME_CODE = {"mobilefacenet_gdc", "sphere_cosface", "edgeface"}
COMPUTED = [name for name in CASES if name not in SAME_CODE]


def tensors(case: Case) -> dict[str, np.ndarray]:
    """The source tensors of a case."""
    return random_weights.tensors(source_shapes(case.abstract(), case.table))


def run(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(embeddings [2,D], gradient of a weighted sum of them with respect to the images [2,h,w,3])."""
    with jax.enable_x64(True):
        model = convert(tensors(case), case.table, case.abstract(), dtype=np.float64)
        random = np.random.default_rng(0)
        images = jnp.asarray(random.uniform(-1, 1, (2, *case.config.size, 3)))
        cotangent = jnp.asarray(random.normal(size=(2, case.config.features)))
        graph, params = nnx.split(model)

        @jax.jit
        def both(params, images):
            embeddings, pull = jax.vjp(partial(_embed, graph, params), images)
            return embeddings, pull(cotangent)[0]

        embeddings, gradient = both(params, images)
        return np.asarray(embeddings), np.asarray(gradient)


def _embed(graph, params, images):
    return nnx.merge(graph, params)(images)


if __name__ == "__main__":
    arrays = {}
    for name in COMPUTED:
        embeddings, gradient = run(CASES[name])
        arrays[f"{name}/embeddings"] = embeddings
        arrays[f"{name}/gradient"] = gradient[:, ::5, ::5]  # enough to notice, small on disk
    np.savez_compressed(FILE, **arrays)
