"""Probes of the loss around the image: stretch, curvature, and the spectra of Hessian and Jacobian."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tipim_jax.analysis import curvature
from tipim_jax.analysis.probes.measures import norm
from tipim_jax.analysis.probes.probe import Probe
from tipim_jax.core.objectives import Objective, identity_loss
from tipim_jax.core.types import Embed, Step, carried


def _loss(embed: Embed, objective: Objective, step: Step) -> Callable[[jax.Array], jax.Array]:
    """The identity loss of the step's target as a function of the image, without a random view."""
    problem = step.problem
    assert problem is not None
    target = problem.targets[step.choice.target]
    return lambda x: identity_loss(
        objective, embed(step.params, carried(problem, x)), problem.embedding, target
    )


def smoothness(embed: Embed, objective: Objective = Objective()) -> Probe:
    """Local Lipschitz estimates and curvature over each step, on the image without a random view.

    Quantities, all []:
      lipschitz_embedding: ‖f(x') − f(x)‖ / ‖x' − x‖, per pixel level.
      lipschitz_gradient: ‖∇L(x') − ∇L(x)‖ / ‖x' − x‖, per squared pixel level.
      curvature_secant: ⟨∇L(x') − ∇L(x), x' − x⟩ / ‖x' − x‖² (`curvature.secant_curvature`).
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        problem = step.problem
        assert problem is not None
        target = problem.targets[step.choice.target]

        def end(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            f, pull = jax.vjp(lambda x: embed(step.params, carried(problem, x)), x)
            gradient = jax.grad(identity_loss, 1)(objective, f, problem.embedding, target)
            return f, pull(gradient)[0]

        (f, gradient), (g, turned) = end(step.before.image), end(step.after.image)
        moved = step.after.image - step.before.image
        length = norm(moved)
        return {
            "lipschitz_embedding": norm(g - f) / length,
            "lipschitz_gradient": norm(turned - gradient) / length,
            "curvature_secant": curvature.secant_curvature(gradient, turned, moved),
        }

    names = ("lipschitz_embedding", "lipschitz_gradient", "curvature_secant")
    return Probe(measure, dict.fromkeys(names, ()))


def hessian(
    embed: Embed, objective: Objective = Objective(), *, count: int = 3, products: int = 10
) -> Probe:
    """Both ends of the spectrum of the loss Hessian, exact at the image before the step (`curvature`).

    Quantities:
      hessian_top: [k] largest eigenvalues, descending; hessian_bottom: [k] smallest, ascending; per
        squared pixel level.
      curvature_update: [] dᵀHd / ‖d‖² along this step's update.

    Args:
      embed: of the attack.
      objective: the loss.
      count: k.
      products: m ≥ 2 k, the Lanczos steps.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        loss, x = _loss(embed, objective, step), step.before.image
        start = jax.random.normal(_key(step), x.shape, x.dtype)
        found = curvature.lanczos(lambda v: curvature.hessian_product(loss, x, v), start, products)
        moved = step.after.image - x
        return {
            "hessian_top": found.values[:count],
            "hessian_bottom": found.values[::-1][:count],
            "curvature_update": curvature.directional_curvature(loss, x, moved),
        }

    return Probe(
        measure,
        {"hessian_top": ("index",), "hessian_bottom": ("index",), "curvature_update": ()},
    )


def jacobian(embed: Embed, *, count: int = 3, iterations: int = 8) -> Probe:
    """The directions in which the embedding stretches most at the image before the step.

    Quantities:
      singular: [k] largest singular values of the embedding's Jacobian, per pixel level; the first is the
        local Lipschitz constant.
      update_in_singular: [] share of the update's energy in their right singular vectors; gradient_in_singular:
        [] the same of the gradient.

    Args:
      embed: of the attack: (params, image) -> [D].
      count: k ≤ D.
      iterations: of the block power iteration.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        problem, x = step.problem, step.before.image
        assert problem is not None
        start = jax.random.normal(_key(step), (count, *x.shape), x.dtype)
        found = curvature.singular(
            lambda x: embed(step.params, carried(problem, x)), x, start, iterations
        )

        def inside(v: jax.Array) -> jax.Array:
            parts = jnp.tensordot(found.vectors, v, v.ndim)
            return jnp.sum(parts**2) / jnp.sum(v**2)

        return {
            "singular": found.values,
            "update_in_singular": inside(step.after.image - x),
            "gradient_in_singular": inside(step.choice.gradient),
        }

    return Probe(
        measure,
        {"singular": ("index",), "update_in_singular": (), "gradient_in_singular": ()},
    )


def _key(step: Step) -> jax.Array:
    """A start for the iterations, of its own for every step; it has nothing to do with the attack's keys."""
    assert step.number is not None
    return jax.random.fold_in(jax.random.key(0), step.number)
