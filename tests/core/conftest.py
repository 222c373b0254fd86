"""A small network and double precision, for the tests of the core."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tipim_jax import attack
from tipim_jax.types import Attack, Problem, l2_normalise


def dense(params, image):
    """Two dense layers: compiles in no time, depends on every pixel, smooth."""
    hidden = jnp.tanh(params["w"] @ ((image - 127.5) / 128).reshape(-1))
    return l2_normalise(params["v"] @ hidden)


class World(NamedTuple):
    """A network, photos of whole levels and targets on the unit sphere; NumPy, float64."""

    params: dict
    images: np.ndarray  # [3,8,10,3]
    targets: np.ndarray  # [4,12]
    embed = staticmethod(dense)

    def problem(self, epsilon=12.0, images=None, targets=None) -> Problem:
        images = self.images if images is None else images
        targets = self.targets if targets is None else targets
        return attack.prepare(
            dense, self.params, jnp.asarray(images), jnp.asarray(targets), epsilon
        )

    def run(self, method: Attack, problem: Problem, keys=None, **options):
        """`attack.run` from the start; records every field that is compared below."""
        keys = jax.random.split(jax.random.key(5), len(problem.image)) if keys is None else keys
        options = {"num_steps": 4, "record": everything} | options
        return attack.run(
            method, self.params, keys, attack.initial_state(method, problem), problem, **options
        )


def everything(step):
    return {
        "image": step.after.image,
        "target": step.choice.target,
        "gains": step.choice.gains,
        "losses": step.losses,
        "embedding": step.embedding,
    }


@pytest.fixture(scope="session")
def world() -> World:
    rng = np.random.default_rng(7)
    params = {"w": rng.normal(size=(24, 240)) * 0.1, "v": rng.normal(size=(12, 24)) * 20}
    images = rng.integers(0, 256, (3, 8, 10, 3)).astype(np.float64)
    targets = rng.normal(size=(4, 12))
    return World(params, images, targets / np.linalg.norm(targets, axis=1, keepdims=True))


@pytest.fixture
def x64():
    """Double precision inside one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def quick_compile():
    """Halves the time of compilation, for tests that compile more than they compute."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
