"""The straight path: photo → faces → batches → masks → file → proof, for many photos in a stream."""

import importlib.metadata
import sys
import warnings
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from ports import detection
from tipim_jax.core.types import PyTree
from tipim_jax.errors import Notice
from tipim_jax.photos import engine, verify
from tipim_jax.photos.compilation import Program
from tipim_jax.photos.engine import Engine
from tipim_jax.photos.faces import Find, finder
from tipim_jax.photos.finish import Encoding, Finished, finish, left_alone
from tipim_jax.photos.pending import Choose, PendingPhoto, choose_all, detect, make_masks
from tipim_jax.photos.photo import Photo
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.results import FaceResult
from tipim_jax.photos.targets import Targets, warning
from tipim_jax.photos.verify import Verifier

PACKAGES = ("tipim-jax", "jax", "jaxlib", "flax", "optax", "numpy", "pillow")
_USUAL = (
    detection.SIDE
)  # looking at a photo of this size loads the programs that nearly every photo needs

Key = TypeVar("Key", bound=Hashable)


class Models(NamedTuple):
    """The networks that the path needs, loaded once.

    Attributes:
      find: photo [H,W,3] uint8 -> its faces, the largest first (`faces.find` with a detector).
      engine: makes the masks.
      judges: recognisers that judge the saved files.
      targets: those of the user, if a photo of one of them should be told.
    """

    find: Find
    engine: Engine
    judges: Sequence[Verifier]
    targets: Targets | None = None


def load_models(
    surrogates: Sequence[str],
    goals: Targets,
    settings: Settings,
    *,
    own: bool = False,
    judges: Sequence[str] | None = None,
    detector: PyTree = None,
    photos: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    shard_params: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> Models:
    """Loads the networks, judges beside surrogates, and compiles the attack. Targets alike are a `Notice`.

    Args:
      surrogates, settings, photos, devices, shard_params, told: as for `engine.build`.
      goals: the targets.
      own: whether they are the user's.
      judges: names of the recognisers that judge; all that are here by default, which are loaded while the
        first masks are made.
      detector: parameters of `ports.networks.yunet`, where they are loaded already.

    Raises:
      UserError: as `engine.build` and `verify.verifiers`.
    """
    find = finder(detector)
    pool = ThreadPoolExecutor(1)
    try:
        looking = pool.submit(find, np.zeros((_USUAL, _USUAL, 3), np.uint8))
        # Nobody asks them before the first masks are made. Those that are named may be refused, and soon.
        asked = (
            _Later(pool.submit(verify.verifiers)) if judges is None else verify.verifiers(judges)
        )
        made = engine.build(
            surrogates,
            goals,
            settings,
            devices,
            photos=photos,
            shard_params=shard_params,
            told=told,
        )
        looking.result()
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown(wait=False)
    if problem := warning(goals):
        warnings.warn(Notice(problem), stacklevel=2)
    return Models(find, made, asked, goals if own else None)


class _Later(Sequence[Verifier]):
    """Judges that are still being loaded; whoever looks at one waits for all."""

    def __init__(self, loading: Future[list[Verifier]]) -> None:
        self._loading = loading

    def __getitem__(self, index: Any) -> Any:
        return self._loading.result()[index]

    def __len__(self) -> int:
        return len(self._loading.result())


class Progress(NamedTuple):
    """How far a stream is.

    Attributes:
      read: photos that were read, whether that went well or not.
      photos: that are finished, one way or another.
      found: faces found so far that get a mask.
      masked: of these, those whose mask is made.
      seconds: that making masks took so far.
    """

    read: int = 0
    photos: int = 0
    found: int = 0
    masked: int = 0
    seconds: float = 0.0


class Outcome(NamedTuple, Generic[Key]):
    """What became of a photo: exactly one of `finished`, `faceless` and `error` is set.

    Attributes:
      key: of the photo, as given.
      finished: the protected photo.
      faceless: why no face gets a mask; there is nothing to save then.
      faces: of a photo that is `faceless`, those that were too small.
      error: what went wrong; a `UserError` is something about the photo, all else a fault of the program.
    """

    key: Key
    finished: Finished | None = None
    faceless: str = ""
    faces: tuple[FaceResult, ...] = ()
    error: Exception | None = None


@dataclass
class _Waiting(Generic[Key]):
    """A photo between its detection and its end; without `pending` it was not even read."""

    key: Key
    pending: PendingPhoto | None = None
    error: Exception | None = None

    @property
    def settled(self) -> bool:
        return self.error is not None or (self.pending is not None and self.pending.masked)


def protect_stream(
    models: Models,
    photos: Iterable[tuple[Key, Callable[[], Photo]]],
    encoding: Encoding = Encoding(),
    *,
    choose: Callable[[Key], Choose] = lambda _: choose_all,
    pictures: bool = False,
    asked: int | None = None,
    told: Callable[[Progress], None] = lambda _: None,
) -> Iterator[Outcome[Key]]:
    """Protects photos in memory, faces of different photos together in full batches.

    Whatever goes wrong with a photo becomes its outcome, and the others go on; where a batch fails, the
    faces of each of its photos are tried apart. Every face draws from a key of its photo's pixels and
    the seed, so its mask does not depend on its neighbours (unless γ > 0, which ties a batch together).
    The faces of very few photos are attacked one by one (`Engine.alone`).

    Args:
      models: see `Models`.
      photos: a key of the caller's choice for each photo, and what gives the photo when its turn comes.
      encoding: of the files.
      choose: key of a photo -> what chooses the faces to protect; all of them by default.
      pictures: put pictures of the faces in the results.
      asked: how many photos were asked for, those done earlier among them; very many by default. The bytes
        depend on it where it is small.
      told: called after every photo that is read, every batch, and every photo that is finished.

    Yields:
      An outcome per photo, as they are finished, in order.
    """
    attacker, photos_asked = models.engine, sys.maxsize if asked is None else asked
    waiting: deque[_Waiting[Key]] = deque()
    queue: deque[tuple[_Waiting[Key], int]] = deque()
    progress = Progress()

    def tell(
        read: int = 0, photos: int = 0, found: int = 0, masked: int = 0, seconds: float = 0.0
    ) -> None:
        nonlocal progress
        progress = Progress(
            progress.read + read,
            progress.photos + photos,
            progress.found + found,
            progress.masked + masked,
            progress.seconds + seconds,
        )
        told(progress)

    def attack(program: Program, faces: Sequence[tuple[_Waiting[Key], int]]) -> None:
        pairs = [(one.pending, i) for one, i in faces if one.pending is not None]
        try:
            made = make_masks(attacker, program, pairs)
        except Exception as error:
            together = list({id(one): one for one, _ in faces}.values())
            if len(together) == 1:
                together[0].error = error
                tell(masked=len(faces))
            else:
                for guilty in together:
                    attack(program, [pair for pair in faces if pair[0] is guilty])
        else:
            tell(masked=len(faces), seconds=made.seconds)

    def attack_next(program: Program, faces: deque[tuple[_Waiting[Key], int]]) -> None:
        batch: list[tuple[_Waiting[Key], int]] = []
        while faces and len(batch) < program.faces:
            one, i = faces.popleft()
            if one.error is None:
                batch.append((one, i))
            else:  # its other faces failed
                tell(masked=1)
        if batch:
            attack(program, batch)

    def finished(flush: bool) -> Iterator[Outcome[Key]]:
        while queue and (flush or len(queue) >= attacker.capacity):
            attack_next(attacker.full(), queue)
        while waiting and waiting[0].settled:
            outcome = _finished(models, waiting.popleft(), encoding, pictures)
            tell(photos=1)
            yield outcome

    for key, read in photos:
        one = _Waiting(key)
        waiting.append(one)
        try:
            one.pending = detect(models.find, read(), choose(key))
        except Exception as error:
            one.error = error
            tell(read=1)
        else:
            faces = deque((one, i) for i in one.pending.to_protect)
            tell(read=1, found=len(faces))
            if attacker.alone(len(faces), photos_asked):
                while faces:
                    attack_next(attacker.single(), faces)
            queue.extend(faces)
        yield from finished(flush=False)
    yield from finished(flush=True)
    tuple(models.judges)  # so that nothing is loaded any more once a stream is over, faces or not


def _finished(
    models: Models, one: _Waiting[Key], encoding: Encoding, pictures: bool
) -> Outcome[Key]:
    if one.error is not None or one.pending is None:
        return Outcome(one.key, error=one.error)
    if one.pending.faceless:
        return Outcome(one.key, faceless=one.pending.faceless, faces=left_alone(one.pending))
    judges = tuple(models.judges)  # if they cannot be loaded, no photo is to blame
    try:
        done = finish(
            one.pending,
            models.engine.settings.epsilon,
            encoding,
            models.find,
            judges,
            pictures=pictures,
            targets=models.targets,
        )
    except Exception as error:
        return Outcome(one.key, error=error)
    return Outcome(one.key, finished=done)


def versions() -> dict[str, str]:
    """The versions of the packages that decide the bytes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}
