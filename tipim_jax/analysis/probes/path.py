"""Probes of the path: what the search sees of the image, and how gradient, momentum and mask move."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tipim_jax.analysis.probes.measures import cosine, flips, norm, rms
from tipim_jax.analysis.probes.probe import Probe
from tipim_jax.core.objectives import squared_distance
from tipim_jax.core.types import Step

_AT_BOUND = 1e-3  # pixel levels: as good as at the bound in single precision


class Watched(NamedTuple):
    """State of `watched`: the last gradient and the last move (in units of epsilon), and what it wraps."""

    gradient: jax.Array
    move: jax.Array
    inner: Any


def watched(updates: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same updates, whose state also keeps the gradient they last took and the move they last gave.

    Two more images of memory per image; `movement` and `smoothness` compare consecutive steps with it.
    """

    def init(image: Any) -> Watched:
        return Watched(jnp.zeros_like(image), jnp.zeros_like(image), updates.init(image))

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Watched]:
        move, inner = updates.update(gradient, state.inner, params)
        return move, Watched(gradient, move, inner)

    return optax.GradientTransformation(init, update)


def _watched(state: Any) -> Watched:
    if not isinstance(state, Watched):
        raise ValueError("this probe compares steps: wrap the updates in `probes.watched`")
    return state


def _momentum(updates: Any) -> jax.Array | None:
    """The momentum in the state of any optax chain (`trace`, or `mu` of the Adam family), or None."""
    for name in ("trace", "mu"):
        found = optax.tree_utils.tree_get(updates, name)
        if found is not None:
            return found
    return None


def identity() -> Probe:
    """Losses, distances, gains and the choice of the target, as the search saw them.

    Distances are squared, of this step's (diversified) view of the image before the step.

    Quantities:
      target: [] int32; switched: [] 1 where it is not the last step's, NaN at step 0.
      loss: [] to the chosen target, with the MMD term.
      distance_source: []; distance_target: [T].
      gain: [T], NaN where the search did not look.
      naturalness: [] γ · MMD.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        loss = step.losses[step.choice.target]
        switched = (step.choice.target != step.before.target).astype(loss.dtype)
        return {
            "target": step.choice.target,
            "switched": jnp.where(step.number == 0, jnp.nan, switched),
            "loss": loss,
            "distance_source": squared_distance(step.embedding, step.problem.embedding),
            "distance_target": squared_distance(step.embedding, step.problem.targets),
            "gain": step.choice.gains,
            "naturalness": step.naturalness,
        }

    numbers = ("target", "switched", "loss", "distance_source", "naturalness")
    return Probe(
        measure,
        dict.fromkeys(numbers, ()) | {"distance_target": ("targets",), "gain": ("targets",)},
    )


def movement() -> Probe:
    """How gradient, momentum and mask move; the updates must be `watched`.

    Quantities, all []:
      gradient_norm: ℓ2 norm of the loss gradient before any normalisation, per pixel level.
      cos_gradients: cosine of this gradient and the last step's, NaN at step 0.
      cos_momentum: cosine of this gradient and the momentum that includes it.
      cos_momentum_mask: cosine of −momentum and the mask after the step (NaN without momentum).
      flips_gradient, flips_move: share of pixels whose gradient (move) has turned its sign since the last
        step, of those where it is not 0; NaN at step 0.
      at_bound: share of pixels of the mask within 0.001 levels of ε after the step; pixels without a
        budget do not count.
      step_rms: root mean square of what the image really moved by, pixel levels.
      step_kept: the same over that of the move before the projection.
      mask_rms: root mean square of the mask after the step, pixel levels.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        before, after = _watched(step.before.updates), _watched(step.after.updates)
        gradient, problem = step.choice.gradient, step.problem
        mask = step.after.image - problem.image
        moved = step.after.image - step.before.image
        momentum = _momentum(after.inner)
        unknown = jnp.full((), jnp.nan, gradient.dtype)
        epsilon = jnp.broadcast_to(problem.epsilon, mask.shape)
        held = (jnp.abs(mask) >= epsilon - _AT_BOUND) & (epsilon > 0)
        first = step.number == 0
        return {
            "gradient_norm": norm(gradient),
            "cos_gradients": jnp.where(first, jnp.nan, cosine(gradient, before.gradient)),
            "cos_momentum": unknown if momentum is None else cosine(gradient, momentum),
            "cos_momentum_mask": unknown if momentum is None else -cosine(momentum, mask),
            "flips_gradient": jnp.where(first, jnp.nan, flips(gradient, before.gradient)),
            "flips_move": jnp.where(first, jnp.nan, flips(after.move, before.move)),
            "at_bound": jnp.sum(held) / jnp.sum(epsilon > 0),
            "step_rms": rms(moved),
            "step_kept": rms(moved) / rms(problem.epsilon * after.move),
            "mask_rms": rms(mask),
        }

    names = (
        "gradient_norm",
        "cos_gradients",
        "cos_momentum",
        "cos_momentum_mask",
        "flips_gradient",
        "flips_move",
        "at_bound",
        "step_rms",
        "step_kept",
        "mask_rms",
    )
    return Probe(measure, dict.fromkeys(names, ()))
