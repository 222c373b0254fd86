"""From aligned faces to masks: everything that is loaded and compiled once and used for every batch."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ports import zoo
from tipim_jax.core import batching
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.types import PyTree, Recogniser
from tipim_jax.photos import compilation
from tipim_jax.photos.compilation import FACES, Composed, Once, Program, dials
from tipim_jax.photos.faces import Face
from tipim_jax.photos.paste import round_trip
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.targets import Targets

# Weights that bring the squared distances of a recogniser between strangers to the scale of the others
# (dlib's embeddings of any two faces have cosines above 0.7).
WEIGHTS = {"dlib": 4.0}
# So many faces, one after the other, cost no more than a full batch of a device: on CPUs a batch of eight
# takes 4.7 times as long as a face alone; elsewhere it was not measured.
MAX_SINGLE_ON_CPU = 4
MAX_SINGLE = 1


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
    """An attack with everything that it needs; its programs are compiled when they are first called for.

    Attributes:
      settings: what it was built for, with the precision that was chosen.
      surrogates: names of the recognisers that the masks are made on.
      target_names: [T], empty for a goal without targets.
      targets: [T,D] embeddings, joined as the ensemble joins them.
      params: of the surrogates, on every device of the mesh.
      mesh: the devices, along `compilation.FACES`.
      single: the program for one face of each device.
      full: the program for as many as pay and fit, or as the settings say.
    """

    settings: Settings
    surrogates: tuple[str, ...]
    target_names: tuple[str, ...]
    targets: jax.Array
    params: PyTree
    mesh: Mesh
    single: Once[Program]
    full: Once[Program]

    @property
    def capacity(self) -> int:
        """Faces of a full batch."""
        return self.full().faces

    @property
    def compile_seconds(self) -> float:
        """What it took to compile, or to load what an earlier run compiled, so far."""
        return sum(program.made.seconds for program in (self.single, self.full) if program.made)

    def alone(self, faces: int, photos: int) -> bool:
        """Whether the faces of a photo are attacked one by one, in no batch with those of other photos.

        Args:
          faces: of the photo, to be protected.
          photos: that were asked for, the ones done earlier among them.
        """
        return _alone(self.settings, self.mesh, faces, photos)


def _alone(settings: Settings, mesh: Mesh, faces: int, photos: int) -> bool:
    # Programs of different batches round differently, and a sign step makes a level of that. What decides is
    # therefore the photo and the number of photos asked for, and never what is left to do: an interrupted
    # run goes on to the same bytes.
    most = MAX_SINGLE_ON_CPU if compilation.on_cpu(mesh) else MAX_SINGLE
    left_open = settings.batch_size is None and settings.gamma == 0
    return left_open and faces * photos <= most * mesh.size


def build(
    surrogates: Sequence[str],
    targets: Targets,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
    *,
    photos: int | None = None,
    shard_params: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Engine:
    """Loads the surrogates and compiles the attack, or takes the program from an earlier run.

    Args:
      surrogates: names of the recognisers.
      targets: that cover them.
      settings: of the attack; its batch size is that of one device, and where it is None it becomes the largest
        that pays and whose program fits the device.
      devices: of this process, the first one by default.
      photos: how many there are; many if None. The program that they are likely to need is made at once,
        the other one when it is called for.
      shard_params: as for `compilation.make_compiler`.
      told: called with what is done from then on, in a few words.

    Raises:
      UserError: a surrogate is unknown or absent, the targets do not cover it, or nothing fits the device.
    """
    mesh = compilation.mesh_over(devices)
    settings = compilation.with_precision(settings, mesh)
    told("loading recognisers")
    recognisers = [zoo.load(name, jnp.dtype(settings.precision)) for name in surrogates]
    weights = [WEIGHTS.get(name, 1.0) for name in surrogates]
    made = from_recognisers(
        recognisers,
        weights,
        targets.names if settings.goal == "become" else (),
        _joined(surrogates, weights, targets, settings.goal),
        settings,
        devices,
        shard_params=shard_params,
        kept=[zoo.find(name) for name in surrogates],
    )
    likely = made.single if photos is not None and made.alone(1, photos) else made.full
    told("compiling the attack, or loading it")
    likely()
    return made


def from_recognisers(
    recognisers: Sequence[Recogniser],
    weights: Sequence[float],
    target_names: tuple[str, ...],
    targets: np.ndarray,
    settings: Settings,
    devices: Sequence[jax.Device] | None = None,
    *,
    composed: Composed | None = None,
    shard_params: bool = False,
    kept: Any = None,
) -> Engine:
    """Makes the engine of any recognisers.

    Args:
      recognisers: the surrogates, computing in what `settings` say or by their own choice.
      weights: one each.
      target_names: [T].
      targets: [T,D] embeddings, joined as `ensemble.combine` joins them.
      settings, devices: as for `build`.
      composed, shard_params, kept: as for `compilation.make_compiler`.
    """
    mesh = compilation.mesh_over(devices)
    settings = compilation.with_precision(settings, mesh)
    compile_program = compilation.make_compiler(
        recognisers,
        weights,
        targets.shape,
        settings,
        mesh,
        composed=composed,
        shard_params=shard_params,
        kept=kept,
    )

    def program(settings: Settings) -> Once[Program]:
        limit = compilation.memory_limit(mesh)
        compile_batch = partial(
            compilation.compile_full_batch, compile_program, settings, mesh, limit
        )
        return Once(partial(compilation.timed, compile_batch))

    params = tuple(recogniser.params for recogniser in recognisers)
    return Engine(
        settings,
        tuple(recogniser.name for recogniser in recognisers),
        target_names,
        jax.device_put(jnp.asarray(targets), NamedSharding(mesh, P())),
        jax.device_put(params, compilation.placement(params, mesh, shard_params)),
        mesh,
        program(settings._replace(batch_size=1)),
        program(settings),
    )


def _joined(
    surrogates: Sequence[str], weights: Sequence[float], targets: Targets, goal: str
) -> np.ndarray:
    """[T,D] what the embeddings move towards; nothing in particular for a face that only hides."""
    if goal == "hide":
        return np.zeros((1, sum(zoo.find(name).features for name in surrogates)), np.float32)
    return targets.joined(surrogates, weights)


@lru_cache(maxsize=1024)
def _carrier(scale: float) -> np.ndarray:
    # Above 2½ photo pixels per canvas pixel nothing is lost on the way that could be kept.
    return round_trip(min(scale, 2.5), CANVAS_SIZE)


def attack_faces(
    engine: Engine,
    program: Program,
    faces: Sequence[Face],
    colours: Sequence[np.ndarray],
    keys: Sequence[jax.Array],
) -> Masks:
    """Makes the masks of up to `program.faces` faces.

    Args:
      engine: from `build`.
      program: the engine's, for single faces or full batches.
      faces: n.
      colours: n × [3,3], see `types.Problem`.
      keys: n random keys.
    """
    started = time.perf_counter()
    count = len(faces)
    padded, real = batching.pad(np.stack([face.canvas for face in faces]), program.faces)
    index = np.minimum(np.arange(program.faces), count - 1)
    carriers = np.stack([_carrier(face.scale) for face in faces])[index]
    regions = np.stack([face.region for face in faces])[index]
    arrays = (
        padded,
        carriers,
        np.stack(colours)[index],
        regions,
        jnp.stack(list(keys))[index],
        real,
    )
    spread = NamedSharding(engine.mesh, P(FACES))
    masks, targets = program.run(
        engine.params,
        engine.targets,
        dials(engine.settings),
        *jax.device_put(arrays, spread),
    )
    masks, targets = np.asarray(masks)[:count], np.asarray(targets)[:count]
    return Masks(masks, targets, time.perf_counter() - started)
