"""From a gradient to a step: optax transforms, and the classic attacks as their compositions.

Steps are in units of epsilon: a sign step of 0.1 moves every pixel by a tenth of its own budget, so the
same transform serves a scalar epsilon and a perceptual map. The paper's α = 1.5 at ε = 12 is 0.125,
the released default α = 1.5 ε / iterations is 1.5 / iterations.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def _stateless(
    transform: Callable[[jax.Array], jax.Array],
) -> optax.GradientTransformation:
    return optax.stateless(lambda g, _: jax.tree.map(transform, g))


def unit_mean_abs() -> optax.GradientTransformation:
    """g / mean(|g|) over the image (Eq. 5); a zero gradient stays zero."""

    def transform(g: jax.Array) -> jax.Array:
        scale = jnp.mean(jnp.abs(g))
        return jnp.where(scale > 0, g / jnp.where(scale > 0, scale, 1), 0)

    return _stateless(transform)


def sign() -> optax.GradientTransformation:
    """sign(g): the steepest direction of the ℓ∞ ball (Eq. 6)."""
    return _stateless(jnp.sign)


def l2_direction() -> optax.GradientTransformation:
    """g / ‖g‖₂ · sqrt(H·W·C): the steepest direction of the ℓ2 ball, root mean square 1."""

    def transform(g: jax.Array) -> jax.Array:
        norm = jnp.sqrt(jnp.sum(g * g))
        return jnp.where(norm > 0, g / jnp.where(norm > 0, norm, 1) * jnp.sqrt(g.size), 0)

    return _stateless(transform)


def smooth(size: int = 7, sigma: float = 3.0) -> optax.GradientTransformation:
    """Gaussian smoothing of the gradient over the image (translation-invariant attack, TIM)."""
    offsets = jnp.arange(size) - (size - 1) / 2
    kernel = jnp.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()

    def transform(g: jax.Array) -> jax.Array:
        def along(axis: int, g: jax.Array) -> jax.Array:
            return jnp.apply_along_axis(
                lambda line: jnp.convolve(line, kernel.astype(g.dtype), mode="same"), axis, g
            )

        return along(1, along(0, g))

    return _stateless(transform)


def mi_fgsm(
    step: float, *, decay: float = 1.0, direction: optax.GradientTransformation | None = None
) -> optax.GradientTransformation:
    """Momentum iterative steps (Eq. 5-6): mean-abs normalisation, momentum, direction, step.

    Args:
      step: step length α / ε.
      decay: momentum μ.
      direction: `sign()` (default), `l2_direction()` or a ball's (`balls.lp`).
    """
    return optax.named_chain(
        ("normalise", unit_mean_abs()),
        ("momentum", optax.trace(decay)),
        ("direction", sign() if direction is None else direction),
        ("step", optax.scale(-step)),
    )


def pgd(step: float) -> optax.GradientTransformation:
    """Sign steps without momentum (PGD, BIM)."""
    return optax.named_chain(("direction", sign()), ("step", optax.scale(-step)))


def fgsm() -> optax.GradientTransformation:
    """One sign step to the corner of the ball; to be run for a single step."""
    return pgd(1.0)
