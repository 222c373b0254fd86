"""The program of the attack: composed, laid out over devices, and compiled for so many faces of each.

What decides its code are the surrogates, the targets' shape, γ, the precision and the number of faces. What
may change from one call to the next are `Dials`.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tipim_jax.core import attack, balls, batching, diversity, ensemble, perceptual, search, updates
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.objectives import Objective
from tipim_jax.core.types import Attack, Embed, PyTree, Recogniser
from tipim_jax.photos import programs
from tipim_jax.photos.paste import window
from tipim_jax.photos.presets import Settings

FACES = "faces"  # the mesh axis that the faces of a batch are spread over
MAX_BATCH_ON_CPU = 8  # faces at once beyond which a CPU gains nothing (docs/results/cost.md)
MAX_BATCH = 64  # the same elsewhere; photos in flight on a host grow with it
MEMORY_SHARE = 0.8  # of a device's memory that the program may take

# Of the ball: between ℓ2, which repaints brows and lips, and ℓ∞, which stains every pixel.
NORM = 3.0
CHROMA = 0.35  # a change of colour is seen sooner than one of lightness on skin

T = TypeVar("T")


class Dials(NamedTuple):
    """Arguments of the compiled program: settings that change without compiling anew. All [] float32.

    Attributes:
      level, epsilon, exponent: of the budget, see `perceptual.budget`.
      steps: iterations, int32.
      travel: length of all steps together in units of the budget.
      repel: weight of the source in the loss.
    """

    level: Any
    epsilon: Any
    exponent: Any
    steps: Any
    travel: Any
    repel: Any


def dials(settings: Settings) -> Dials:
    """The dials as `settings` put them."""
    values = {name: np.float32(getattr(settings, name)) for name in Dials._fields}
    return Dials(**values)._replace(steps=np.int32(settings.steps))


Composed = Callable[[Embed, Dials], Attack]


def compose(embed: Embed, dials: Dials, goal: str = "hide", chunk: int | None = None) -> Attack:
    """The attack of `tipim protect`: steepest steps in an ℓ3 ball over many views (docs/method.md).

    Args:
      embed: the surrogates as one.
      dials: see `Dials`.
      goal: one of `presets.GOALS`.
      chunk: as in `attack.tip_im`.
    """
    ball = balls.lp(NORM, balls.lightness_and_chroma(CHROMA))
    hide = goal == "hide"
    return attack.tip_im(
        embed,
        updates.mi_fgsm(dials.travel / dials.steps, decay=0.0, direction=ball.direction),
        project=ball.project,
        objective=Objective(attract=0.0) if hide else Objective(repel=dials.repel),
        search=search.fixed() if hide else search.default(NORM),
        diversity=diversity.chain(
            diversity.deformed(),
            diversity.contrast(),
            diversity.blurred(),
            diversity.swapped_channels(),
        ),
        chunk=chunk,
    )


class Program(NamedTuple):
    """The attack, compiled.

    Attributes:
      faces: of a call, all devices together.
      run: see `_attack`; its arguments lie as `make_compiler` says.
      seconds: that compiling took, or loading what an earlier run compiled.
    """

    faces: int
    run: Callable[..., Any]
    seconds: float


class Once(Generic[T]):
    """A value that is made when it is first asked for, and once, whichever threads ask.

    Attributes:
      made: it, or None before.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self.made: T | None = None
        self._make, self._lock = make, threading.Lock()

    def __call__(self) -> T:
        with self._lock:
            if self.made is None:
                self.made = self._make()
        return self.made


def timed(make: Callable[[], jax.stages.Compiled]) -> Program:
    """A program and the seconds that it takes to have it."""
    started = time.perf_counter()
    program = make()
    return Program(batch_size(program), program, time.perf_counter() - started)


def batch_size(program: jax.stages.Compiled) -> int:
    """Counts the faces that a program of `make_compiler` takes, on all devices together."""
    return program.args_info[0][_CANVASES].shape[0]


def mesh_over(devices: Sequence[jax.Device] | None) -> Mesh:
    """Devices of this process along `FACES`, the first one by default."""
    return Mesh(np.asarray(devices or jax.local_devices()[:1]), (FACES,))


def on_cpu(mesh: Mesh) -> bool:
    """Whether its devices are CPUs."""
    return mesh.devices.flat[0].platform == "cpu"


def with_precision(settings: Settings, mesh: Mesh) -> Settings:
    """The settings with the precision that is usual on these devices, if they name none."""
    usual = "float32" if on_cpu(mesh) else "bfloat16"
    return settings._replace(precision=settings.precision or usual)


def memory_limit(mesh: Mesh) -> int:
    """Bytes that a program may take on each device."""
    return int(MEMORY_SHARE * device_memory(mesh.devices.flat[0]))


def device_memory(device: jax.Device) -> int:
    """Bytes of a device; CPU devices share the machine's."""
    known = device.memory_stats() or {}
    if "bytes_limit" in known:
        return int(known["bytes_limit"])
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine // jax.local_device_count(device.platform)


def make_compiler(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float],
    targets: tuple[int, ...],
    settings: Settings,
    mesh: Mesh,
    *,
    composed: Composed | None = None,
    shard_params: bool = False,
    kept: Any = None,
) -> Callable[[int], jax.stages.Compiled]:
    """Makes what compiles the attack for a number of faces of each device; the devices need not be here.

    Every device runs the same program on faces of its own and tells the others nothing, so a mask is
    the same bytes whichever of the devices made it, and however many there are.

    Args:
      recognisers: the surrogates; of their parameters only shapes matter.
      weights: one each.
      targets: shape of their embeddings, joined as `ensemble.combine` joins them.
      settings: γ and goal of the attack.
      mesh: the devices along `FACES`.
      composed: the attack; `compose` by default.
      shard_params: every device keeps only its share of the parameters and gathers a surrogate's whole when it
        is used: for surrogates too large to have on every device. The bytes stay the same.
      kept: tells these recognisers and this attack from all others, by its `repr`, to keep the program between
        runs; None to compile it anew.
    """
    params = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        tuple(r.params for r in recognisers),
    )
    lying = placement(params, mesh, shard_params)
    if shard_params:
        recognisers = [
            r._replace(embed=_gathering(r.embed, shares)) for r, shares in zip(recognisers, lying)
        ]
    combined = ensemble.combine(recognisers, weights, in_turn=shard_params)
    if composed is None:
        composed = partial(compose, goal=settings.goal)
    everywhere, spread = NamedSharding(mesh, P()), NamedSharding(mesh, P(FACES))
    shardings = (lying, everywhere, everywhere, *[spread] * 6)
    run = jax.jit(
        jax.shard_map(
            partial(_attack, combined.embed, composed, settings.gamma),
            mesh=mesh,
            in_specs=jax.tree.map(lambda sharding: sharding.spec, shardings),
            out_specs=P(FACES),
            check_vma=False,
        ),
        in_shardings=shardings,
    )

    def compile_program(batch: int) -> jax.stages.Compiled:
        size, count = CANVAS_SIZE, batch * mesh.size
        faces = (
            jax.ShapeDtypeStruct((count, size, size, 3), jnp.float32),
            jax.ShapeDtypeStruct((count, size, size), jnp.float32),
            jax.ShapeDtypeStruct((count, 3, 3), jnp.float32),
            jax.ShapeDtypeStruct((count, size, size, 1), jnp.float32),
            jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count)),
            jax.ShapeDtypeStruct((count,), bool),
        )
        goals = jax.ShapeDtypeStruct(targets, jnp.float32)
        arguments = (params, goals, dials(settings), *faces)
        if kept is None:
            return run.lower(*arguments).compile()
        # The other settings are `Dials`.
        about = (kept, list(weights), settings.goal, settings.gamma, settings.precision)
        return programs.lower(run, arguments, shardings, *about, shard_params).compile()

    return compile_program


def compile_full_batch(
    compile_program: Callable[[int], jax.stages.Compiled],
    settings: Settings,
    mesh: Mesh,
    limit: int,
) -> jax.stages.Compiled:
    """Compiles the program for full batches: as many faces as the settings say, or the most that pay and fit.

    Args:
      compile_program: from `make_compiler`.
      settings: their batch size is that of one device.
      mesh: the devices.
      limit: bytes that the program may take on each, if the settings leave the batch size open.

    Raises:
      UserError: not even a single face fits a device.
    """
    if settings.batch_size is not None:
        return compile_program(settings.batch_size)
    most = MAX_BATCH_ON_CPU if on_cpu(mesh) else MAX_BATCH
    return batching.largest(compile_program, most, limit)[1]


_WHOLE = "whole"  # the name of gathered parameters
_CANVASES = 3  # the place of the canvases among the arguments of a program


def placement(params: PyTree, mesh: Mesh, sharded: bool) -> PyTree:
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


def _attack(
    embed: Embed,
    composed: Composed,
    gamma: float,
    params: PyTree,
    targets: jax.Array,
    dials: Dials,
    canvases: jax.Array,
    carriers: jax.Array,
    colours: jax.Array,
    regions: jax.Array,
    keys: jax.Array,
    real: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Attacks the faces of one device: masks [B,160,160,3] and targets [B].

    Args:
      embed, composed: the surrogates as one, and the attack.
      gamma: as for `attack.run`.
      params: of the surrogates.
      targets: [T,D].
      dials: see `Dials`.
      canvases: [B,160,160,3], pixel levels.
      carriers, colours: [B,160,160] and [B,3,3], see `types.Problem`.
      regions: [B,160,160,1], see `region.face_region`.
      keys: [B].
      real: [B] which faces are no padding.
    """
    budget = budgets(canvases, regions, dials.level, dials.exponent)
    problem = attack.prepare(embed, params, canvases, targets, budget)
    problem = problem._replace(
        cap=jnp.broadcast_to(dials.epsilon, real.shape), carrier=carriers, colours=colours
    )
    method = composed(embed, dials)
    state = attack.last(
        method,
        params,
        keys,
        attack.initial_state(method, problem),
        problem,
        num_steps=dials.steps,
        gamma=gamma,
        mask=real,
    )
    return state.image - problem.image, state.target


def budgets(
    images: jax.Array, regions: jax.Array, level: jax.Array, exponent: jax.Array
) -> jax.Array:
    """[B,160,160,1] the budget of every pixel of canvases [B,160,160,3]: perceptual within the regions
    [B,160,160,1] of the faces, fading out at the border of the canvas as the pasted mask does."""
    fade = jnp.asarray(window((CANVAS_SIZE, CANVAS_SIZE)))[..., None]

    def budget(image: jax.Array, region: jax.Array) -> jax.Array:
        return perceptual.budget(image, level, jnp.inf, exponent=exponent, region=fade * region)

    return jax.vmap(budget)(images, regions)
