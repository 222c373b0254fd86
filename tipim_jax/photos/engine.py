"""From aligned faces to masks: everything that is loaded and compiled once and used for every batch."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ports import zoo
from tipim_jax import attack, batching, diversity, ensemble, perceptual, search, updates
from tipim_jax.constraints import grey_kept, linf_ball
from tipim_jax.geometry import CANVAS_SIZE
from tipim_jax.objectives import Objective
from tipim_jax.photos.paste import round_trip, window
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.targets import Targets
from tipim_jax.types import Attack, Embed, Problem

# Weights that bring the squared distances of a recogniser between strangers to the scale of the others
# (dlib's embeddings of any two faces have cosines above 0.7).
WEIGHTS = {"dlib": 4.0}


class Masks(NamedTuple):
    """What a batch of faces gets.

    Attributes:
      masks: [n,160,160,3] float32, protected − clean canvas, pixel levels.
      targets: [n] index of the target of each face.
      seconds: of the attack.
    """

    masks: np.ndarray
    targets: np.ndarray
    seconds: float


class Engine(NamedTuple):
    """A compiled attack.

    Attributes:
      settings: what it was built for.
      surrogates: names of the recognisers that the masks are made on.
      target_names: [T].
      targets: [T,D] embeddings, joined as the ensemble joins them.
      method: the attack.
      ensemble: the surrogates as one embedding.
      program: `attack.run`, compiled for full batches.
      compile_seconds: what that took.
    """

    settings: Settings
    surrogates: tuple[str, ...]
    target_names: tuple[str, ...]
    targets: jax.Array
    method: Attack
    ensemble: ensemble.Ensemble
    program: Callable[..., Any]
    compile_seconds: float


def compose(embed: Embed, settings: Settings) -> Attack:
    """The attack of `tipim protect`: TIP-IM with reach search and random views."""
    return attack.tip_im(
        embed,
        updates.mi_fgsm(settings.travel / settings.steps),
        project=grey_kept(linf_ball),
        objective=Objective(repel=settings.repel),
        search=search.first(search.reach()),
        diversity=diversity.with_swapped_channels(diversity.affine()),
    )


def build(surrogates: Sequence[str], targets: Targets, settings: Settings) -> Engine:
    """Loads the surrogates and compiles the attack for full batches.

    Raises:
      ValueError: a surrogate is unknown or absent, or the targets do not cover it.
    """
    weights = [WEIGHTS.get(name, 1.0) for name in surrogates]
    combined = ensemble.combine([zoo.load(name) for name in surrogates], weights)
    joined = jnp.asarray(targets.joined(surrogates, weights))
    method = compose(combined.embed, settings)
    started = time.perf_counter()
    blank = np.zeros((settings.batch_size, CANVAS_SIZE, CANVAS_SIZE, 3), np.float32)
    keys = jax.random.split(jax.random.key(settings.seed), settings.batch_size)
    problem = pose(combined, joined, settings, blank, np.ones(settings.batch_size))
    program = attack.run.lower(
        method,
        combined.params,
        keys,
        attack.initial_state(method, problem),
        problem,
        num_steps=settings.steps,
        gamma=settings.gamma,
        mask=jnp.ones(settings.batch_size, bool),
    ).compile()
    seconds = time.perf_counter() - started
    return Engine(
        settings,
        tuple(surrogates),
        targets.names,
        joined,
        method,
        combined,
        program,
        seconds,
    )


def pose(
    combined: ensemble.Ensemble,
    targets: jax.Array,
    settings: Settings,
    canvases: np.ndarray,
    scales: np.ndarray,
) -> Problem:
    """The problems of a batch of canvases [B,160,160,3], with perceptual budgets that fade out at the
    border of the canvas as the pasted mask does."""
    images = jnp.asarray(canvases)
    problem = attack.prepare(
        combined.embed, combined.params, images, targets, budgets(settings, images)
    )
    return problem._replace(carrier=jnp.stack([_carrier(float(scale)) for scale in scales]))


@lru_cache(maxsize=1024)
def _carrier(scale: float) -> jax.Array:
    # Above 2½ photo pixels per canvas pixel nothing is lost on the way that could be kept.
    return jnp.asarray(round_trip(min(scale, 2.5), CANVAS_SIZE))


def budgets(settings: Settings, images: jax.Array) -> jax.Array:
    """[B,160,160,1] the most a mask may change each pixel of canvases [B,160,160,3]."""
    fade = jnp.asarray(window((CANVAS_SIZE, CANVAS_SIZE)))[..., None]
    return fade * _budget(images, settings.level, settings.epsilon, settings.exponent)


@partial(jax.jit, static_argnums=3)
def _budget(images: jax.Array, level: float, cap: float, exponent: float) -> jax.Array:
    return jax.vmap(lambda image: perceptual.budget(image, level, cap, exponent=exponent))(images)


def protect(
    engine: Engine,
    canvases: Sequence[np.ndarray],
    scales: Sequence[float],
    keys: Sequence[jax.Array],
) -> Masks:
    """Masks for up to `batch_size` faces.

    Args:
      engine: from `build`.
      canvases: n × [160,160,3], pixel levels.
      scales: n × photo pixels per canvas pixel.
      keys: n random keys.
    """
    started = time.perf_counter()
    size, count = engine.settings.batch_size, len(canvases)
    padded, mask = batching.pad(np.stack(canvases), size)
    index = np.minimum(np.arange(size), count - 1)
    problem = pose(
        engine.ensemble, engine.targets, engine.settings, padded, np.asarray(scales)[index]
    )
    state, trace = engine.program(
        engine.ensemble.params,
        jnp.stack(list(keys))[index],
        attack.initial_state(engine.method, problem),
        problem,
        mask=jnp.asarray(mask),
    )
    masks = np.asarray(state.image - problem.image)[:count]
    targets = np.asarray(trace["target"][-1])[:count]
    return Masks(masks, targets, time.perf_counter() - started)
