"""How much memory an attack takes: the compiled program's own account, for few and many targets."""

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp

from experiments import machine, methods
from tipim_jax import attack, search, updates
from tipim_jax.ensemble import Ensemble
from tipim_jax.geometry import CANVAS_SIZE
from tipim_jax.types import Attack, Problem, PyTree

BATCH = 8
CHUNK = 5
# Name -> how the targets are worked through.
MODES: dict[str, dict[str, Any]] = {
    "all at once": {"chunk": 20},
    "1 at a time": {"chunk": 1},
    f"{CHUNK} at a time": {"chunk": CHUNK},
    f"{CHUNK} at a time, forward pass repeated": {"chunk": CHUNK, "remat": True},
}


def temporary(method: Attack, params: PyTree, problem: Problem, steps: int = 2) -> int:
    """Bytes that a compiled run of an attack needs beside its arguments and results.

    Args:
      method: the attack.
      params: of its embedding.
      problem: a batch [B, ...], shapes alone are looked at.
      steps: more take no more memory.
    """
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), problem.image.shape[0]))
    state = jax.eval_shape(lambda p: attack.initial_state(method, p), problem)
    lowered = attack.run.lower(
        *(method, params, keys, state, problem), num_steps=steps, record=attack.nothing
    )
    return int(machine.known(lowered.compile().memory_analysis()).temp_size_in_bytes)


def rows(used: Ensemble, counts: tuple[int, int] = (5, 20)) -> list[dict[str, Any]]:
    """A row per search and mode: MiB for few and for many targets, and how they compare."""
    setting, made = methods.Setting(), []
    images = jax.ShapeDtypeStruct((BATCH, CANVAS_SIZE, CANVAS_SIZE, 3), jnp.float32)
    size = jax.eval_shape(used.embed, used.params, images.update(shape=images.shape[1:])).shape[0]
    searches = {"exhaustive": search.exhaustive(), "default": search.default()}
    for (name, chosen), (mode, options) in product(searches.items(), MODES.items()):
        method = attack.tip_im(
            used.embed,
            updates.mi_fgsm(setting.alpha / setting.epsilon),
            search=chosen,
            diversity=methods.DIVERSITIES[setting.diversity](),
            **options,
        )
        few, many = (
            temporary(
                method,
                used.params,
                jax.eval_shape(
                    lambda i, t: attack.prepare(used.embed, used.params, i, t, jnp.asarray(12.0)),
                    images,
                    jax.ShapeDtypeStruct((count, size), jnp.float32),
                ),
            )
            / 2**20
            for count in counts
        )
        made.append(
            {
                "search": name,
                "targets": mode,
                f"T = {counts[0]}, MiB": round(few),
                f"T = {counts[1]}, MiB": round(many),
                "ratio": many / few,
            }
        )
    return made
