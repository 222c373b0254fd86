"""Whether spreading a batch over devices changes its images, and what the devices tell each other."""

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.protection import methods
from experiments.speed import contenders, cost
from experiments.speed.contenders import SETTING, Model
from tipim_jax.core import attack
from tipim_jax.core.types import Problem, PyTree

AXIS = "images"
OURS, XLA = "shard_map", "XLA"
COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def check(used: Model, devices: int, steps: int = 3) -> list[dict[str, Any]]:
    """Images of a batch of one image a device, against one device that does the images alone.

    `shard_map` runs the same program on every device, as `tipim protect` does. Where XLA splits the
    program of the whole batch, with the MMD or without, it compiles another one, whose rounding sign steps
    turn into whole levels.
    """
    given = contenders.inputs(used, 10, devices)
    method = methods.compose("tip_im", used.combined.embed, SETTING).attack
    epsilon = jnp.asarray(SETTING.epsilon)
    problem = attack.prepare(*used.combined, given.images, given.targets, epsilon)
    keys = jax.random.split(jax.random.key(0), devices)
    params = used.combined.params

    def protect(params: PyTree, keys: jax.Array, problem: Problem, gamma: float) -> jax.Array:
        state = attack.initial_state(method, problem)
        kept = {"num_steps": steps, "gamma": gamma, "record": attack.nothing}
        return attack.run(method, params, keys, state, problem, **kept)[0].image

    each, tied = partial(protect, gamma=0.0), partial(protect, gamma=1.0)
    alone = jax.jit(each)
    singles = [jax.tree.map(lambda x, i=i: x[i : i + 1], (keys, problem)) for i in range(devices)]
    expected = np.concatenate([alone(params, *single) for single in singles])
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))
    spread = jax.device_put((keys, problem), NamedSharding(mesh, P(AXIS)))
    shared = (jax.device_put(params, NamedSharding(mesh, P())), *spread)
    mapped = jax.shard_map(
        each, mesh=mesh, in_specs=(P(), P(AXIS), P(AXIS)), out_specs=P(AXIS), check_vma=False
    )
    rows = []
    for split, gamma, function in ((OURS, 0.0, mapped), (XLA, 0.0, each), (XLA, 1.0, tied)):
        compiled = jax.jit(function).lower(*shared).compile()
        # The MMD ties the images together: one device must have them all.
        reference = jax.jit(function)(params, keys, problem) if gamma else expected
        difference = np.abs(np.asarray(compiled(*shared)) - np.asarray(reference))
        found = sorted(set(COLLECTIVE.findall(cost.known(compiled.as_text()))))
        rows.append(
            {
                "model": used.name,
                "devices": devices,
                "split by": split,
                "γ": gamma,
                "largest difference": float(difference.max()),
                "collectives": ", ".join(found) or "none",
            }
        )
    return rows
