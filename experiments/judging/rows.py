"""A protection judged and looked at, photo by photo, on its files; every part is kept and found again."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.judging import protection, retrained
from experiments.judging.journeys import JOURNEYS
from experiments.judging.scene import PROBES, Scene
from experiments.judging.sightings import seen_by
from experiments.protection import cells
from experiments.protection.runs import Run
from experiments.protection.saved import ENCODING
from experiments.protection.specs import Name
from experiments.seeing.regions import regions
from experiments.seeing.visibility import visible
from tipim_jax.photos.crops import apply
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo

SAVED = "as saved"
RETRAINED = "judged with a linear head"
IN_GALLERY = "protected photos in the gallery"
_PART = 8

Values = Mapping[str, Mapping[str, np.ndarray]]  # measure -> judge -> [P], one value a photo
Groups = Mapping[str, Values]


class Row(NamedTuple):
    """A protection, measured.

    Attributes:
      name: the protection.
      files: [N] of the scene's subjects.
      judged: what was done to the files, or who judged them -> group -> measure -> judge -> [P].
      seen: group -> measure -> [P].
      lost: what was done -> share of faces that are not detected any more.
    """

    name: Name
    files: Sequence[Path]
    judged: Mapping[str, Groups]
    seen: Mapping[str, Mapping[str, np.ndarray]]
    lost: Mapping[str, float]


def measured(
    run: Run,
    scene: Scene,
    name: Name,
    files: Sequence[Path],
    journeys: Sequence[str],
    folds: int = 0,
) -> Row:
    """Judges the files of a protection as saved and after journeys, and looks at them.

    Args:
      run: where parts are kept, and the seed.
      scene: who judges whom.
      name: of the protection; judges that it is made on are left aside.
      files: [N] of the scene's subjects.
      journeys: names of `JOURNEYS`.
      folds: of people, for judges `retrained` on the protected photos of the others; 0 for none.
    """
    judged: dict[str, Groups] = {}
    lost = {}
    for after in (SAVED, *journeys):
        found = _judged(run, scene, name, files, after)
        lost[after] = float(found.pop("lost").mean())
        judges = [judge for judge in found if judge not in name.surrogates]
        embedded = {judge: found[judge] for judge in judges}
        judged[after] = _figures(scene, embedded)
        if after == SAVED and PROBES in scene.groups:
            judged |= _by_those_who_know(scene, embedded, folds)
    seen = {group: _looked_at(run, scene, name, files, group) for group in scene.groups}
    return Row(name, files, judged, seen, lost)


def _judged(
    run: Run, scene: Scene, name: Name, files: Sequence[Path], after: str
) -> dict[str, np.ndarray]:
    def make(indices: np.ndarray) -> dict[str, np.ndarray]:
        photos = []
        for i in indices:
            pixels, landmarks = read_photo(files[i]).pixels, scene.subjects[i].landmarks
            if after != SAVED:
                # Of its own content, so that a photo fares the same whatever others there are.
                key = int.from_bytes(hashlib.sha256(pixels.tobytes()).digest()[:8], "big")
                pixels, moved = JOURNEYS[after](pixels, np.random.default_rng([run.seed, key]))
                landmarks = apply(moved, landmarks)
            photos.append((pixels, landmarks))
        return seen_by(scene.judges, scene.find, photos)

    return cells.in_parts(run.workdir, f"{name.folder}/judged {after}", len(files), _PART, make)


def _by_those_who_know(
    scene: Scene, after: Mapping[str, np.ndarray], folds: int
) -> dict[str, Groups]:
    """Figures of the probes where somebody has protected photos to learn from, or to search among."""
    probes, linked = scene.groups[PROBES], scene.linked
    identities = np.array([one.identity for one in scene.subjects])
    made: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for judge, embedded in after.items():
        known, before = scene.known[judge], scene.before[judge]
        asked = before[probes], embedded[probes], identities[probes]
        figures = {}
        if folds:
            figures[RETRAINED] = retrained.found(known, *asked, folds)
        if linked.stop:
            theirs = slice(probes.stop, linked.stop)
            fuller = known._replace(
                gallery=np.concatenate([known.gallery, embedded[theirs]]),
                people=np.concatenate([known.people, identities[theirs]]),
            )
            figures[IN_GALLERY] = protection.found(fuller, *asked)
        for who, measures in figures.items():
            for measure, values in measures.items():
                made.setdefault(who, {}).setdefault(measure, {})[judge] = values
    return {who: {PROBES: values} for who, values in made.items()}


def _figures(scene: Scene, after: Mapping[str, np.ndarray]) -> Groups:
    """Group -> measure -> judge -> [P], from embeddings [N,D] of judges."""
    made: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    identities = np.array([one.identity for one in scene.subjects])
    for judge, embedded in after.items():
        known, before = scene.known[judge], scene.before[judge]
        for group, at in scene.groups.items():
            if group != PROBES:
                hidden = protection.same_photo_hidden(before[at], embedded[at], known.threshold)
                figures = {protection.SAME_PHOTO: hidden}
            else:
                figures = protection.found(known, before[at], embedded[at], identities[at])
                if scene.linked.stop:
                    both = scene.linked
                    figures |= protection.linked(known, embedded[both], identities[both], at.stop)
            for measure, values in figures.items():
                made.setdefault(group, {}).setdefault(measure, {})[judge] = values
    return made


def _looked_at(
    run: Run, scene: Scene, name: Name, files: Sequence[Path], group: str
) -> dict[str, np.ndarray]:
    """Measure of visibility -> [P] of a group, a cell a photo."""
    start, stop = scene.groups[group].start, scene.groups[group].stop

    def make(indices: np.ndarray) -> dict[str, np.ndarray]:
        index = start + int(indices[0])
        subject = scene.subjects[index]
        photo = read_photo(subject.path)
        plain = decode(encode(photo, photo.pixels, **ENCODING._asdict())[0]).pixels
        laid = regions(photo.pixels.shape[:2], subject.landmarks, subject.faces)
        figures = visible(photo.pixels, read_photo(files[index]).pixels, plain, laid)
        return {measure: np.array([value]) for measure, value in figures.items()}

    return cells.in_parts(run.workdir, f"{name.folder}/seen/{group}", stop - start, 1, make)
