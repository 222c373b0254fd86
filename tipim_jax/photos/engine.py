"""From aligned faces to masks: everything that is loaded and compiled once and used for every batch."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ports import zoo
from tipim_jax import attack, batching, diversity, ensemble, perceptual, search, updates
from tipim_jax.constraints import grey_kept, linf_ball
from tipim_jax.geometry import CANVAS_SIZE
from tipim_jax.objectives import Objective
from tipim_jax.photos import programs
from tipim_jax.photos.paste import round_trip, window
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.targets import Targets
from tipim_jax.types import Attack, Embed, PyTree, Recogniser

# Weights that bring the squared distances of a recogniser between strangers to the scale of the others
# (dlib's embeddings of any two faces have cosines above 0.7).
WEIGHTS = {"dlib": 4.0}
FACES = "faces"  # the mesh axis that the faces of a batch are spread over


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
      params: of the surrogates, on every device of the mesh.
      mesh: the devices, along `FACES`; each attacks `settings.batch_size` faces at once.
      program: compiled for full batches, see `_masks`.
      compile_seconds: what that took, or loading what an earlier run compiled.
    """

    settings: Settings
    surrogates: tuple[str, ...]
    target_names: tuple[str, ...]
    targets: jax.Array
    params: PyTree
    mesh: Mesh
    program: Callable[..., Any]
    compile_seconds: float

    @property
    def capacity(self) -> int:
        """Faces of a full batch."""
        return self.settings.batch_size * self.mesh.size


def compose(embed: Embed, settings: Settings) -> Attack:
    """The attack of `tipim protect`: TIP-IM with reach search and random views."""
    return attack.tip_im(
        embed,
        updates.mi_fgsm(settings.travel / settings.steps),
        project=grey_kept(linf_ball),
        objective=Objective(repel=settings.repel),
        search=search.default(),
        diversity=diversity.with_swapped_channels(diversity.affine()),
    )


def build(
    surrogates: Sequence[str],
    targets: Targets,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
) -> Engine:
    """Loads the surrogates and compiles the attack for full batches, or takes both from `programs`.

    Args:
      surrogates: names of the recognisers.
      targets: that cover them.
      settings: of the attack.
      devices: as for `compiled`.

    Raises:
      ValueError: a surrogate is unknown or absent, or the targets do not cover it.
    """
    models = [zoo.fingerprint(name) for name in surrogates]
    weights = [WEIGHTS.get(name, 1.0) for name in surrogates]
    joined = targets.joined(surrogates, weights)
    mesh = _mesh(devices)
    arrays = programs.digest(models)
    compiled_for = settings._replace(level=0, epsilon=0, seed=0)
    # Of several processes each has devices of its own, and a program belongs to its devices.
    used = [device.id for device in mesh.devices.flat]
    name = programs.digest(models, weights, joined.shape, compiled_for, used)
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(programs.load, name)
        params, program = programs.load_arrays(arrays), loading.result()
    if params is not None and program is not None:
        goals, params = jax.device_put((jnp.asarray(joined), params), NamedSharding(mesh, P()))
        return Engine(
            settings,
            tuple(surrogates),
            targets.names,
            goals,
            params,
            mesh,
            program,
            time.perf_counter() - started,
        )
    recognisers = [zoo.load(name) for name in surrogates]
    with programs.compiled_anew():
        made = compiled(recognisers, weights, targets.names, joined, settings, devices)
    programs.save_arrays(arrays, made.params)
    programs.save(name, made.program)
    return made


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh:
    return Mesh(np.asarray(devices or jax.local_devices()[:1]), (FACES,))


def compiled(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float],
    target_names: tuple[str, ...],
    targets: np.ndarray,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
    *,
    composed: Callable[[Embed, Settings], Attack] = compose,
) -> Engine:
    """The engine of any recognisers.

    Every device runs the same program on faces of its own and tells the others nothing, so a mask is
    the same bytes whichever of the devices made it, and however many there are.

    Args:
      recognisers: the surrogates.
      weights: one each.
      target_names: [T].
      targets: [T,D] embeddings, joined as `ensemble.combine` joins them.
      settings: of the attack; its batch size is that of one device.
      devices: of this process, the first one by default.
      composed: the attack.
    """
    combined = ensemble.combine(recognisers, weights)
    method = composed(combined.embed, settings)
    mesh = _mesh(devices)
    everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(FACES))
    params = jax.device_put(combined.params, everywhere)
    joined = jax.device_put(jnp.asarray(targets), everywhere)
    started = time.perf_counter()
    run = jax.jit(
        jax.shard_map(
            partial(_masks, combined.embed, method, settings),
            mesh=mesh,
            in_specs=(P(), P(), P(), P(FACES), P(FACES), P(FACES), P(FACES)),
            out_specs=P(FACES),
            check_vma=False,
        ),
        in_shardings=(everywhere,) * 3 + (spread,) * 4,
    )
    size, count = CANVAS_SIZE, settings.batch_size * mesh.size
    faces = (
        jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32),
        jax.ShapeDtypeStruct((count, size, size), jnp.float32),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count)),
        jax.ShapeDtypeStruct((count,), bool),
    )
    program = run.lower(params, joined, _strength(settings), *faces).compile()
    return Engine(
        settings,
        tuple(recogniser.name for recogniser in recognisers),
        target_names,
        joined,
        params,
        mesh,
        program,
        time.perf_counter() - started,
    )


def _strength(settings: Settings) -> np.ndarray:
    return np.asarray([settings.level, settings.epsilon], np.float32)


def _masks(
    embed: Embed,
    method: Attack,
    settings: Settings,
    params: PyTree,
    targets: jax.Array,
    strength: jax.Array,
    canvases: jax.Array,
    carriers: jax.Array,
    keys: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What one device does: masks [B,160,160,3] and targets [B] of its faces.

    Args:
      embed, method: the surrogates as one, and the attack.
      settings: steps, exponent and γ; the strength is an argument.
      params: of the surrogates.
      targets: [T,D].
      strength: [2] level and epsilon.
      canvases: [B,160,160,3], pixel levels.
      carriers: [B,160,160], see `types.Problem`.
      keys: [B].
      real: [B] which faces are no padding.
    """
    budget = budgets(canvases, strength[0], strength[1], settings.exponent)
    problem = attack.prepare(embed, params, canvases, targets, budget)
    problem = problem._replace(carrier=carriers)
    state, trace = attack.run(
        method,
        params,
        keys,
        attack.initial_state(method, problem),
        problem,
        num_steps=settings.steps,
        gamma=settings.gamma,
        mask=real,
    )
    return state.image - problem.image, trace["target"][-1]


def budgets(images: jax.Array, level: jax.Array, cap: jax.Array, exponent: float) -> jax.Array:
    """[B,160,160,1] the most a mask may change each pixel of canvases [B,160,160,3]: perceptual
    budgets that fade out at the border of the canvas as the pasted mask does."""
    fade = jnp.asarray(window((CANVAS_SIZE, CANVAS_SIZE)))[..., None]
    return fade * jax.vmap(lambda image: perceptual.budget(image, level, cap, exponent=exponent))(
        images
    )


@lru_cache(maxsize=1024)
def _carrier(scale: float) -> np.ndarray:
    # Above 2½ photo pixels per canvas pixel nothing is lost on the way that could be kept.
    return round_trip(min(scale, 2.5), CANVAS_SIZE)


def protect(
    engine: Engine,
    canvases: Sequence[np.ndarray],
    scales: Sequence[float],
    keys: Sequence[jax.Array],
) -> Masks:
    """Masks for up to `engine.capacity` faces.

    Args:
      engine: from `build`.
      canvases: n × [160,160,3], pixel levels.
      scales: n × photo pixels per canvas pixel.
      keys: n random keys.
    """
    started = time.perf_counter()
    count = len(canvases)
    padded, real = batching.pad(np.stack(canvases), engine.capacity)
    index = np.minimum(np.arange(engine.capacity), count - 1)
    carriers = np.stack([_carrier(float(scales[i])) for i in index])
    spread = NamedSharding(engine.mesh, P(FACES))
    masks, targets = engine.program(
        engine.params,
        engine.targets,
        _strength(engine.settings),
        *jax.device_put((padded, carriers, jnp.stack(list(keys))[index], real), spread),
    )
    masks, targets = np.asarray(masks)[:count], np.asarray(targets)[:count]
    return Masks(masks, targets, time.perf_counter() - started)
