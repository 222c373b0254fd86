"""What an attack computes: operations of a pass, passes of a face, and the faces per second that follow."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core import attack
from tipim_jax.core.ensemble import Ensemble
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.types import Attack, Embed, l2_normalise

# FLOP/s that a device sustains: 40 % of the dense bfloat16 peaks that the makers state (H100 SXM without
# sparsity; TPU v5e), and three round figures.
SUSTAINED = {
    "H100 at 40 %": 0.4 * 989e12,
    "TPU v5e at 40 %": 0.4 * 197e12,
    **{f"a device that sustains {tera} TFLOP/s": 1e12 * tera for tera in (10, 50, 100)},
}


class Passes(NamedTuple):
    """Of a network: how often a face goes through it, or what one time costs (FLOP)."""

    forward: float
    pull_back: float


def flops(used: Ensemble) -> Passes:
    """Floating-point operations of a forward pass and of a pull-back, by XLA's cost analysis."""
    canvas = jnp.zeros((CANVAS_SIZE, CANVAS_SIZE, 3))
    cotangent = jax.eval_shape(used.embed, used.params, canvas)

    def both(params: Any, canvas: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(partial(used.embed, params), canvas)[1](cotangent)[0]

    forward = jax.jit(used.embed).lower(used.params, canvas).compile()
    whole = jax.jit(both).lower(used.params, canvas, cotangent).compile()
    accounts: list[Any] = [compiled.cost_analysis() for compiled in (forward, whole)]
    one, two = (float(account["flops"]) for account in accounts)
    return Passes(one, two - one)


def passes(compose: Callable[[Embed], Attack], targets: int, steps: int) -> Passes:
    """Forward passes and pull-backs of one face towards so many targets, counted as they happen."""
    seen = Counter[str]()

    @jax.custom_vjp
    def embed(params: jax.Array, image: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: seen.update(["forward"]))
        return l2_normalise(params @ image.reshape(-1))

    def there(params: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        return embed(params, image), params

    def back(params: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        # The callback must depend on the cotangent, to be called for each.
        jax.debug.callback(lambda _: seen.update(["pull_back"]), cotangent[0])
        return params, (cotangent @ params).reshape(8, 8, 3)

    embed.defvjp(there, back)
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=(targets + 2, 192)), jnp.float32)
    images = jnp.asarray(rng.integers(0, 256, (1, 8, 8, 3)), jnp.float32)
    method = compose(embed)
    goals = jnp.eye(targets, targets + 2)
    problem = attack.prepare(embed, params, images, goals, jnp.asarray(8.0))
    jax.effects_barrier()
    seen.clear()
    state = attack.initial_state(method, problem)
    keys = jax.random.split(jax.random.key(0), 1)
    jax.block_until_ready(attack.run(method, params, keys, state, problem, num_steps=steps))
    jax.effects_barrier()
    return Passes(seen["forward"], seen["pull_back"])


def operations(made: Passes, each: Passes) -> float:
    """FLOP of a face."""
    return made.forward * each.forward + made.pull_back * each.pull_back


def capacity(
    name: str, made: Passes, each: Passes, measured: Mapping[str, float]
) -> list[dict[str, Any]]:
    """A row per device: what it does if operations are all that counts, or was measured to do (faces/s).

    `made` are the passes of a face, `each` the FLOP of a pass.
    """
    per_face = operations(made, each)
    rates = {**measured} | {device: rate / per_face for device, rate in SUSTAINED.items()}
    return [
        {
            "model": name,
            "GFLOP forward": each.forward / 1e9,
            "GFLOP pull-back": each.pull_back / 1e9,
            "forward passes": made.forward,
            "pull-backs": made.pull_back,
            "GFLOP/face": per_face / 1e9,
            "device": device,
            "faces/s": rate,
            "hours for 1 M faces": 1e6 / rate / 3600,
            "hours for 100 M faces": 1e8 / rate / 3600,
        }
        for device, rate in rates.items()
    ]
