"""Watching an attack move: pure observations of each step, chosen one by one and stacked by the scan.

A probe maps a `Step` of one image to a dictionary of quantities; `record` joins probes to what
`attack.run(record=...)` takes. What no probe asks for is not computed, and nothing a probe does flows back.
Probes that compare with the step before need the updates wrapped in `watched`.

| probe            | passes per recorded step                           | bytes per image and recorded step |
|------------------|----------------------------------------------------|-----------------------------------|
| `identity`       | none                                               | 20 + 8 T                          |
| `movement`       | none; the state grows by two images                | 40                                |
| `frequency`      | none                                               | 8 (S/2 + 1)                       |
| `face_regions`   | none                                               | 32                                |
| `similarity`     | K F                                                | 4 K (1 + T)                       |
| `gram`           | 1 F + (T + 1) P                                    | 4 T² + 4 T + 8                    |
| `agreement`      | 2 K F + K P                                        | 8 K² + 8 K                        |
| `smoothness`     | 2 F + 2 P                                          | 12                                |
| `hessian`        | (m + 1) Hessian products, each about 2 F + 2 P     | 8 k + 4                           |
| `jacobian`       | (i + 1) k products J v and i k of Jᵀ u, 1 F        | 4 k + 8                           |

F: forward pass, P: pull-back; T targets, K witnesses, S the image's side; 4 bytes a number in single
precision. `sizes` gives the exact figures of any choice. Nothing is batched over quantities: the memory
while a probe runs is that of its passes.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from tipim_jax.analysis import curvature, spectrum
from tipim_jax.core.attack import Record
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.core.objectives import Objective, cotangent, identity_loss, squared_distance
from tipim_jax.core.types import Embed, PyTree, Step, carried

_AT_BOUND = 1e-3  # pixel levels: as good as at the bound in single precision


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


def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """⟨a, b⟩ / (‖a‖ ‖b‖): []; NaN where one of them is 0."""
    return jnp.vdot(a, b) / (_norm(a) * _norm(b))


def _norm(a: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.vdot(a, a))


def _rms(a: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(a * a))


def _flips(a: jax.Array, b: jax.Array) -> jax.Array:
    """Share of opposite signs among the entries where neither is 0."""
    product = a * b
    return jnp.sum(product < 0) / jnp.sum(product != 0)


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
        measure, dict.fromkeys(numbers, ()) | {"distance_target": ("target",), "gain": ("target",)}
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
            "gradient_norm": _norm(gradient),
            "cos_gradients": jnp.where(first, jnp.nan, cosine(gradient, before.gradient)),
            "cos_momentum": unknown if momentum is None else cosine(gradient, momentum),
            "cos_momentum_mask": unknown if momentum is None else -cosine(momentum, mask),
            "flips_gradient": jnp.where(first, jnp.nan, _flips(gradient, before.gradient)),
            "flips_move": jnp.where(first, jnp.nan, _flips(after.move, before.move)),
            "at_bound": jnp.sum(held) / jnp.sum(epsilon > 0),
            "step_rms": _rms(moved),
            "step_kept": _rms(moved) / _rms(problem.epsilon * after.move),
            "mask_rms": _rms(mask),
        }

    names = (
        *("gradient_norm", "cos_gradients", "cos_momentum", "cos_momentum_mask", "flips_gradient"),
        *("flips_move", "at_bound", "step_rms", "step_kept", "mask_rms"),
    )
    return Probe(measure, dict.fromkeys(names, ()))


def frequency() -> Probe:
    """Radially averaged power of gradient and mask (`spectrum.radial`); images must be square.

    Quantities, each [S/2+1], 1 everywhere for white noise: gradient_power, mask_power (after the step).
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        return {
            "gradient_power": spectrum.radial(step.choice.gradient),
            "mask_power": spectrum.radial(step.after.image - step.problem.image),
        }

    return Probe(measure, dict.fromkeys(("gradient_power", "mask_power"), ("frequency",)))


def face_regions(landmarks: np.ndarray = CANVAS_LANDMARKS) -> Probe:
    """Share of the energy of gradient and mask in eyes, nose, mouth and the rest (`spectrum.by_region`).

    Quantities, each [4]: gradient_region, mask_region (after the step).
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        mask = step.after.image - step.problem.image
        return {
            "gradient_region": spectrum.by_region(step.choice.gradient, landmarks),
            "mask_region": spectrum.by_region(mask, landmarks),
        }

    return Probe(measure, dict.fromkeys(("gradient_region", "mask_region"), ("region",)))


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
        {"similarity_source": ("witness",), "similarity_target": ("witness", "target")},
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
            "gram": ("target", "other"),
            "target_gradient_norm": ("target",),
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
            "gradient_cosine": ("witness", "other"),
            "gradient_sign": ("witness", "other"),
            "predicted": ("witness",),
            "realised": ("witness",),
        },
    )


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
        length = _norm(moved)
        return {
            "lipschitz_embedding": _norm(g - f) / length,
            "lipschitz_gradient": _norm(turned - gradient) / length,
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


def witness_sources(
    embeds: Sequence[Embed], params: Sequence[PyTree], images: jax.Array
) -> tuple[jax.Array, ...]:
    """K × [B,D_k] embeddings of real photos [B,H,W,C], the `sources` of `Witnesses`."""
    return tuple(jax.vmap(f, (None, 0))(p, images) for f, p in zip(embeds, params, strict=True))
