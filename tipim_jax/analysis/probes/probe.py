"""A probe, and what becomes of the values that probes give at every step."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tipim_jax.core.attack import Record
from tipim_jax.core.types import Step


class Probe(NamedTuple):
    """One observation.

    Attributes:
      measure: `Step` of one image -> {quantity: value}; pure.
      axes: {quantity: names of the axes of its value}, () for a number.
      stride: it is measured at the steps that this divides.
    """

    measure: Callable[[Step], dict[str, jax.Array]]
    axes: Mapping[str, tuple[str, ...]]
    stride: int = 1


def every(probe: Probe, steps: int) -> Probe:
    """The probe at step 0 and every `steps`-th after it; it costs nothing in between.

    Raises:
      ValueError: for fewer than 1.
    """
    if steps < 1:
        raise ValueError(f"a stride of {steps} steps is none; give at least 1")
    return probe._replace(stride=steps)


def record(chosen: Iterable[Probe]) -> Record:
    """All probes together, for `attack.run`; build it once, the compiled program belongs to it.

    Between the steps of its stride a probe leaves NaN, and −1 in whole numbers; `thinned` drops them.

    Raises:
      ValueError: two probes measure a quantity of the same name.
    """
    probes = tuple(chosen)
    axes(probes)

    def measure(step: Step) -> dict[str, jax.Array]:
        values: dict[str, jax.Array] = {}
        for probe in probes:
            values |= _when_due(probe, step)
        return values

    return measure


def _when_due(probe: Probe, step: Step) -> dict[str, jax.Array]:
    if probe.stride == 1:
        return probe.measure(step)

    def nothing() -> dict[str, jax.Array]:
        shapes = jax.eval_shape(probe.measure, step)
        return jax.tree.map(
            lambda leaf: jnp.full(leaf.shape, _missing(leaf.dtype), leaf.dtype), shapes
        )

    # The step's number is not mapped over the batch, so this stays a branch.
    assert step.number is not None
    due = step.number % probe.stride == 0
    return lax.cond(due, lambda: probe.measure(step), nothing)


def _missing(dtype: Any) -> float:
    return math.nan if jnp.issubdtype(dtype, jnp.floating) else -1


def axes(chosen: Iterable[Probe]) -> dict[str, tuple[str, ...]]:
    """{quantity: names of all axes of its record}, "step" and "image" first.

    Raises:
      ValueError: two probes measure a quantity of the same name.
    """
    named: dict[str, tuple[str, ...]] = {}
    for probe in chosen:
        for quantity, own in probe.axes.items():
            if quantity in named:
                raise ValueError(f"two probes measure {quantity!r}")
            named[quantity] = ("step", "image", *own)
    return named


def steps(chosen: Iterable[Probe], num_steps: int) -> dict[str, np.ndarray]:
    """{quantity: numbers of the steps at which it is measured}."""
    return {
        quantity: np.arange(0, num_steps, probe.stride)
        for probe in chosen
        for quantity in probe.axes
    }


def thinned(chosen: Iterable[Probe], records: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Records {quantity: [N,B,...]} without the steps that were not measured: [⌈N / stride⌉,B,...]."""
    return {
        quantity: np.asarray(records[quantity][:: probe.stride])
        for probe in chosen
        for quantity in probe.axes
    }


def sizes(records: Mapping[str, Any]) -> dict[str, int]:
    """{quantity: bytes per image and recorded step} of records [N,B,...] or of their shapes.

    `jax.eval_shape(partial(attack.run, method, ...), ...)` gives the shapes without a run.
    """
    return {
        quantity: math.prod(leaf.shape[2:]) * leaf.dtype.itemsize
        for quantity, leaf in records.items()
    }
