"""Every method under test is a composition: one table from a method's name to what sets it apart.

| name              | steps towards                             | passes per step      | random views |
|-------------------|-------------------------------------------|----------------------|--------------|
| fgsm              | one target, a single step of ε            | 1 F + 1 P            | none         |
| pgd (BIM)         | one target                                | 1 F + 1 P            | none         |
| mim               | one target, momentum                      | 1 F + 1 P            | none         |
| dim               | the same                                  | 1 F + 1 P            | resize, pad  |
| tim               | the same, gradient smoothed               | 1 F + 1 P            | none         |
| mt_dim            | a random target of the set each step      | 1 F + 1 P            | resize, pad  |
| center_opt        | all targets at once: the mean of the losses | 1 F + 1 P          | setting's    |
| tip_im            | the setting's search                      | see `tipim_jax.core.search` | setting's  |
| tip_im_exhaustive | Algorithm 1                               | (T + 1) F + T P      | setting's    |
| tip_im_sum, tip_im_min | Algorithm 1 with the other two gains of Eq. 7 | the same    | setting's    |

Each name with `_untargeted` is the dodging form: away from the source, targets play no part.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tipim_jax.core import attack, batching, constraints, diversity, ensemble, search, updates
from tipim_jax.core.constraints import Constraint
from tipim_jax.core.diversity import Diversity
from tipim_jax.core.gains import Gain
from tipim_jax.core.objectives import Objective, cotangent, squared_distance
from tipim_jax.core.search import Context, Search
from tipim_jax.core.types import Attack, AttackState, Choice, Embed, Problem, Witnesses
from tipim_jax.errors import UserError

UNTARGETED = "_untargeted"
# (protected, real [H,W,C], ε) -> uint8 within the same constraint
Rounding = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


class Setting(NamedTuple):
    """What a composition may vary; the defaults are the paper's protocol."""

    epsilon: float = 12.0  # bound on the mask, pixel levels
    steps: int = 50  # N
    alpha: float = 1.5  # step length, pixel levels
    decay: float = 1.0  # momentum μ
    gamma: float = 0.0  # weight of the batch MMD
    norm: str = "linf"  # a key of `NORMS`
    diversity: str = "affine"  # a key of `DIVERSITIES`
    search: str = "default"  # a key of `SEARCHES`
    # reduce, squared: the gain (`gains.Gain`)
    reduce: str = "max"
    squared: bool = True
    smooth: bool = False  # whether the gradient is smoothed over the image
    # attract, repel: the objective (`objectives.Objective`)
    attract: float = 1.0
    repel: float = 1.0


class Method(NamedTuple):
    """An attack ready to run on aligned crops."""

    name: str  # of the table
    attack: Attack  # the composition; build it once, the compiled program belongs to it
    epsilon: float  # pixel levels
    steps: int  # N
    gamma: float  # weight of the batch MMD
    rounded: Rounding
    single: bool  # whether it takes one target at a time, so that its problems have T = 1


def _truncated(x: jax.Array, real: jax.Array, epsilon: jax.Array) -> jax.Array:
    return constraints.truncate_within(x, real)


class Norm(NamedTuple):
    """A step direction, the constraint, and rounding within it."""

    direction: Callable[[], optax.GradientTransformation]
    project: Constraint
    rounded: Rounding


NORMS = {
    "linf": Norm(updates.sign, constraints.linf_ball, constraints.round_within),
    "l2": Norm(updates.l2_direction, constraints.l2_ball, _truncated),
    # The released code's: ℓ2 steps in the ε box.
    "l2_steps": Norm(updates.l2_direction, constraints.linf_ball, constraints.round_within),
}
DIVERSITIES: dict[str, Callable[[], Diversity]] = {
    "none": diversity.none,
    "affine": diversity.affine,
    "released": diversity.released_affine,
    "resize": diversity.resize_and_pad,
}


def centre() -> Search:
    """All targets at once: the mean of the losses, one pull-back since they are linear in f(x)."""

    def choose(context: Context) -> Choice:
        problem = context.problem
        mean = jnp.mean(problem.targets, axis=0)
        pulled = context.pull(
            cotangent(context.objective, mean.size, problem.embedding, mean)[None]
        )
        nearest = jnp.argmin(squared_distance(context.embedding, problem.targets))
        unknown = jnp.full(problem.targets.shape[:1], jnp.nan, pulled.dtype)
        return Choice(nearest.astype(jnp.int32), pulled[0] + context.extra, unknown, ())

    return Search(lambda: (), choose)


SEARCHES: dict[str, Callable[[], Search]] = {
    "default": search.default,
    "exhaustive": search.exhaustive,
    "exhaustive_once": lambda: search.first(search.exhaustive()),
    "exhaustive_every_5": lambda: search.every(search.exhaustive(), 5),
    "exhaustive_sticky": lambda: search.sticky(search.exhaustive()),
    "first_order": search.first_order,
    "first_order_once": lambda: search.first(search.first_order()),
    "first_order_10": lambda: search.first(search.first_order(), 10),
    "reach": lambda: search.first(search.reach()),
    "reach_1": lambda: search.first(search.reach(1)),
    "reach_2": lambda: search.first(search.reach(2)),
    "reach_every_10": lambda: search.every(search.reach(1), 10),
    "nearest": search.nearest,
    "random": search.at_random,
    "centre": centre,
    "fixed": search.fixed,
}
REDUCTIONS = ("max", "sum", "min")  # of `gains.Gain`
POSITIVE = ("epsilon", "alpha", "steps")
NOT_NEGATIVE = ("decay", "gamma", "attract", "repel")
METHODS: dict[str, Callable[[Setting], Setting]] = {
    "fgsm": lambda s: _alone(s)._replace(steps=1, alpha=s.epsilon, decay=0.0),
    "pgd": lambda s: _alone(s)._replace(decay=0.0),
    "mim": lambda s: _alone(s),
    "dim": lambda s: _alone(s)._replace(diversity="resize"),
    "tim": lambda s: _alone(s)._replace(smooth=True),
    "mt_dim": lambda s: s._replace(search="random", diversity="resize"),
    "center_opt": lambda s: s._replace(search="centre"),
    "tip_im": lambda s: s,
    "tip_im_exhaustive": lambda s: s._replace(search="exhaustive"),
    "tip_im_sum": lambda s: s._replace(search="exhaustive", reduce="sum"),
    "tip_im_min": lambda s: s._replace(search="exhaustive", reduce="min"),
}


def _alone(setting: Setting) -> Setting:
    """A single-target method without random views."""
    return setting._replace(search="fixed", diversity="none")


def settled(name: str, setting: Setting = Setting()) -> Setting:
    """The setting after what sets the method apart; a `UserError` for what is unknown or out of its range."""
    base = name.removesuffix(UNTARGETED)
    if base not in METHODS:
        raise UserError(
            f"unknown method {name!r}; use {', '.join(METHODS)}, or one of them with {UNTARGETED}"
        )
    own = METHODS[base](setting)
    choices = ((NORMS, own.norm), (DIVERSITIES, own.diversity), (SEARCHES, own.search))
    for known, key in (*choices, (REDUCTIONS, own.reduce)):
        if key not in known:
            raise UserError(f"{key!r} is none of {', '.join(known)}")
    for field in (*POSITIVE, *NOT_NEGATIVE):
        value = getattr(own, field)
        if not 0 <= value < math.inf or (field in POSITIVE and value == 0):
            more = "more than 0" if field in POSITIVE else "0 or more"
            raise UserError(f"{field} is {value:g}; give {more}")
    return own if base == name else own._replace(attract=0.0, search="fixed")


def compose(
    name: str,
    embed: Embed,
    setting: Setting = Setting(),
    *,
    around: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda u: u,
) -> Method:
    """A method by its name, a key of `METHODS`, `_untargeted` after it for the dodging form.

    `around` says what becomes of its updates: `probes.watched`, or others in their place.
    """
    own = settled(name, setting)
    norm = NORMS[own.norm]
    move = updates.mi_fgsm(own.alpha / own.epsilon, decay=own.decay, direction=norm.direction())
    composed = attack.tip_im(
        embed,
        around(optax.chain(updates.smooth(), move) if own.smooth else move),
        project=norm.project,
        objective=Objective(own.attract, own.repel),
        gain=Gain(own.reduce, own.squared),
        search=SEARCHES[own.search](),
        diversity=DIVERSITIES[own.diversity](),
    )
    single = own.search == "fixed"
    return Method(name, composed, own.epsilon, own.steps, own.gamma, norm.rounded, single)


def protect(
    method: Method,
    combined: ensemble.Ensemble,
    canvases: np.ndarray,
    targets: np.ndarray,
    keys: jax.Array,
    batch_size: int,
) -> np.ndarray:
    """Protects up to `batch_size` aligned crops [n,160,160,3] uint8 in one compiled shape.

    `method` is composed with `combined.embed`; targets are [T,D] or [n,T,D] as joined for the ensemble, T = 1
    for a `single` method; there are n random keys.
    """
    padded, mask = batching.pad(canvases, batch_size)
    index = np.minimum(np.arange(batch_size), len(canvases) - 1)
    images = jnp.asarray(padded, jnp.float32)
    each = jnp.asarray(targets[index] if targets.ndim == 3 else targets)
    problem = attack.prepare(*combined, images, each, jnp.asarray(method.epsilon))
    state, _ = started(method, combined, keys[index], problem, jnp.asarray(mask))
    return np.asarray(rounded(method.rounded, state.image, problem))[: len(canvases)]


def started(
    method: Method,
    combined: ensemble.Ensemble,
    keys: jax.Array,
    problem: Problem,
    mask: jax.Array,
    record: attack.Record = attack.nothing,
    witnesses: Witnesses = Witnesses(),
) -> tuple[AttackState, Any]:
    """`attack.run` of a method from the start, on a batch of which `mask` [B] says what is real."""
    return attack.run(
        method.attack,
        combined.params,
        keys,
        attack.initial_state(method.attack, problem),
        problem,
        num_steps=method.steps,
        gamma=method.gamma,
        mask=mask,
        record=record,
        witnesses=witnesses,
    )


@partial(jax.jit, static_argnums=0)
def rounded(how: Rounding, images: jax.Array, problem: Problem) -> jax.Array:
    """[B,H,W,C] uint8 of protected images."""
    return jax.vmap(how)(images, problem.image, problem.epsilon)


def keys(canvases: np.ndarray, seed: int, index: int = 0) -> jax.Array:
    """[n] random keys of canvases, by content; `index` tells runs on the same photo apart."""
    return jnp.stack([batching.content_key(seed, canvas.tobytes(), index) for canvas in canvases])


# Controls: what people do without an attack. Each (canvas [H,W,C] float, key, ε) -> [H,W,C].


def _noise(canvas: jax.Array, key: jax.Array, epsilon: float) -> jax.Array:
    return canvas + epsilon * jax.random.rademacher(key, canvas.shape, canvas.dtype)


def _blur(canvas: jax.Array, key: jax.Array, epsilon: float) -> jax.Array:
    # The Gaussian of the gradient smoothing, on the image; the border is repeated, not blackened.
    smooth, margin = updates.smooth(25, 4.0), 12
    padded = jnp.pad(canvas, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    blurred, _ = smooth.update(padded, smooth.init(padded))
    return jnp.asarray(blurred)[margin:-margin, margin:-margin]


def _pixelate(canvas: jax.Array, key: jax.Array, epsilon: float) -> jax.Array:
    block = 8
    rows, columns = canvas.shape[0] // block, canvas.shape[1] // block
    means = canvas.reshape(rows, block, columns, block, -1).mean((1, 3))
    return jnp.repeat(jnp.repeat(means, block, axis=0), block, axis=1)


CONTROLS: dict[str, Callable[[jax.Array, jax.Array, float], jax.Array]] = {
    "unprotected": lambda canvas, key, epsilon: canvas,
    "noise": _noise,  # ±ε at every sample, the largest noise the ball admits
    "blur": _blur,  # Gaussian, σ of 4 canvas pixels
    "pixelate": _pixelate,  # blocks of 8 × 8 canvas pixels
}


@partial(jax.jit, static_argnums=0)
def control(name: str, canvases: np.ndarray, keys: jax.Array, epsilon: float) -> jax.Array:
    """A control of the table on canvases [n,160,160,3] uint8."""
    images = jnp.asarray(canvases, jnp.float32)
    changed = jax.vmap(CONTROLS[name], (0, 0, None))(images, keys, epsilon)
    return jnp.clip(jnp.round(changed), 0, 255).astype(jnp.uint8)
