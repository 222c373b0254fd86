"""A small network, the table of methods and double precision, for the tests of the core."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tipim_jax.core import attack, constraints, diversity, search, updates
from tipim_jax.core.gains import Gain
from tipim_jax.core.objectives import Objective
from tipim_jax.core.types import Attack, Problem, l2_normalise

MI = updates.mi_fgsm(0.25)
RELEASED = updates.mi_fgsm(0.25, direction=updates.l2_direction())
FIXED, DIM = search.fixed(1), diversity.resize_and_pad()
# Every method of the field is a composition: one row each.
METHODS = {
    "fgsm": dict(updates=updates.fgsm(), search=FIXED),
    "pgd": dict(updates=updates.pgd(0.25), search=FIXED),
    "mim": dict(updates=MI, search=FIXED),
    "dim": dict(updates=MI, search=FIXED, diversity=DIM),
    "tim": dict(updates=optax.chain(updates.smooth(5, 1.5), MI), search=search.nearest()),
    "mt-dim": dict(updates=MI, search=search.at_random(), diversity=DIM),
    "center-opt": dict(updates=MI, gain=Gain("sum")),
    "tip-im": dict(updates=MI),
    "tip-im-min": dict(updates=MI, gain=Gain("min")),
    "tip-im-released": dict(
        updates=RELEASED,
        objective=Objective(mean=True),
        gain=Gain(squared=False),
        diversity=diversity.released_affine(),
    ),
    "tip-im-l2": dict(updates=RELEASED, project=constraints.l2_ball),
    "first-order": dict(updates=MI, search=search.first_order()),
    "reach": dict(updates=MI, search=search.first(search.reach(2))),
    "every": dict(updates=MI, search=search.every(search.exhaustive(), 3)),
    "sticky": dict(updates=MI, search=search.sticky(search.first_order(), 1)),
    "dodging": dict(updates=MI, objective=Objective(attract=0.0), search=search.fixed()),
    "impersonation": dict(updates=MI, objective=Objective(repel=0.0)),
}


def dense(params, image):
    """Two dense layers: compiles in no time, depends on every pixel, smooth."""
    hidden = jnp.tanh(params["w"] @ ((image - 127.5) / 128).reshape(-1))
    return l2_normalise(params["v"] @ hidden)


@cache
def composed(name: str, **options) -> Attack:
    """Built once, so that tests share what is compiled for it."""
    return attack.tip_im(dense, **METHODS[name], **options)


class World(NamedTuple):
    """A network, photos of whole levels and targets on the unit sphere; NumPy, float64."""

    params: dict
    images: np.ndarray  # [3,8,10,3]
    targets: np.ndarray  # [4,12]
    embed = staticmethod(dense)
    method = staticmethod(composed)

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


@pytest.fixture(params=METHODS)
def method_name(request) -> str:
    return request.param
