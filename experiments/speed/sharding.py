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
from experiments.speed import contenders, machine
from experiments.speed.contenders import SETTING, Model
from tipim_jax.core import attack
from tipim_jax.core.types import AttackState, Problem, PyTree

AXIS = "images"
OURS, XLA = "shard_map", "XLA"
COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def collectives(program: Any) -> str:
    """The kinds of collectives in a compiled program, or "none"."""
    found = COLLECTIVE.findall(machine.known(program.as_text()))
    return ", ".join(sorted(set(found))) or "none"


def check(used: Model, devices: int, steps: int = 3) -> list[dict[str, Any]]:
    """Images of a batch of one image a device, against one device that does the images alone.

    `shard_map` runs the same program on every device, as `tipim protect` does. Where XLA splits the
    program of the whole batch, with the MMD or without, it compiles another one, whose rounding sign steps
    turn into whole levels.
    """
    given = contenders.inputs(used, 10, devices)
    method = methods.compose("tip_im", used.combined.embed, SETTING).attack
    problem = attack.prepare(
        *used.combined, given.images, given.targets, jnp.asarray(SETTING.epsilon)
    )
    keys = jax.random.split(jax.random.key(0), devices)
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (AXIS,))
    spread, everywhere = NamedSharding(mesh, P(AXIS)), NamedSharding(mesh, P())
    params = used.combined.params

    def protect(params: PyTree, keys: jax.Array, problem: Problem, gamma: float) -> jax.Array:
        state: AttackState = attack.initial_state(method, problem)
        end, _ = attack.run(
            method,
            params,
            keys,
            state,
            problem,
            num_steps=steps,
            gamma=gamma,
            record=attack.nothing,
        )
        return end.image

    each = partial(protect, gamma=0.0)
    alone = jax.jit(each)
    singles = (jax.tree.map(partial(_one, i), (keys, problem)) for i in range(devices))
    expected = np.concatenate([alone(params, *single) for single in singles])
    shared = (jax.device_put(params, everywhere), *jax.device_put((keys, problem), spread))
    mapped = jax.shard_map(
        each, mesh=mesh, in_specs=(P(), P(AXIS), P(AXIS)), out_specs=P(AXIS), check_vma=False
    )
    programs = [
        (OURS, 0.0, mapped),
        (XLA, 0.0, each),
        (XLA, 1.0, partial(protect, gamma=1.0)),
    ]
    rows = []
    for split, gamma, function in programs:
        compiled = jax.jit(function).lower(*shared).compile()
        reference = expected
        if gamma:  # the MMD ties the images together: one device must have them all
            reference = np.asarray(jax.jit(function)(params, keys, problem))
        difference = np.abs(np.asarray(compiled(*shared)) - reference)
        rows.append(
            {
                "model": used.name,
                "devices": devices,
                "split by": split,
                "γ": gamma,
                "largest difference": float(difference.max()),
                "collectives": collectives(compiled),
            }
        )
    return rows


def _one(index: int, rows: jax.Array) -> jax.Array:
    return rows[index : index + 1]
