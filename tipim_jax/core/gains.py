"""What a candidate is worth to the search over targets (Eq. 7).

A gain maps squared distances of one candidate, to the source [] and to every target [T], to a number [].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Gain(NamedTuple):
    """log(1 + reduce_j exp(d(x', x_r) − d(x', x_j))).

    Attributes:
      reduce: "max" (TIP-IM), "sum" (Center-Opt) or "min".
      squared: distances squared as the paper writes them, or plain as in the released code.
    """

    reduce: str = "max"
    squared: bool = True


def gain(kind: Gain, to_source: jax.Array, to_targets: jax.Array) -> jax.Array:
    """The gain of one candidate from its squared distances, [] and [T] -> [].

    Raises:
      ValueError: for an unknown reduction.
    """
    # The rounding of 2 − 2 cos can dip below zero where a candidate sits on a target.
    to_source, to_targets = jnp.maximum(to_source, 0), jnp.maximum(to_targets, 0)
    if not kind.squared:
        to_source, to_targets = jnp.sqrt(to_source), jnp.sqrt(to_targets)
    margin = to_source - to_targets
    if kind.reduce == "max":
        return jnp.logaddexp(0.0, jnp.max(margin))
    if kind.reduce == "min":
        return jnp.logaddexp(0.0, jnp.min(margin))
    if kind.reduce == "sum":
        return jnp.logaddexp(0.0, jax.nn.logsumexp(margin))
    raise ValueError(f"unknown gain {kind.reduce!r}: use 'max', 'sum' or 'min'")
