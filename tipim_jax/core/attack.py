"""An attack is a composition, and running it is one scan over steps, mapped over images.

`tip_im` composes an optax transform, a projection, a target search and a diversity; every method of the
field that moves an image along gradients of an identity loss is such a composition
(`experiments.protection.methods`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from tipim_jax.core import naturalness
from tipim_jax.core.constraints import Constraint, coloured, in_colours, linf_ball
from tipim_jax.core.diversity import Diversity, none
from tipim_jax.core.gains import Gain
from tipim_jax.core.objectives import Objective, identity_loss
from tipim_jax.core.search import IMAGES_AXIS, Context, Pull, Search, exhaustive
from tipim_jax.core.types import (
    Attack,
    AttackState,
    Embed,
    Problem,
    PyTree,
    Step,
    Witnesses,
    carried,
)

Record = Callable[[Step], Any]

CHUNK = 10  # targets at once on accelerators
ON_CPU = 8  # images at once on CPUs, whose caches hold no more


def tip_im(
    embed: Embed,
    updates: optax.GradientTransformation,
    *,
    project: Constraint = linf_ball,
    objective: Objective = Objective(),
    gain: Gain = Gain(),
    search: Search = exhaustive(),
    diversity: Diversity = none(),
    chunk: int | None = None,
    remat: bool = False,
) -> Attack:
    """TIP-IM (Algorithm 1) and, with other parts, the methods it is compared with.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tipim_jax import initial_state, prepare, run, tip_im
    >>> from tipim_jax.core import updates
    >>> def embed(params, image):  # any function of your own
    ...     z = params @ image.reshape(-1)
    ...     return z / jnp.linalg.norm(z)
    >>> params = jax.random.normal(jax.random.key(0), (16, 8 * 8 * 3))
    >>> images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3), maxval=255.0)
    >>> others = jax.random.uniform(jax.random.key(2), (5, 8, 8, 3), maxval=255.0)
    >>> targets = jax.vmap(embed, (None, 0))(params, others)
    >>> problem = prepare(embed, params, images, targets, epsilon=12.0)
    >>> attack = tip_im(embed, updates.mi_fgsm(1.5 / 12))
    >>> keys = jax.random.split(jax.random.key(3), 2)
    >>> state, records = run(
    ...     attack, params, keys, initial_state(attack, problem), problem, num_steps=10
    ... )
    >>> state.image.shape, records["loss"].shape
    ((2, 8, 8, 3), (10, 2))
    >>> bool(abs(state.image - images).max() <= 12.001)
    True

    Args:
      embed: (params, image [H,W,C]) -> [D] unit norm.
      updates: gradient -> move in units of epsilon (`updates.mi_fgsm`); it may take the budget as the extra
        argument `epsilon` (`balls.lp`).
      project: the constraint on the protected photo.
      objective: the identity loss.
      gain: what the search maximises.
      search: how the target is chosen.
      diversity: the random view whose gradient is taken.
      chunk: at most this many targets are pulled back or embedded at once, which bounds the memory; None for
        ten, and on CPUs, whose caches hold no more, for so many that eight images are worked on at once.
      remat: keep no activations between the forward pass and the pull-backs; every chunk of pull-backs
        repeats the forward pass. For memory, at the cost of time.
    """
    stepping = optax.with_extra_args_support(updates)

    def init(problem: Problem) -> AttackState:
        return AttackState(
            image=problem.image,
            updates=updates.init(problem.image),
            target=jnp.asarray(0, jnp.int32),
            memory=search.init(),
        )

    def update(
        params: PyTree,
        key: jax.Array,
        step: jax.Array,
        state: AttackState,
        problem: Problem,
        extra: tuple[jax.Array, jax.Array],
    ) -> tuple[AttackState, Step]:
        view_key, search_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
        together = _usual_chunk() if chunk is None else chunk

        def look(key: jax.Array) -> tuple[jax.Array, Pull]:
            view = diversity.sample(key)

            def seen(image: jax.Array) -> jax.Array:
                return embed(params, diversity.apply(view, carried(problem, image)))

            embedding, pullback = jax.vjp(jax.checkpoint(seen) if remat else seen, state.image)

            def allowed(cotangent: jax.Array) -> jax.Array:
                return coloured(pullback(cotangent)[0], problem.colours)

            def pull(cotangents: jax.Array, then: Callable[[jax.Array], Any] = lambda p: p) -> Any:
                return _mapped(lambda c: then(allowed(c)), cotangents, together)

            return embedding, pull

        def inside(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
            x = project(x, real, epsilon)
            return x if problem.cap is None else linf_ball(x, real, problem.cap)

        def propose(gradient: jax.Array) -> tuple[jax.Array, Any]:
            move, new = stepping.update(gradient, state.updates, epsilon=problem.epsilon)
            image = state.image + problem.epsilon * move
            image = in_colours(inside, image, problem.image, problem.epsilon, problem.colours)
            return image, new

        embedding, pull = look(view_key)
        natural, natural_gradient = extra
        choice = search.choose(
            Context(
                key=search_key,
                step=step,
                state=state,
                problem=problem,
                embedding=embedding,
                pull=pull,
                look=look,
                extra=coloured(natural_gradient, problem.colours),
                propose=propose,
                embed=lambda images: _mapped(
                    lambda image: embed(params, carried(problem, image)), images, together
                ),
                objective=objective,
                gain=gain,
            )
        )
        image, new = propose(choice.gradient)
        after = AttackState(image, new, choice.target, choice.memory)
        losses = jax.vmap(identity_loss, (None, None, None, 0))(
            objective, embedding, problem.embedding, problem.targets
        )
        return after, Step(state, after, choice, embedding, losses + natural, natural)

    return Attack(init, update)


def _usual_chunk() -> int:
    if jax.default_backend() == "cpu":
        return max(1, ON_CPU // lax.axis_size(IMAGES_AXIS))
    return CHUNK


def _mapped(function: Callable[[jax.Array], jax.Array], rows: jax.Array, chunk: int) -> Any:
    if chunk >= rows.shape[0]:
        return jax.vmap(function)(rows)
    return lax.map(function, rows, batch_size=chunk)


@partial(jax.jit, static_argnames="embed")
def prepare(
    embed: Embed, params: PyTree, images: jax.Array, targets: jax.Array, epsilon: jax.Array
) -> Problem:
    """The problems of a batch.

    Args:
      embed: (params, image) -> [D].
      params: its parameters.
      images: [B,H,W,C] real photos, pixel levels.
      targets: [T,D] shared by the batch, or [B,T,D].
      epsilon: [], [B] or [B,H,W,1], pixel levels.

    Returns:
      `Problem` with a leading batch axis on every field.

    Raises:
      ValueError: for an epsilon of another shape.
    """
    batch = images.shape[0]
    # Whole levels of a file are as good, but nothing below may be rounded to them.
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    embeddings = jax.vmap(embed, (None, 0))(params, images)
    targets = jnp.broadcast_to(targets, (batch, *targets.shape[-2:])).astype(images.dtype)
    epsilon = jnp.asarray(epsilon, images.dtype)
    if epsilon.ndim not in (0, 1, 4):
        raise ValueError(f"epsilon must be [], [B] or [B,H,W,1], not {list(epsilon.shape)}")
    if epsilon.ndim == 0:
        epsilon = jnp.broadcast_to(epsilon, (batch,))
    return Problem(images, embeddings, targets, epsilon)


def progress(step: Step) -> dict[str, jax.Array]:
    """The default record of a step: the target, its loss and the gains."""
    return {
        "target": step.choice.target,
        "loss": step.losses[step.choice.target],
        "gains": step.choice.gains,
    }


def nothing(step: Step) -> tuple[()]:
    """The record of a run whose end is all that matters."""
    return ()


@partial(
    jax.jit,
    static_argnames=("attack", "num_steps", "gamma", "record"),
    donate_argnames="state",
)
def run(
    attack: Attack,
    params: PyTree,
    keys: jax.Array,
    state: AttackState,
    problem: Problem,
    *,
    num_steps: int,
    gamma: float = 0.0,
    mask: jax.Array | None = None,
    record: Record = progress,
    witnesses: Witnesses = Witnesses(),
) -> tuple[AttackState, Any]:
    """Runs an attack on a batch: one compiled scan, `state` is donated.

    Args:
      attack: the attack; build it once, the compiled program belongs to the object.
      params: parameters of its embedding.
      keys: [B] one random key per image; step s of image i uses `fold_in(keys[i], s)`.
      state: `jax.vmap(attack.init)(problem)`.
      problem: from `prepare`.
      num_steps: N.
      gamma: γ of Eq. 4, mean over the batch of the identity losses + γ · MMD. MMD is the only thing images
        of a batch share. An image's own loss stands for B times its part of that mean, so the gradient
        of the MMD enters B times.
      mask: [B] which images are real and not padding; all by default. Padding must not enter the MMD.
      record: `Step` of one image -> what to stack; whatever it does not return is not computed.
      witnesses: recognisers that only `record` gets to see; their sources and targets
        have a batch axis.

    Returns:
      The final state [B, ...] and the records, each [N, B, ...].
    """
    step = _stepper(attack, params, keys, problem, gamma, mask, record, witnesses)
    return lax.scan(step, state, jnp.arange(num_steps))


def last(
    attack: Attack,
    params: PyTree,
    keys: jax.Array,
    state: AttackState,
    problem: Problem,
    *,
    num_steps: jax.typing.ArrayLike,
    gamma: float = 0.0,
    mask: jax.Array | None = None,
) -> AttackState:
    """The final state of `run`, for a number of steps that the program need not know; nothing is recorded.

    Args:
      attack: as for `run`.
      params: as for `run`.
      keys: as for `run`.
      state: as for `run`.
      problem: as for `run`.
      num_steps: [] int32, may be traced.
      gamma: as for `run`.
      mask: as for `run`.
    """
    step = _stepper(attack, params, keys, problem, gamma, mask, nothing, Witnesses())
    return lax.fori_loop(0, num_steps, lambda number, state: step(state, number)[0], state)


def _stepper(
    attack: Attack,
    params: PyTree,
    keys: jax.Array,
    problem: Problem,
    gamma: float,
    mask: jax.Array | None,
    record: Record,
    witnesses: Witnesses,
) -> Callable[[AttackState, jax.Array], tuple[AttackState, Any]]:
    """(state, number of the step) -> (state, record) for a batch; arguments as for `run`."""
    images = len(problem.image) if mask is None else jnp.sum(mask)

    def one_step(state: AttackState, step: jax.Array) -> tuple[AttackState, Any]:
        if gamma:
            value, gradient = naturalness.mmd_and_gradient(state.image, problem.image, mask)
        else:
            value, gradient = jnp.zeros((), state.image.dtype), jnp.zeros_like(state.image)

        def update_and_record(
            key: jax.Array,
            state: AttackState,
            problem: Problem,
            gradient: jax.Array,
            seen: tuple[PyTree, PyTree],
        ) -> tuple[AttackState, Any]:
            key = jax.random.fold_in(key, step)
            extra = (gamma * value, gamma * images * gradient)
            state, info = attack.update(params, key, step, state, problem, extra)
            watching = Witnesses(witnesses.params, *seen)
            info = info._replace(number=step, params=params, problem=problem, witnesses=watching)
            return state, record(info)

        mapped = jax.vmap(update_and_record, axis_name=IMAGES_AXIS)
        return mapped(keys, state, problem, gradient, (witnesses.sources, witnesses.targets))

    return one_step


def initial_state(attack: Attack, problem: Problem) -> AttackState:
    """The state [B, ...] before the first step, in memory of its own so that `run` may take it."""
    return jax.tree.map(jnp.copy, jax.vmap(attack.init)(problem))
