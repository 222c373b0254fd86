"""What recognisers say of faces: their embeddings, and whether two photos show the same person."""

import math
import warnings
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ports import zoo
from tipim_jax.core.ensemble import on_canvas
from tipim_jax.core.geometry import CANVAS_SIZE
from tipim_jax.core.types import Embed, PyTree, Recogniser
from tipim_jax.errors import Notice, UserError
from tipim_jax.photos import programs
from tipim_jax.photos.faces import SMALLEST, Face, Find, Located, finder, located
from tipim_jax.photos.memory import Picture, name_of, photo_of

_BATCH = 4  # canvases embedded at once: one compiled shape for photos with any number of faces


class Verifier(NamedTuple):
    """A recogniser with its threshold.

    Attributes:
      name: of the model.
      embed: (params, canvases [4,160,160,3]) -> [4,D], compiled.
      params: its parameters.
      threshold: cosine above which it says "same person", FAR 1e-3; NaN if never measured.
    """

    name: str
    embed: Any
    params: PyTree
    threshold: float


def verifiers(names: Sequence[str] | None = None) -> list[Verifier]:
    """Loads the recognisers that are here and have been calibrated.

    Args:
      names: these only; all that are available by default, and then one that cannot be loaded after all is a
        `Notice` and is left out.

    Raises:
      UserError: a named model is unknown, absent, damaged or not calibrated.
    """
    if names is None:
        return [verifier for name in calibrated() if (verifier := _loaded(name)) is not None]
    found = [load(name) for name in names]
    for verifier in found:
        if math.isnan(verifier.threshold):
            raise UserError(
                f"{verifier.name} has no threshold yet; measure it with "
                f"`tipim models calibrate DIR --models={verifier.name}`"
            )
    return found


def _loaded(name: str) -> Verifier | None:
    try:
        return load(name)
    except UserError as error:
        warnings.warn(Notice(f"{name} is not asked: {error}"), stacklevel=3)
        return None


def calibrated() -> list[str]:
    """The names of the recognisers that are here and have been calibrated."""
    here = [card.name for card in zoo.available() if not card.missing]
    return [name for name in here if zoo.thresholds(name)]


def load(name: str, dtype: Any = jnp.float32) -> Verifier:
    """Loads one recogniser, computing in `dtype`; its threshold is NaN if it has not been calibrated.

    Raises:
      ValueError: it is unknown or absent.
    """
    calibration = zoo.thresholds(name)
    threshold = calibration["far_1e-3"] if calibration else math.nan
    return from_recogniser(zoo.load(name, dtype), threshold, kept=zoo.find(name))


def from_recogniser(
    recogniser: Recogniser, threshold: float = math.nan, *, kept: Hashable = None
) -> Verifier:
    """Makes a verifier of a recogniser; those of one network and framing share what is compiled.

    Args:
      recogniser: the network; its parameters lie on a device if its program is to be kept.
      threshold: of the verifier.
      kept: tells this network from all others, by its `repr`, to keep its program between runs; None to
        compile it anew.
    """
    leaves, tree = jax.tree.flatten(recogniser.params)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    embed = _batched(on_canvas(recogniser))
    if kept is not None:
        (device,) = leaves[0].devices()
        embed = _program(embed, tree, shapes, device, kept) or embed
    return Verifier(recogniser.name, embed, recogniser.params, threshold)


@lru_cache(maxsize=64)
def _batched(embed: Embed) -> Any:
    return jax.jit(jax.vmap(embed, (None, 0)))


@lru_cache(maxsize=64)
def _program(embed: Any, tree: Any, shapes: Any, device: jax.Device, kept: Hashable) -> Any:
    """A judge's program for parameters of these shapes; None where none is kept."""
    canvases = jax.ShapeDtypeStruct((_BATCH, CANVAS_SIZE, CANVAS_SIZE, 3), jnp.float32)
    arguments = (jax.tree.unflatten(tree, shapes), canvases)
    return programs.compiled(embed, arguments, device, "judge", kept)


def embed_canvases(verifier: Verifier, canvases: np.ndarray) -> np.ndarray:
    """Embeds [N,160,160,3] -> [N,D], a few at a time in one compiled shape."""
    count = len(canvases)
    padded = np.concatenate([canvases, np.repeat(canvases[-1:], -count % _BATCH, axis=0)])
    parts = [
        verifier.embed(verifier.params, jnp.asarray(padded[i : i + _BATCH], jnp.float32))
        for i in range(0, len(padded), _BATCH)
    ]
    return np.concatenate(parts)[:count]


def embeddings(verifier: Verifier, faces: Sequence[Face]) -> np.ndarray:
    """Embeds faces: [N,D]."""
    return embed_canvases(verifier, np.stack([face.canvas for face in faces]))


def ready(judges: Sequence[Verifier] | None) -> Sequence[Verifier]:
    """The recognisers given, or all that are here.

    Raises:
      UserError: there is none.
    """
    judges = verifiers() if judges is None else judges
    if not judges:
        raise UserError(
            'no calibrated recogniser is here to ask; run `pip install "tipim-jax[models]"`'
        )
    return judges


def closeness(cosine: float, threshold: float) -> float:
    """A cosine on a scale that recognisers share: 1 for equal faces, 0 at the threshold."""
    return (cosine - threshold) / (1 - threshold)


class Opinion(NamedTuple):
    """What one recogniser says of two faces.

    Attributes:
      cosine: of their embeddings.
      threshold: above it they are the same person.
    """

    cosine: float
    threshold: float

    @property
    def same(self) -> bool:
        return self.cosine > self.threshold


class Pair(NamedTuple):
    """A face of one photo and a face of another.

    Attributes:
      a, b: the faces.
      opinions: recogniser -> `Opinion`.
    """

    a: Located
    b: Located
    opinions: Mapping[str, Opinion]

    @property
    def votes(self) -> int:
        """How many recognisers say "same person"."""
        return sum(opinion.same for opinion in self.opinions.values())

    @property
    def same(self) -> bool:
        """Whether more than half of the recognisers say "same person"; a tie is not enough."""
        return 2 * self.votes > len(self.opinions)

    @property
    def rank(self) -> tuple[int, float]:
        """What pairs are ordered by: votes, then the sum of the closenesses."""
        return self.votes, sum(closeness(*said) for said in self.opinions.values())


class Verification(NamedTuple):
    """Two photos compared.

    Attributes:
      a, b: all faces of either, the largest first.
      pairs: every face of one with every face of the other, the best pair first. Faces too small to
        recognise are left out.
    """

    a: tuple[Located, ...]
    b: tuple[Located, ...]
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> bool:
        """Whether the photos have a person in common."""
        return self.pairs[0].same


def verify(
    a: Picture, b: Picture, *, find: Find | None = None, judges: Sequence[Verifier] | None = None
) -> Verification:
    """Compares every face of one photo with every face of another.

    >>> import tipim_jax
    >>> from tipim_jax.photos.demo import demo_photos
    >>> photo = demo_photos()[0]
    >>> tipim_jax.verify(photo, photo).same
    True

    Args:
      a: a photo.
      b: the photo that it is compared with.
      find: finds faces; YuNet by default.
      judges: the recognisers asked; all that are here and calibrated by default.

    Raises:
      UserError: a photo cannot be read or shows no face large enough, or there is no recogniser.
    """
    find = find or finder()
    all_a, all_b = _faces(a, "the first photo", find), _faces(b, "the second photo", find)
    large_a, large_b = ([one for one in some if not one.face.small] for some in (all_a, all_b))
    opinions: dict[tuple[int, int], dict[str, Opinion]] = defaultdict(dict)
    for judge in ready(judges):
        embedded = embeddings(judge, [one.face for one in (*large_a, *large_b)])
        cosines = embedded[: len(large_a)] @ embedded[len(large_a) :].T
        for (i, j), cosine in np.ndenumerate(cosines):
            opinions[i, j][judge.name] = Opinion(float(cosine), judge.threshold)
    pairs = [Pair(large_a[i], large_b[j], said) for (i, j), said in opinions.items()]
    return Verification(all_a, all_b, tuple(sorted(pairs, key=lambda p: p.rank, reverse=True)))


def _faces(picture: Picture, name: str, find: Find) -> tuple[Located, ...]:
    name = name_of(picture, name)
    shown = photo_of(picture).pixels
    found = located(find(shown), shown.shape)
    if not found:
        raise UserError(f"{name} shows no face; give a photo that does")
    if found[0].face.small:
        raise UserError(
            f"every face in {name} is smaller than {SMALLEST} pixels; give a larger photo"
        )
    return found
