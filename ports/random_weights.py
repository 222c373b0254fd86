"""Weights drawn from their names: for tests and timings of a network without its checkpoint.

The same name and shape give the same numbers everywhere, so that two implementations of a network
can be compared and a test needs no weight file.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from ports import architectures
from ports.convert import export


def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor in PyTorch's layout, float32.

    Kernels [O,I,...] are normal with variance 1.5/fan-in; variances lie in [0.5, 1.5], scales and
    PReLU slopes in [0.2, 1], and biases and means have deviation 0.2, so that no normalisation is
    trivial and activations neither die nor explode.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "moving_var")):
        return np.float32(0.5) + random.random(shape, np.float32)
    if len(shape) > 1:
        scale = np.float32(np.sqrt(1.5 / np.prod(shape[1:])))
        return scale * random.standard_normal(shape, np.float32)
    if name.endswith(("weight", "gamma", "gamma_xca")):
        return np.float32(0.2) + np.float32(0.8) * random.random(shape, np.float32)
    return np.float32(0.2) * random.standard_normal(shape, np.float32)


def tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A tensor for every name."""
    return {name: tensor(name, shape) for name, shape in shapes.items()}


def network(abstract: nnx.Module) -> nnx.Module:
    """The network with every parameter drawn from its path, whatever names its source file has."""
    graph, state = nnx.split(abstract)
    drawn = []
    for path, leaf in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        random = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("kernel"):  # [...,I,O], or [kh,kw,C] if depthwise
            values = random.normal(0.0, np.sqrt(1.5 / np.prod(leaf.shape[:-1])), leaf.shape)
        elif name.endswith("var"):
            values = random.uniform(0.5, 1.5, leaf.shape)
        elif name.endswith("scale"):
            values = random.uniform(0.8, 1.6, leaf.shape)
        elif name.endswith("slope"):
            values = random.uniform(0.2, 1.0, leaf.shape)
        else:
            values = random.normal(0.0, 0.2, leaf.shape)
        drawn.append((path, leaf.replace(jax.numpy.asarray(values.astype(np.float32)))))
    return nnx.merge(graph, nnx.from_flat_state(drawn))


def checkpoint(path: Path, architecture: str) -> None:
    """Writes an .npz checkpoint of a network of `architectures` in its source's names and layout."""
    known = architectures.ARCHITECTURES[architecture]
    arrays: dict[str, Any] = export(network(architectures.abstract(architecture)), known.table)
    np.savez(path, **arrays)
