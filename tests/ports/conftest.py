"""Networks with random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ports import architectures


@pytest.fixture(scope="session")
def random_network():
    """`random_network(architecture, seed)`: every parameter drawn, BatchNorm statistics too."""

    def build(architecture: str, seed: int = 0) -> nnx.Module:
        graph, state = nnx.split(architectures.abstract(architecture))
        rng = np.random.default_rng(seed)

        def drawn(leaf):
            if len(leaf.shape) < 2:  # slopes, biases, scales, means, variances
                return jnp.asarray(rng.uniform(0.1, 0.5, leaf.shape), leaf.dtype)
            fan_in = np.prod(leaf.shape[:-1])
            return jnp.asarray(rng.normal(0, (2 / fan_in) ** 0.5, leaf.shape), leaf.dtype)

        return nnx.merge(graph, jax.tree.map(drawn, state))

    return build
