"""Networks with random weights."""

import pytest

from ports import architectures, random_weights


@pytest.fixture(scope="session")
def random_network():
    """`random_network(architecture)`: every parameter drawn, BatchNorm statistics too."""
    return lambda name: random_weights.network(architectures.abstract(name))
