"""Protecting photos from Python: `protect`, `Protector`, and what they give back.

The work is that of `tipim protect`: the same networks (`protect.load_models`) and the same stream.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ports import zoo
from ports.networks import yunet
from tipim_jax.errors import UserError
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos import formats, presets, programs
from tipim_jax.photos.encode import encode
from tipim_jax.photos.faces import Face, Find
from tipim_jax.photos.files import write_atomically
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.memory import Picture, name_of, photo_of
from tipim_jax.photos.pending import Choose, choose_all
from tipim_jax.photos.photo import Photo
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.protect import Outcome, Progress, load_models, protect_stream
from tipim_jax.photos.results import FaceResult, Match
from tipim_jax.photos.targets import Targets
from tipim_jax.photos.targets import choose as choose_targets


@dataclass(frozen=True)
class ProtectedFace:
    """One face of a protected photo.

    Attributes:
      box: left, top, width, height in pixels of the upright photo.
      mask: [h,w,3] int16, what was added within the box, pixel levels; None for a face left alone.
      verdicts: recogniser -> `Match`, its cosines before and after and its threshold.
      skipped: why the face was left alone; empty if it was not.
      result: everything that was measured.
    """

    box: tuple[float, float, float, float]
    mask: np.ndarray | None = field(repr=False)
    verdicts: Mapping[str, Match]
    skipped: str
    result: FaceResult = field(repr=False)

    @property
    def protected(self) -> bool:
        """Whether no recogniser that was asked knows the face any more."""
        return self.result.protected


class Protected:
    """What became of a photo.

    Attributes:
      name: its path, or "photo".
      faces: the largest first; empty if none was found.
      notes: what else the user should know, one sentence each.
      error: what went wrong, or None. Without a protected photo `image`, `pixels`, `data` and `save`
        raise it, so that no unprotected photo is taken for a protected one.
    """

    def __init__(self, name: str, photo: Photo | None, outcome: Outcome[Any], encoding: Encoding):
        self.name = name
        self.error = outcome.error
        self._photo, self._outcome, self._encoding = photo, outcome, encoding

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Protected {self.name}: {self.error}>"
        hidden = sum(face.protected for face in self._masked)
        return f"<Protected {self.name}: {hidden} of {len(self._masked)} faces protected>"

    @property
    def protected(self) -> bool:
        """Whether a face got a mask, and no recogniser that was asked knows any such face any more.

        Faces that were left alone, too small for recognisers or not chosen, do not count.
        """
        return bool(self._masked) and all(face.protected for face in self._masked)

    @property
    def _masked(self) -> list[ProtectedFace]:
        return [face for face in self.faces if not face.skipped]

    @property
    def pixels(self) -> np.ndarray:
        """[H,W,3] uint8 RGB, as the file shows them; the photo's own if no face is in it."""
        done = self._checked().finished
        assert self._photo is not None
        return self._photo.pixels if done is None else done.pixels

    @property
    def data(self) -> bytes:
        """The bytes of the file that the verdicts are about."""
        done = self._checked().finished
        if done is not None:
            return done.data
        assert self._photo is not None
        return encode(self._photo, self._photo.pixels, **self._encoding._asdict())[0]

    @cached_property
    def image(self) -> Image.Image:
        """The file as an image of Pillow."""
        image = Image.open(io.BytesIO(self.data))
        image.load()
        return image

    @cached_property
    def faces(self) -> tuple[ProtectedFace, ...]:
        """The faces, the largest first."""
        done = self._outcome.finished
        results = self._outcome.faces if done is None else done.faces
        return tuple(self._face(result) for result in results)

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know."""
        done = self._outcome.finished
        if done is not None:
            return done.notes
        return (self._outcome.faceless,) if self._outcome.faceless else ()

    @property
    def format(self) -> str:
        """The format of `data`, a key of `formats.FORMATS`."""
        self._checked()
        assert self._photo is not None
        given = self._encoding.format
        return formats.format_named(given) if given else self._photo.format

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Writes `data`, the whole file or none, and the folders above it.

        Raises:
          UserError: the path's suffix stands for another format, the file exists and `overwrite` is not
            set, or the disk refuses.
        """
        path = Path(path)
        if other := formats.other_suffix(path, self.format):
            raise UserError(
                f"{path} would hold a {self.format} file; name it {path.with_suffix(other).name}, or "
                'choose the format when protecting: format="…"'
            )
        write_atomically(path, self.data, overwrite=overwrite)
        return path

    def _checked(self) -> Outcome[Any]:
        if self.error is not None:
            raise self.error
        return self._outcome

    def _face(self, result: FaceResult) -> ProtectedFace:
        mask = None
        if not result.skipped and self._photo is not None:
            left, top, width, height = result.box
            rows = slice(max(0, int(top)), int(np.ceil(top + height)))
            columns = slice(max(0, int(left)), int(np.ceil(left + width)))
            before, after = (
                p[rows, columns].astype(np.int16) for p in (self._photo.pixels, self.pixels)
            )
            mask = after - before
        return ProtectedFace(result.box, mask, result.matches, result.skipped, result)


class Protector:
    """Loads and compiles once, and protects any number of photos.

    >>> from tipim_jax import Protector
    >>> from tipim_jax.photos.demo import demo_photos
    >>> protector = Protector("low", surrogates=["sface"], steps=2, photos=2)
    >>> for done in protector.map([demo_photos()[0], "missing.jpg"]):
    ...     print(done.error or len(done.faces))
    1
    missing.jpg does not exist

    Attributes:
      models: the networks, loaded and compiled.
      encoding: of the files.
    """

    def __init__(
        self,
        strength: str = "medium",
        *,
        surrogates: Sequence[str] = zoo.SURROGATES,
        targets: str | os.PathLike[str] | Targets | None = None,
        judges: Sequence[str] | None = None,
        format: str | None = None,
        quality: int = 95,
        keep_metadata: bool = False,
        photos: int | None = None,
        **settings: Any,
    ) -> None:
        """Loads the networks and compiles the attack, or takes what an earlier run compiled.

        Args:
          strength: "low", "medium" or "high".
          surrogates: names of the recognisers that masks are made on (`tipim models`).
          targets: whom faces may become: a folder of photos, a file of `tipim make-targets`, or `Targets`.
            With them the goal is "become" by default, else "hide".
          judges: names of the recognisers that judge the result; all that are here by default.
          format, quality, keep_metadata: of the files (`encode.encode`); the photo's own format by default,
            PNG for a photo from memory.
          photos: how many there will be, if they are few: faces of very few photos are protected one by one
            rather than in full batches. The bytes depend on it where it is small.
          settings: fields of `presets.Settings` (goal, epsilon, steps, seed, …) in place of the preset's.

        Raises:
          UserError: something of this makes no sense or is not here.
        """
        chosen = presets.choose(strength, targeted=targets is not None, **settings)
        self.encoding = Encoding(format, formats.check_quality(quality), keep_metadata)
        programs.keep_in_cache()
        detector = yunet.load()
        goals = choose_targets(targets, detector, surrogates)
        self.models = load_models(
            surrogates,
            goals,
            chosen,
            own=targets is not None,
            judges=judges,
            detector=detector,
            photos=photos,
        )
        self._photos = photos

    @property
    def settings(self) -> Settings:
        """What masks are made with."""
        return self.models.engine.settings

    def __call__(self, picture: Picture, *, choose: Choose = choose_all) -> Protected:
        """Protects one photo.

        Raises:
          UserError: it cannot be read or saved.
        """
        done = next(self.map([picture], choose=choose))
        if done.error is not None:
            raise done.error
        return done

    def map(
        self,
        pictures: Iterable[Picture],
        *,
        choose: Choose = choose_all,
        told: Callable[[Progress], None] = lambda _: None,
    ) -> Iterator[Protected]:
        """Protects photos as a stream, faces of different photos together in full batches.

        Args:
          pictures: read as they are needed, a few batches ahead.
          choose: faces of a photo -> the numbers of those to protect; all of them by default.
          told: called with how far the stream is.

        Yields:
          What became of each, in order. A photo that cannot be done does not stop the others; its `error`
          says why.
        """
        read: dict[int, tuple[str, Photo | None]] = {}

        def reading(number: int, picture: Picture) -> Photo:
            read[number] = (name_of(picture), None)
            photo = photo_of(picture)
            read[number] = (name_of(picture), photo)
            return photo

        stream = protect_stream(
            self.models,
            ((i, partial(reading, i, picture)) for i, picture in enumerate(pictures)),
            self.encoding,
            choose=lambda _: choose,
            asked=self._photos,
            told=told,
        )
        for outcome in stream:
            name, photo = read.pop(outcome.key)
            yield Protected(name, photo, outcome, self.encoding)


def protect(picture: Picture, strength: str = "medium", **options: Any) -> Protected:
    """Protects the faces of one photo.

    The networks stay loaded for the next call with the same options.

    >>> import tipim_jax
    >>> from tipim_jax.photos.demo import demo_photos
    >>> done = tipim_jax.protect(demo_photos()[0], "low", surrogates=["sface"], steps=2)
    >>> done.image.size, len(done.faces)
    ((509, 640), 1)

    Args:
      picture: a path, an image of Pillow, or [H,W,3] uint8 RGB.
      strength: "low", "medium" or "high".
      options: as for `Protector`; targets as a path.

    Raises:
      UserError: the photo cannot be read or saved, or an option makes no sense.
    """
    fixed = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    return _protector(strength, **fixed)(picture)


@lru_cache(maxsize=2)
def _protector(strength: str, **options: Any) -> Protector:
    return Protector(strength, photos=1, **options)


def detect(picture: Picture) -> tuple[Face, ...]:
    """Finds the faces of a photo, the largest first.

    >>> import tipim_jax
    >>> from tipim_jax.photos.demo import demo_photos
    >>> [face.landmarks.shape for face in tipim_jax.detect(demo_photos()[0])]
    [(5, 2)]

    Raises:
      UserError: the photo cannot be read.
    """
    return tuple(_find()(photo_of(picture).pixels))


@lru_cache(maxsize=1)
def _find() -> Find:
    return find_faces.finder()
