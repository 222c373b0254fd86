"""Which of the T allowed targets an image moves towards, decided at every step or once.

Costs are in network passes of one image: a forward pass (F) or a pull-back of one cotangent (P). Every
step of every search has the forward pass that gives the embedding; the table counts it.

| search           | passes per step      | remark                                                   |
|------------------|----------------------|----------------------------------------------------------|
| `fixed`          | 1 F + 1 P            | a single-target method                                   |
| `at_random`      | 1 F + 1 P            | MT-DIM                                                   |
| `nearest`        | 1 F + 1 P            | by the current embedding                                 |
| `exhaustive`     | (T + 1) F + T P      | Algorithm 1                                              |
| `first_order`    | 1 F + (T + 1) P      | predicts the gains of all candidates, no candidate is run |
| `reach`          | (V + 1) F + (VT + 1) P | V views; meant for the first step; 1 F + 1 P if T = 1  |
| `first(s, n)`    | of s in n steps, then 1 F + 1 P |                                               |
| `every(s, k)`    | of s in one step of k, else 1 F + 1 P |                                         |
| `sticky(s)`      | of s and 1 P when an image of the batch stalls, else 1 F + 1 P |                |
| `shortlist(s, k)` | of `reach` over the pool in the first step, then of s with T = k | for large pools |
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tipim_jax.core.gains import Gain, gain
from tipim_jax.core.objectives import Objective, cotangent, squared_distance
from tipim_jax.core.types import AttackState, Choice, Problem

VIEWS = 4  # random views over which `reach` averages
IMAGES_AXIS = "images"  # the name of the batch axis that `attack.run` maps over


Pull = Callable[..., Any]


class Context(NamedTuple):
    """What a search may look at and call in one step of one image.

    Attributes:
      key, step: randomness of this step; [] its number from 0.
      state, problem: where the attack is; what it was given.
      embedding: [D] of this step's view of the image.
      pull: cotangents [K,D] -> their pull-backs [K,H,W,C] through this step's view; with a second argument,
        what that function makes of each of them, and the pull-backs themselves are not kept.
      look: key -> (embedding [D], pull) of another random view of the image.
      extra: [H,W,C] gradient that all targets share (naturalness).
      propose: gradient [H,W,C] -> (image [H,W,C], state of the updates) after a step along it.
      embed: images [K,H,W,C] -> [K,D], unwarped.
      objective, gain: the loss and the gain.
    """

    key: jax.Array
    step: jax.Array
    state: AttackState
    problem: Problem
    embedding: jax.Array
    pull: Pull
    look: Callable[[jax.Array], tuple[jax.Array, Pull]]
    extra: jax.Array
    propose: Callable[[jax.Array], tuple[jax.Array, Any]]
    embed: Callable[[jax.Array], jax.Array]
    objective: Objective
    gain: Gain


class Search(NamedTuple):
    """init() -> memory; choose(context) -> Choice."""

    init: Callable[[], Any]
    choose: Callable[[Context], Choice]


def _cotangents(context: Context, targets: jax.Array) -> jax.Array:
    problem = context.problem
    size = problem.embedding.shape[-1]
    return cotangent(context.objective, size, problem.embedding, targets)


def _towards(context: Context, target: jax.Array) -> Choice:
    """The choice of `target` without a look at any other: one pull-back."""
    targets = context.problem.targets
    cotangents = _cotangents(context, targets[target][None])
    gradient = context.pull(cotangents)[0] + context.extra
    unknown = jnp.full(targets.shape[:1], jnp.nan, gradient.dtype)
    return Choice(target.astype(jnp.int32), gradient, unknown, context.state.memory)


def _best(context: Context, gradients: jax.Array, gains: jax.Array) -> Choice:
    target = jnp.argmax(gains).astype(jnp.int32)
    return Choice(target, gradients[target], gains, context.state.memory)


def _memoryless(choose: Callable[[Context], Choice]) -> Search:
    return Search(lambda: (), choose)


def fixed(target: int = 0) -> Search:
    """Always the same target."""
    return _memoryless(lambda context: _towards(context, jnp.asarray(target)))


def at_random() -> Search:
    """A target drawn anew at every step."""

    def choose(context: Context) -> Choice:
        count = context.problem.targets.shape[0]
        return _towards(context, jax.random.randint(context.key, (), 0, count))

    return _memoryless(choose)


def nearest() -> Search:
    """The target nearest to the current embedding."""

    def choose(context: Context) -> Choice:
        distances = squared_distance(context.embedding, context.problem.targets)
        return _towards(context, jnp.argmin(distances))

    return _memoryless(choose)


def exhaustive() -> Search:
    """Algorithm 1: takes the step towards every target and keeps the candidate of the largest gain."""

    def choose(context: Context) -> Choice:
        problem = context.problem
        gradients = context.pull(_cotangents(context, problem.targets)) + context.extra
        candidates, _ = jax.vmap(context.propose)(gradients)
        embeddings = context.embed(candidates)
        to_source = squared_distance(embeddings, problem.embedding)
        to_targets = squared_distance(embeddings[:, None], problem.targets)
        gains = jax.vmap(lambda s, t: gain(context.gain, s, t))(to_source, to_targets)
        return _best(context, gradients, gains)

    return _memoryless(choose)


def first_order() -> Search:
    """`exhaustive` with every candidate's embedding predicted to first order.

    f(x') · f_j ≈ f(x) · f_j + Jᵀf_j · (x' − x): inner products in pixel space of the candidate moves with
    the T + 1 pulled-back embeddings, which also combine into all T gradients.
    """

    def choose(context: Context) -> Choice:
        problem = context.problem
        anchors = jnp.concatenate([problem.embedding[None], problem.targets])
        pulled = context.pull(anchors)
        size = anchors.shape[-1]
        gradients = cotangent(context.objective, size, pulled[0], pulled[1:]) + context.extra
        candidates, _ = jax.vmap(context.propose)(gradients)
        moves = candidates - context.state.image
        cosines = anchors @ context.embedding + jnp.einsum("thwc,ahwc->ta", moves, pulled)
        distances = 2 - 2 * cosines
        gains = jax.vmap(lambda d: gain(context.gain, d[0], d[1:]))(distances)
        return _best(context, gradients, gains)

    return _memoryless(choose)


def reach(views: int = VIEWS, *, p: float = math.inf) -> Search:
    """The target whose loss the ε ball can lower most, to first order, over a few random views.

    With v_t = −cotangent_t, the best value of v_t · f over the ball mean |u|^p ≤ 1, u the mask in units of ε,
    is, linearised at x, `v_t · f(x) + Jᵀv_t · (x_r − x) + n^(1/p) ‖ε Jᵀv_t‖_q`, 1/p + 1/q = 1, with n the
    number of values that have a budget: the dual norm.

    Args:
      views: random views.
      p: of the ball (`balls`), at least 1; ∞ by default.

    Raises:
      ValueError: for a smaller p.
    """
    if not p >= 1:
        raise ValueError(f"p is {p}; a ball has p of at least 1")

    def choose(context: Context) -> Choice:
        problem, image = context.problem, context.state.image
        if len(problem.targets) == 1:
            return _towards(context, jnp.asarray(0))  # nothing to choose from
        directions = -_cotangents(context, problem.targets)

        def gained(pulled: jax.Array) -> jax.Array:
            dual = _dual_norm(pulled * problem.epsilon, problem.epsilon, p)
            return dual + jnp.sum(pulled * (problem.image - image))

        def scores(key: jax.Array) -> jax.Array:
            embedding, pull = context.look(key)
            return directions @ embedding + pull(directions, gained)

        # One view at a time: the search is rare, the memory of its pull-backs is what limits a batch.
        gains = jnp.mean(lax.map(scores, jax.random.split(context.key, views)), axis=0)
        return _towards(context, jnp.argmax(gains))._replace(gains=gains)

    return _memoryless(choose)


def _dual_norm(gradient: jax.Array, epsilon: jax.Array, p: float) -> jax.Array:
    """The largest ⟨gradient, u⟩ over mean |u|^p ≤ 1 with u = 0 where epsilon is 0."""
    size = jnp.abs(gradient)
    if p == math.inf:
        return jnp.sum(size)
    count = jnp.sum(jnp.broadcast_to(epsilon > 0, gradient.shape))
    largest = jnp.max(size)
    if p == 1:
        return count * largest
    # Divided by the largest first: powers of small numbers would underflow.
    shares = size / jnp.where(largest > 0, largest, 1)
    q = p / (p - 1)
    return largest * count ** (1 / p) * jnp.sum(shares**q) ** (1 / q)


def _keep(context: Context) -> Choice:
    return _towards(context, context.state.target)


def _scheduled(search: Search, due: Callable[[jax.Array], jax.Array]) -> Search:
    # The step number is not mapped over the batch, so this stays a branch and costs what it takes.
    def choose(context: Context) -> Choice:
        return lax.cond(due(context.step), lambda: search.choose(context), lambda: _keep(context))

    return Search(search.init, choose)


def first(search: Search, steps: int = 1) -> Search:
    """`search` in the first steps; then the target is kept."""
    return _scheduled(search, lambda step: step < steps)


def every(search: Search, steps: int) -> Search:
    """`search` at step 0 and every `steps`-th after it; the target is kept in between."""
    return _scheduled(search, lambda step: step % steps == 0)


class Stall(NamedTuple):
    """best: [] lowest loss so far; steps: [] int32 since it was improved; inner: the search's memory."""

    best: jax.Array
    steps: jax.Array
    inner: Any


def sticky(search: Search, patience: int = 5) -> Search:
    """`search` at step 0 and whenever the current target's loss has not improved for `patience` steps.

    The choice of an image depends on that image alone; the batch pays for the search if one of its
    images needs it.
    """

    def init() -> Stall:
        return Stall(jnp.asarray(jnp.inf), jnp.asarray(0, jnp.int32), search.init())

    def choose(context: Context) -> Choice:
        stall: Stall = context.state.memory
        target = context.problem.targets[context.state.target]
        loss = context.embedding @ _cotangents(context, target)
        improved = loss < stall.best
        steps = jnp.where(improved, 0, stall.steps + 1)
        due = (context.step == 0) | (steps >= patience)
        inner = context._replace(state=context.state._replace(memory=stall.inner))

        def look() -> Choice:
            found, kept = search.choose(inner), _keep(inner)
            return jax.tree.map(lambda a, b: jnp.where(due, a, b), found, kept)

        anyone = lax.psum(due.astype(jnp.int32), IMAGES_AXIS) > 0
        choice = lax.cond(anyone, look, lambda: _keep(inner))
        best = jnp.where(due, jnp.inf, jnp.minimum(loss, stall.best))
        return choice._replace(memory=Stall(best, jnp.where(due, 0, steps), choice.memory))

    return Search(init, choose)


class Shortlist(NamedTuple):
    """targets: [k] int32 indices into the pool; inner: the search's memory."""

    targets: jax.Array
    inner: Any


def shortlist(search: Search, count: int, *, views: int = 1) -> Search:
    """`search` among the `count` targets of a large pool that `reach` ranks highest at step 0.

    The pool is pulled back once; `tip_im(chunk=...)` bounds the memory that takes.
    """
    rank = reach(views)

    def init() -> Shortlist:
        return Shortlist(jnp.zeros(count, jnp.int32), search.init())

    def choose(context: Context) -> Choice:
        state, problem, memory = context.state, context.problem, context.state.memory
        chosen = lax.cond(
            context.step == 0,
            lambda: lax.top_k(rank.choose(context).gains, count)[1].astype(jnp.int32),
            lambda: memory.targets,
        )
        current = jnp.argmax(chosen == state.target).astype(jnp.int32)
        choice = search.choose(
            context._replace(
                state=state._replace(target=current, memory=memory.inner),
                problem=problem._replace(targets=problem.targets[chosen]),
            )
        )
        unknown = jnp.full(problem.targets.shape[:1], jnp.nan, choice.gains.dtype)
        return choice._replace(
            target=chosen[choice.target],
            gains=unknown.at[chosen].set(choice.gains),
            memory=Shortlist(chosen, choice.memory),
        )

    return Search(init, choose)


def default(p: float = math.inf) -> Search:
    """The search of `tipim protect` and of every experiment that names none: reach of its ball, once."""
    return first(reach(p=p))
