"""Probes of several gradients at once: of the targets, and of recognisers that only look on."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from tipim_jax.analysis.probes.probe import Probe
from tipim_jax.core.objectives import Objective, cotangent
from tipim_jax.core.types import Embed, PyTree, Step, carried


def similarity(embeds: Sequence[Embed]) -> Probe:
    """Cosines that the witnesses see after the step, on the image as it is (no random view).

    Quantities:
      similarity_source: [K] to the real photo; similarity_target: [K,T] to every target.

    Args:
      embeds: K, one for each of `Step.witnesses`: (params, image) -> [D_k].
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        image, known = carried(step.problem, step.after.image), step.witnesses
        seen = [f(p, image) for f, p in zip(embeds, known.params, strict=True)]
        return {
            "similarity_source": jnp.stack([jnp.vdot(e, s) for e, s in zip(seen, known.sources)]),
            "similarity_target": jnp.stack([t @ e for e, t in zip(seen, known.targets)]),
        }

    return Probe(
        measure,
        {"similarity_source": ("witness",), "similarity_target": ("witness", "targets")},
    )


def gram(embed: Embed, objective: Objective = Objective()) -> Probe:
    """How different the gradients are that the search chooses from, at the image before the step.

    Quantities:
      gram: [T,T] cosines of the gradients of the T losses (their Gram matrix at unit norm).
      target_gradient_norm: [T] their ℓ2 norms.
      effective_rank: [] exp of the entropy of the Gram matrix's normalised eigenvalues (Roy & Vetterli,
        2007): 1 if all gradients are parallel, T if orthogonal.
      condition: [] its largest eigenvalue over its smallest, at most 1e6.

    Args:
      embed: of the attack: (params, image) -> [D].
      objective: the loss.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        problem = step.problem
        assert problem is not None
        _, pull = jax.vjp(lambda x: embed(step.params, carried(problem, x)), step.before.image)
        anchors = jnp.concatenate([problem.embedding[None], problem.targets])
        pulled = jax.vmap(lambda c: pull(c)[0])(anchors)
        gradients = cotangent(objective, anchors.shape[-1], pulled[0], pulled[1:])
        flat = gradients.reshape(len(problem.targets), -1)
        norms = jnp.sqrt(jnp.sum(flat * flat, axis=1))
        unit = flat / jnp.where(norms > 0, norms, 1)[:, None]
        cosines = unit @ unit.T
        values = jnp.maximum(jnp.linalg.eigvalsh(cosines), 0)
        shares = values / jnp.sum(values)
        entropy = -jnp.sum(shares * jnp.log(jnp.where(shares > 0, shares, 1)))
        return {
            "gram": cosines,
            "target_gradient_norm": norms,
            "effective_rank": jnp.exp(entropy),
            "condition": values[-1] / jnp.maximum(values[0], 1e-6 * values[-1]),
        }

    return Probe(
        measure,
        {
            "gram": ("targets", "other_targets"),
            "target_gradient_norm": ("targets",),
            "effective_rank": (),
            "condition": (),
        },
    )


def agreement(embeds: Sequence[Embed]) -> Probe:
    """Whether recognisers agree on where to go, and whether their gradients foretell what a step does.

    Every witness has a margin, its cosine to the step's target minus that to the real photo, which
    (times −2) is its loss. Gradients are taken at the image before the step, without a random view.

    Quantities:
      gradient_cosine: [K,K] of the margins' gradients.
      gradient_sign: [K,K] share of pixels where two gradients have the same sign, of those where neither
        is 0; ½ for unrelated ones.
      predicted: [K] change of the margin by the step, to first order; realised: [K] the change itself.

    Args:
      embeds: K, one for each of `Step.witnesses`: (params, image) -> [D_k]; put the surrogates among them
        to compare with them.
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        problem, known = step.problem, step.witnesses
        assert problem is not None
        moved = step.after.image - step.before.image
        gradients, predicted, realised = [], [], []
        rows = zip(embeds, known.params, known.sources, known.targets, strict=True)
        for embed, params, source, targets in rows:

            def margin(
                x: jax.Array,
                embed: Embed = embed,
                params: PyTree = params,
                way: jax.Array = targets[step.choice.target] - source,
            ) -> jax.Array:
                return jnp.vdot(embed(params, carried(problem, x)), way)

            value, gradient = jax.value_and_grad(margin)(step.before.image)
            gradients.append(gradient.reshape(-1))
            predicted.append(jnp.vdot(gradient, moved))
            realised.append(margin(step.after.image) - value)
        stacked = jnp.stack(gradients)
        norms = jnp.sqrt(jnp.sum(stacked**2, axis=1))
        signs = jnp.sign(stacked)
        both = jnp.abs(signs) @ jnp.abs(signs).T
        return {
            "gradient_cosine": stacked @ stacked.T / (norms[:, None] * norms),
            "gradient_sign": (signs @ signs.T / both + 1) / 2,
            "predicted": jnp.stack(predicted),
            "realised": jnp.stack(realised),
        }

    return Probe(
        measure,
        {
            "gradient_cosine": ("witness", "other_witness"),
            "gradient_sign": ("witness", "other_witness"),
            "predicted": ("witness",),
            "realised": ("witness",),
        },
    )


def witness_sources(
    embeds: Sequence[Embed], params: Sequence[PyTree], images: jax.Array
) -> tuple[jax.Array, ...]:
    """K × [B,D_k] embeddings of real photos [B,H,W,C], the `sources` of `Witnesses`."""
    return tuple(jax.vmap(f, (None, 0))(p, images) for f, p in zip(embeds, params, strict=True))
