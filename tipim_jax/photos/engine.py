"""From aligned faces to masks: everything that is loaded and compiled once and used for every batch."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ports import zoo
from tipim_jax import attack, batching, diversity, ensemble, perceptual, search, updates
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
MOST_ON_CPU = 8  # faces at once beyond which a CPU gains nothing (docs/results.md)
MOST = 64  # the same elsewhere; photos in flight on a host grow with it
SHARE = 0.8  # of a device's memory that the program may take


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
      settings: what it was built for, with the batch size and the precision that were chosen.
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
        assert self.settings.batch_size is not None
        return self.settings.batch_size * self.mesh.size


def compose(embed: Embed, settings: Settings, chunk: int | None = None) -> Attack:
    """The attack of `tipim protect`: TIP-IM with reach search, random views; `chunk` as in `attack.tip_im`."""
    return attack.tip_im(
        embed,
        updates.mi_fgsm(settings.travel / settings.steps),
        objective=Objective(repel=settings.repel),
        search=search.default(),
        diversity=diversity.chain(diversity.affine(), diversity.swapped_channels()),
        chunk=chunk,
    )


def build(
    surrogates: Sequence[str],
    targets: Targets,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
    *,
    shard_params: bool = False,
) -> Engine:
    """Loads the surrogates and compiles the attack for full batches, or takes both from `programs`.

    Args:
      surrogates: names of the recognisers.
      targets: that cover them.
      settings: of the attack.
      devices, shard_params: as for `compiled`.

    Raises:
      ValueError: a surrogate is unknown or absent, the targets do not cover it, or nothing fits the device.
    """
    models = [zoo.fingerprint(name) for name in surrogates]
    weights = [WEIGHTS.get(name, 1.0) for name in surrogates]
    joined = targets.joined(surrogates, weights)
    mesh = _mesh(devices)
    settings = settings._replace(precision=settings.precision or _usual_precision(mesh))
    arrays = programs.digest(models, settings.precision)
    name = _program_name(models, weights, joined.shape, settings, mesh, shard_params)
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(programs.load, name)
        params, program = programs.load_arrays(arrays), loading.result()
    if params is not None and program is not None:
        placed = jax.device_put(params, _placement(params, mesh, shard_params))
        goals = jax.device_put(jnp.asarray(joined), NamedSharding(mesh, P()))
        batch = program.args_info[0][_CANVASES].shape[0] // mesh.size
        return Engine(
            settings._replace(batch_size=batch),
            tuple(surrogates),
            targets.names,
            goals,
            placed,
            mesh,
            program,
            time.perf_counter() - started,
        )
    recognisers = [zoo.load(name, jnp.dtype(settings.precision)) for name in surrogates]
    with programs.compiled_anew():
        made = compiled(
            *(recognisers, weights, targets.names, joined, settings, devices),
            shard_params=shard_params,
        )
    programs.save_arrays(arrays, made.params)
    programs.save(name, made.program)
    return made


def _program_name(
    models: Sequence[str],
    weights: Sequence[float],
    shape: tuple[int, ...],
    settings: Settings,
    mesh: Mesh,
    shard_params: bool,
) -> str:
    """Under which a program is kept: whatever decides its code or its place."""
    constant = settings._replace(level=0, epsilon=0, seed=0)  # those three are arguments of it
    # Of several processes each has devices of its own, and a program belongs to its devices.
    used = [device.id for device in mesh.devices.flat]
    return programs.digest(models, weights, shape, constant, used, shard_params, _usable(mesh))


def _mesh(devices: Sequence[jax.Device] | None) -> Mesh:
    return Mesh(np.asarray(devices or jax.local_devices()[:1]), (FACES,))


def _on_cpu(mesh: Mesh) -> bool:
    return mesh.devices.flat[0].platform == "cpu"


def _usual_precision(mesh: Mesh) -> str:
    return "float32" if _on_cpu(mesh) else "bfloat16"


def _usable(mesh: Mesh) -> int:
    """Bytes that a program may take on each device."""
    return int(SHARE * memory(mesh.devices.flat[0]))


def memory(device: jax.Device) -> int:
    """Bytes of a device; CPU devices share the machine's."""
    known = device.memory_stats() or {}
    if "bytes_limit" in known:
        return int(known["bytes_limit"])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine // jax.local_device_count(device.platform)


def compiled(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float],
    target_names: tuple[str, ...],
    targets: np.ndarray,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
    *,
    composed: Callable[[Embed, Settings], Attack] = compose,
    shard_params: bool = False,
) -> Engine:
    """The engine of any recognisers.

    Every device runs the same program on faces of its own and tells the others nothing, so a mask is
    the same bytes whichever of the devices made it, and however many there are.

    Args:
      recognisers: the surrogates, computing in what `settings` say or by their own choice.
      weights: one each.
      target_names: [T].
      targets: [T,D] embeddings, joined as `ensemble.combine` joins them.
      settings: of the attack; its batch size is that of one device, and where it is None it becomes the largest
        that pays and whose program fits the device.
      devices: of this process, the first one by default.
      composed: the attack.
      shard_params: every device keeps only its share of the parameters and gathers a surrogate's whole when it
        is used: for surrogates too large to have on every device. The bytes stay the same.

    Raises:
      ValueError: not even a single face fits the device.
    """
    mesh = _mesh(devices)
    settings = settings._replace(precision=settings.precision or _usual_precision(mesh))
    started = time.perf_counter()
    batch, program, placement = compiled_for(
        *(recognisers, weights, targets.shape, settings, mesh),
        composed=composed,
        shard_params=shard_params,
        limit=_usable(mesh),
    )
    return Engine(
        settings._replace(batch_size=batch),
        tuple(recogniser.name for recogniser in recognisers),
        target_names,
        jax.device_put(jnp.asarray(targets), NamedSharding(mesh, P())),
        jax.device_put(tuple(recogniser.params for recogniser in recognisers), placement),
        mesh,
        program,
        time.perf_counter() - started,
    )


def compiled_for(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float],
    targets: tuple[int, ...],
    settings: Settings,
    mesh: Mesh,
    *,
    composed: Callable[[Embed, Settings], Attack] = compose,
    shard_params: bool = False,
    limit: int,
) -> tuple[int, jax.stages.Compiled, PyTree]:
    """Compiles the attack for devices that need not be here; arguments as for `compiled`.

    Args:
      targets: their shape.
      mesh: the devices along `FACES`.
      limit: bytes that the program may take on each, if the settings leave the batch size open.

    Returns:
      The faces of a device, the program, and where its parameters have to lie.

    Raises:
      ValueError: not even a single face fits a device.
    """
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        tuple(r.params for r in recognisers),
    )
    placement = _placement(params, mesh, shard_params)
    if shard_params:
        recognisers = [
            r._replace(embed=_gathering(r.embed, shares))
            for r, shares in zip(recognisers, placement)
        ]
    combined = ensemble.combine(recognisers, weights, in_turn=shard_params)
    method = composed(combined.embed, settings)
    everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(FACES))
    shardings = (placement, everywhere, everywhere, *[spread] * 5)
    run = jax.jit(
        jax.shard_map(
            partial(_masks, combined.embed, method, settings),
            mesh=mesh,
            in_specs=jax.tree.map(lambda sharding: sharding.spec, shardings),
            out_specs=P(FACES),
            check_vma=False,
        ),
        in_shardings=shardings,
    )

    def program(batch: int) -> jax.stages.Compiled:
        size, count = CANVAS_SIZE, batch * mesh.size
        faces = (
            jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32),
            jax.ShapeDtypeStruct((count, size, size), jnp.float32),
            jax.ShapeDtypeStruct((count, 3, 3), jnp.float32),
            jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count)),
            jax.ShapeDtypeStruct((count,), bool),
        )
        goals = jax.ShapeDtypeStruct(targets, jnp.float32)
        return run.lower(params, goals, _strength(settings), *faces).compile()

    if settings.batch_size is not None:
        return settings.batch_size, program(settings.batch_size), placement
    most = MOST_ON_CPU if _on_cpu(mesh) else MOST
    return *batching.largest(program, most, limit), placement


_WHOLE = "whole"  # the name of gathered parameters
_CANVASES = 3  # the place of the canvases among the arguments of a program


def _placement(params: PyTree, mesh: Mesh, sharded: bool) -> PyTree:
    """Where every parameter lies: whole on every device, or shared out along an axis that can be."""

    def spec(leaf: Any) -> P:
        axes = [i for i, size in enumerate(leaf.shape) if size and size % mesh.size == 0]
        if not sharded or not axes:
            return P()
        axis = max(axes, key=lambda i: leaf.shape[i])
        return P(*[FACES if i == axis else None for i in range(leaf.ndim)])

    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), params)


def _gathering(embed: Embed, placement: PyTree) -> Embed:
    """`embed` for shared-out parameters: gathered for its forward pass, and again for its pull-backs."""

    def whole(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
        if FACES not in sharding.spec:
            return leaf
        axis = sharding.spec.index(FACES)
        return checkpoint_name(lax.all_gather(leaf, FACES, axis=axis, tiled=True), _WHOLE)

    def gathered(params: PyTree, canvas: jax.Array) -> jax.Array:
        # Tied to the image, or XLA would gather once and keep everything through all steps.
        params, canvas = lax.optimization_barrier((params, canvas))
        return embed(jax.tree.map(whole, params, placement), canvas)

    kept = jax.checkpoint_policies.save_anything_except_these_names(_WHOLE)
    return jax.checkpoint(gathered, policy=kept)


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
    colours: jax.Array,
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
      carriers, colours: [B,160,160] and [B,3,3], see `types.Problem`.
      keys: [B].
      real: [B] which faces are no padding.
    """
    budget = budgets(canvases, strength[0], strength[1], settings.exponent)
    problem = attack.prepare(embed, params, canvases, targets, budget)
    problem = problem._replace(carrier=carriers, colours=colours)
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
    colours: Sequence[np.ndarray],
    keys: Sequence[jax.Array],
) -> Masks:
    """Masks for up to `engine.capacity` faces.

    Args:
      engine: from `build`.
      canvases: n × [160,160,3], pixel levels.
      scales: n × photo pixels per canvas pixel.
      colours: n × [3,3], see `types.Problem`.
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
        *jax.device_put(
            (padded, carriers, np.stack(colours)[index], jnp.stack(list(keys))[index], real), spread
        ),
    )
    masks, targets = np.asarray(masks)[:count], np.asarray(targets)[:count]
    return Masks(masks, targets, time.perf_counter() - started)
