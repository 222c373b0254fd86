"""The identities a photo may be taken for: virtual people, or photos one is authorised to use.

A virtual identity is the pixel average of several people's aligned faces. Averages of about five are no
closer to any of them than strangers are, and still differ from one another. Only embeddings are
stored, one array per recogniser.
"""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ports import zoo
from tipim_jax.core.types import PyTree
from tipim_jax.errors import UserError
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.faces import Face
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.folders import photos_below
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.verify import Verifier, embeddings
from tipim_jax.photos.verify import load as load_verifier

BLEND = 5  # people in a virtual identity
_NAMED = 5  # targets in a sentence
_ROWS = 512  # targets compared with all others at a time
COUNT = 10  # virtual identities, as many targets as in the paper


class Targets(NamedTuple):
    """T target identities.

    Attributes:
      names: [T] what reports call them.
      embeddings: recogniser -> [T,D], unit norm.
    """

    names: tuple[str, ...]
    embeddings: Mapping[str, np.ndarray]

    def joined(self, surrogates: Sequence[str], weights: Sequence[float]) -> np.ndarray:
        """[T,D] as `ensemble.combine` joins the embeddings of these recognisers.

        Raises:
          UserError: they have no embedding of one of the surrogates.
        """
        missing = [name for name in surrogates if name not in self.embeddings]
        if missing:
            raise UserError(
                f"the targets hold no embeddings of {', '.join(missing)}; make targets that do with "
                "`tipim make-targets`, or give photos with --targets"
            )
        for name in surrogates:
            length, wanted = self.embeddings[name].shape[1], zoo.find(name).features
            if length != wanted:
                raise UserError(
                    f"the targets' embeddings of {name} have {length} numbers instead of {wanted}; "
                    "make the targets anew with `tipim make-targets`"
                )
        shares = np.asarray(weights, np.float64) / np.sum(weights)
        parts = [np.sqrt(s) * self.embeddings[name] for s, name in zip(shares, surrogates)]
        return np.concatenate(parts, axis=1).astype(np.float32)


def built_in() -> Targets:
    """The ten virtual identities that come with the library, for the built-in surrogates."""
    with resources.as_file(resources.files("tipim_jax.photos") / "targets.npz") as path:
        return load(path)


def load(path: Path) -> Targets:
    """Reads a file that `save` wrote.

    Raises:
      UserError: it is not such a file.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        names = tuple(str(name) for name in arrays.pop("names"))
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged bytes
        raise UserError(
            f"{path} is not a file of targets; make one with `tipim make-targets`"
        ) from error
    fit = all(
        array.ndim == 2 and array.dtype.kind == "f" and len(array) == len(names)
        for array in arrays.values()
    )
    if not (names and arrays and fit and all(np.isfinite(a).all() for a in arrays.values())):
        raise UserError(
            f"{path} does not hold one embedding of each target; make it anew with "
            "`tipim make-targets`"
        )
    return Targets(names, arrays)


def save(targets: Targets, path: Path) -> None:
    """Writes names and embeddings as a compressed .npz, whole or not at all.

    Raises:
      PhotoError: the file exists, or cannot be written.
    """
    arrays: dict[str, Any] = dict(targets.embeddings)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, names=np.array(targets.names), **arrays)
    write_atomically(path, buffer.getvalue())


def from_photos(folder: Path, detector: Any, verifiers: Sequence[Verifier]) -> Targets:
    """One target for each photo below a folder, by the largest face in it.

    Raises:
      UserError: no photo of the folder shows a face.
    """
    found = [(path, face) for path, face in _largest_faces(folder, detector)]
    if not found:
        raise UserError(f"{folder} holds no photo with a face that could serve as a target")
    names = tuple(path.stem for path, _ in found)
    return Targets(names, _embed(verifiers, [face for _, face in found]))


def make(
    folder: Path,
    detector: Any,
    verifiers: Sequence[Verifier],
    *,
    count: int = COUNT,
    blend: int = BLEND,
    seed: int = 0,
) -> Targets:
    """A set of virtual identities blended from the people of a folder.

    Each subfolder is one person, each photo directly in `folder` another. Ten times `count` blends of
    `blend` people are drawn; of those, blends are chosen one by one so that the largest cosine between
    any two, over all recognisers and relative to the thresholds, stays smallest.

    Raises:
      UserError: fewer people with a face than `blend`, or `count` or `blend` below 1.
    """
    if count < 1 or blend < 1:
        raise UserError(f"count and blend must be at least 1, not {count} and {blend}")
    people: dict[Path, Face] = {}
    for path, face in _largest_faces(folder, detector):
        people.setdefault(path if path.parent == folder else path.parent, face)
    if len(people) < blend:
        raise UserError(
            f"{folder} shows {len(people)} people, fewer than the {blend} of a blend; add photos or "
            "lower --blend"
        )
    rng = np.random.default_rng(seed)
    canvases = [face.canvas for face in people.values()]
    any_face = next(iter(people.values()))
    blends = []
    for _ in range(10 * count):
        chosen = rng.choice(len(canvases), blend, replace=False)
        mean = np.asarray(np.mean([canvases[i] for i in chosen], axis=0), np.float32)
        blends.append(any_face._replace(canvas=mean))
    embedded = _embed(verifiers, blends)
    picked = _spread(embedded, {v.name: v.threshold for v in verifiers}, count)
    names = tuple(f"virtual {i + 1}" for i in range(count))
    return Targets(names, {name: array[picked] for name, array in embedded.items()})


def likeness(embeddings: np.ndarray) -> tuple[float, float]:
    """Mean and largest cosine between any two of [T,D] embeddings; (0, 0) for a single one."""
    cosines = (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]
    return (float(cosines.mean()), float(cosines.max())) if len(cosines) else (0.0, 0.0)


def one_person(targets: Targets) -> list[tuple[str, ...]]:
    """Finds targets that are one person, in groups of their names.

    Two are if more than half of the recognisers that have a threshold say so; so are those that a third one
    joins.
    """
    group = np.arange(len(targets.names))
    for first, second in _same_pairs(targets):
        low, high = sorted((group[first], group[second]))
        group[group == high] = low
    members = [np.flatnonzero(group == i) for i in np.unique(group)]
    return [tuple(targets.names[i] for i in some) for some in members if len(some) > 1]


def _same_pairs(targets: Targets) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of targets that are one person; rows in blocks, as there may be many targets."""
    judged = _thresholds(targets)
    for top in range(0, len(targets.names), _ROWS):
        votes = np.zeros((len(targets.names[top : top + _ROWS]), len(targets.names)), int)
        for name, threshold in judged.items():
            rows = targets.embeddings[name]
            votes += rows[top : top + _ROWS] @ rows.T > threshold
        for i, j in np.argwhere(2 * votes > len(judged)):
            if top + i < j:
                yield int(top + i), int(j)


def shown_by(
    targets: Targets, faces: Mapping[int, Face], verifiers: Sequence[Verifier]
) -> list[str]:
    """Notes on faces that are a target themselves, to more than half of the recognisers with a threshold.

    Args:
      targets: any.
      faces: those of a photo, by their numbers.
      verifiers: the recognisers; those that the targets have no embeddings of are not asked.
    """
    judged = _thresholds(targets)
    asked = [verifier for verifier in verifiers if verifier.name in judged]
    votes = np.zeros((len(faces), len(targets.names)), int)
    for verifier in asked if faces else ():
        cosines = embeddings(verifier, list(faces.values())) @ targets.embeddings[verifier.name].T
        votes += cosines > judged[verifier.name]
    notes = []
    for number, row in zip(faces, votes, strict=True):
        if names := [targets.names[i] for i in np.flatnonzero(2 * row > len(asked))]:
            notes.append(
                f"face {number} is to most recognisers one of the targets ({_first(names, ', ')}); give "
                "others with --targets"
            )
    return notes


def _thresholds(targets: Targets) -> dict[str, float]:
    """Recogniser -> threshold, of the recognisers of the targets that have one."""
    calibrated = {name: zoo.thresholds(name) for name in targets.embeddings}
    return {name: known["far_1e-3"] for name, known in calibrated.items() if known}


def warning(targets: Targets) -> str:
    """One sentence about targets that are one person; empty if there are none."""
    groups = one_person(targets)
    if not groups:
        return ""
    named = _first([_first(group, " = ") for group in groups], "; ")
    return f"some targets are one person to most recognisers; keep one of each: {named}"


def _first(names: Sequence[str], joint: str) -> str:
    """The names, or the first few of many."""
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return joint.join([*names[:_NAMED], *more])


def _spread(
    embedded: Mapping[str, np.ndarray], thresholds: Mapping[str, float], count: int
) -> list[int]:
    """Indices of a spread-out subset: greedily, the one least like those taken already."""
    likeness = np.max(
        [(array @ array.T) / thresholds[name] for name, array in embedded.items()], axis=0
    )
    picked = [int(np.argmin(likeness.mean(axis=1)))]
    while len(picked) < count:
        worst = likeness[picked].max(axis=0)
        worst[picked] = np.inf
        picked.append(int(np.argmin(worst)))
    return picked


def choose(
    given: str | os.PathLike[str] | Targets | None, detector: PyTree, surrogates: Sequence[str]
) -> Targets:
    """The targets that a user gives, the built-in ones by default.

    Args:
      given: a folder of photos, a file of `save`, or targets.
      detector: parameters of `ports.networks.yunet`, for a folder.
      surrogates: the recognisers that photos are embedded with.

    Raises:
      UserError: there are no such targets.
    """
    if given is None:
        return built_in()
    if isinstance(given, Targets):
        return given
    path = Path(given)
    if path.is_dir():
        return from_photos(path, detector, [load_verifier(name) for name in surrogates])
    if not path.exists():
        raise UserError(f"{path} does not exist; give a folder of photos or an .npz file")
    return load(path)


def _largest_faces(folder: Path, detector: Any) -> Iterator[tuple[Path, Face]]:
    for path in sorted(photos_below(folder)):
        try:
            faces = find_faces.find(detector, read_photo(path).pixels)
        except PhotoError:
            continue  # a damaged photo among many is no reason to stop; it gives no target
        if faces and not faces[0].small:
            yield path, faces[0]


def _embed(verifiers: Sequence[Verifier], faces: Sequence[Face]) -> dict[str, np.ndarray]:
    return {verifier.name: embeddings(verifier, faces) for verifier in verifiers}
