"""Optimisers of an attack side by side: each an optax chain of the same total travel, at equal PSNR.

Steps are in units of ε. A ball of the same ε does not give masks of the same visibility: a steady optimiser
fills it to the brim, a wandering one does not. So every variant is first run on a few images at the ε of the
setting, and then on all of them at the ε that brings its PSNR to that of the reference:
ε' = ε · 10^((PSNR − reference) / 20), since masks grow in proportion to ε. Protected images are rounded to the
nearest level, without `round_within`, whose floor of ε would undo the matching.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.judging import ranking
from experiments.protection import specs
from experiments.protection.methods import Setting
from experiments.protection.runs import Run
from experiments.recordings import recorder
from experiments.recordings.recorder import Watch
from experiments.reporting import bootstrap
from tipim_jax.core.updates import l2_direction, sign, unit_mean_abs
from tipim_jax.errors import UserError

Make = Callable[[int], optax.GradientTransformation]  # number of steps -> updates

TRAVEL = 4.5  # length of all steps together in units of ε, as in `tipim protect`
PILOT = 20  # images that the ε of a variant is found on
REFERENCE = "momentum 1"
MEASURES = ("Rank-1-UT", "Rank-1-T")


def _chain(
    *parts: optax.GradientTransformation,
    schedule: Callable[[jax.Array, int], jax.Array] | None = None,
) -> Make:
    """The parts, then steps of a schedule (step, N) -> weight, scaled to the total travel."""

    def make(steps: int) -> optax.GradientTransformation:
        if schedule is None:
            return optax.chain(*parts, optax.scale(-TRAVEL / steps))
        total = float(jnp.sum(schedule(jnp.arange(steps), steps)))
        last = optax.scale_by_schedule(lambda step: -TRAVEL / total * schedule(step, steps))
        return optax.chain(*parts, last)

    return make


def _momentum(decay: float, *, nesterov: bool = False) -> Make:
    return _chain(unit_mean_abs(), optax.trace(decay, nesterov), sign())


def _cosine(step: jax.Array, steps: int) -> jax.Array:
    return (1 + jnp.cos(math.pi * (step + 0.5) / steps)) / 2


def _inverse_root(step: jax.Array, steps: int) -> jax.Array:
    return 1 / jnp.sqrt(step + 1.0)


_MI = (unit_mean_abs(), optax.trace(1.0), sign())
VARIANTS: dict[str, Make] = {
    "momentum 0": _momentum(0.0),
    "momentum 0.5": _momentum(0.5),
    "momentum 0.9": _momentum(0.9),
    REFERENCE: _momentum(1.0),
    "Nesterov 0.9": _momentum(0.9, nesterov=True),
    "Nesterov 1": _momentum(1.0, nesterov=True),
    "Adam": _chain(unit_mean_abs(), optax.scale_by_adam()),
    "AdaBelief": _chain(unit_mean_abs(), optax.scale_by_belief()),
    "Lion": _chain(unit_mean_abs(), optax.scale_by_lion()),
    "cosine steps": _chain(*_MI, schedule=_cosine),
    "1/√t steps": _chain(*_MI, schedule=_inverse_root),
    "no normalisation": _chain(optax.trace(1.0), sign()),
    "sign normalisation": _chain(sign(), optax.trace(1.0), sign()),
    "ℓ2 normalisation": _chain(l2_direction(), optax.trace(1.0), sign()),
    "ℓ2 direction": _chain(unit_mean_abs(), optax.trace(1.0), l2_direction()),
}


def nearest_level(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
    """Whole levels, half a level outside the ball at most."""
    return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


class Result(NamedTuple):
    """The outcome of a variant at its ε."""

    name: str
    epsilon: float
    recording: xr.Dataset


def study(
    run: Run, bench: ranking.Bench, source: str, setting: Setting, names: Sequence[str]
) -> list[Result]:
    """Variants by their names at equal PSNR, kept part by part."""
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        raise UserError(f"there is no optimiser {unknown[0]!r}; use {', '.join(VARIANTS)}")
    few = run._replace(probes=min(PILOT, run.probes))

    def watched(run: Run, name: str, epsilon: float, cell: str) -> xr.Dataset:
        made = VARIANTS[name](setting.steps)
        own = specs.named(f"{source}/tip_im", setting._replace(epsilon=epsilon))
        watch = Watch(own, (), updates=lambda _: made, rounded=nearest_level)
        return recorder.watched(run, bench, watch, f"{cell} {name.replace('/', ' per ')}").recording

    def psnr(name: str) -> float:
        return float(np.mean(watched(few, name, setting.epsilon, "pilot")["PSNR"]))

    reference = psnr(REFERENCE)
    results = []
    for name in names:
        epsilon = round(setting.epsilon * 10 ** ((psnr(name) - reference) / 20), 3)
        results.append(Result(name, epsilon, watched(run, name, epsilon, "equal")))
    return results


def rows(results: list[Result], white: tuple[str, ...]) -> list[dict[str, Any]]:
    """A row for each variant: ε, PSNR, and Rank-1 on the surrogates and the unseen judges (shares); where the
    reference is among them, also the paired difference to it on unseen judges with its 95 % interval."""
    table = []
    reference = next((result for result in results if result.name == REFERENCE), None)
    for name, epsilon, made in results:
        surrogate = made["judge"].isin(white)
        row = {"optimiser": name, "ε": epsilon, "PSNR": float(made["PSNR"].mean())}
        for who, columns in (("unseen", ~surrogate), ("surrogate", surrogate)):
            for measure in MEASURES:
                row[f"{measure}, {who}"] = float(made[measure][:, columns].mean())
        if reference is not None:
            for measure in MEASURES:
                own, its = (
                    one[measure][:, ~surrogate].mean("judge") for one in (made, reference.recording)
                )
                mean, low, high = bootstrap.paired(own.values, its.values)
                row[f"{measure} against {REFERENCE}"] = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        table.append(row)
    return table
