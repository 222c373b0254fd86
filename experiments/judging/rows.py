"""A protection judged and looked at, photo by photo, on its files; every part is kept and found again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.judging import judges, retrained
from experiments.judging.scene import PROBES, Scene
from experiments.judging.sightings import seen_by
from experiments.protection import cells
from experiments.protection.degradations import JOURNEYS, generator
from experiments.protection.runs import Run
from experiments.protection.saved import ENCODING
from experiments.protection.specs import Name
from experiments.seeing.visibility import regions, visible
from tipim_jax.photos.crops import apply
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.files import read_photo

SAVED = "as saved"
RETRAINED = "judged with a linear head"
IN_GALLERY = "protected photos in the gallery"
_PART = 8

Groups = Mapping[str, xr.Dataset]  # group -> a variable per measure [judge, photo]


class Row(NamedTuple):
    """A protection, measured."""

    name: Name  # the protection
    files: Sequence[Path]  # [N] of the scene's subjects
    judged: Mapping[str, Groups]  # by what was done to the files, or who judged them
    seen: Groups  # what people see of it: [photo]
    lost: Mapping[str, float]  # what was done -> share of faces that are not detected any more


def measured(
    run: Run, scene: Scene, name: Name, files: Sequence[Path], after: Sequence[str], folds: int = 0
) -> Row:
    """Judges the files [N] of a protection of the scene's subjects as saved and after journeys; looks at them.

    Judges that it is made on are left aside. With `folds` of people there are also judges `retrained` on the
    protected photos of the others.
    """
    judged: dict[str, Groups] = {}
    lost = {}
    for journey in (SAVED, *after):
        found = _judged(run, scene, name, files, journey)
        lost[journey] = float(found.pop("lost").mean())
        embedded = {judge: found[judge] for judge in found if judge not in name.surrogates}
        judged[journey] = _figures(scene, embedded)
        if journey == SAVED and PROBES in scene.groups:
            judged |= _by_those_who_know(scene, embedded, folds)
    seen = {}
    for group in scene.groups:
        looked = _looked_at(run, scene, name, files, group)
        seen[group] = xr.Dataset({measure: ("photo", v) for measure, v in looked.items()})
    return Row(name, files, judged, seen, lost)


def _judged(
    run: Run, scene: Scene, name: Name, files: Sequence[Path], after: str
) -> dict[str, np.ndarray]:
    def make(indices: np.ndarray) -> dict[str, np.ndarray]:
        photos = []
        for i in indices:
            pixels, landmarks = read_photo(files[i]).pixels, scene.subjects[i].landmarks
            if after != SAVED:
                pixels, moved = JOURNEYS[after](pixels, generator(run.seed, pixels))
                landmarks = apply(moved, landmarks)
            photos.append((pixels, landmarks))
        return seen_by(scene.judges, photos)

    return cells.in_parts(run.workdir, f"{name.folder}/judged {after}", len(files), _PART, make)


def _by_those_who_know(
    scene: Scene, after: Mapping[str, np.ndarray], folds: int
) -> dict[str, Groups]:
    """Figures of the probes where somebody has protected photos to learn from, or to search among."""
    probes, linked = scene.groups[PROBES], scene.linked
    identities = np.array([one.identity for one in scene.subjects])
    made: dict[str, list[xr.Dataset]] = {}
    for judge, embedded in after.items():
        known, before = scene.known[judge], scene.before[judge]
        asked = before[probes], embedded[probes], identities[probes]
        if folds:
            learnt = retrained.found(known, *asked, folds)
            made.setdefault(RETRAINED, []).append(_of(judge, learnt))
        if linked.stop:
            theirs = slice(probes.stop, linked.stop)
            fuller = known._replace(
                gallery=np.concatenate([known.gallery, embedded[theirs]]),
                people=np.concatenate([known.people, identities[theirs]]),
            )
            made.setdefault(IN_GALLERY, []).append(_of(judge, judges.found(fuller, *asked)))
    return {who: {PROBES: xr.concat(parts, "judge")} for who, parts in made.items()}


def _of(judge: str, figures: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Measures [P] of one judge."""
    values = {m: (("judge", "photo"), v[None].astype(float)) for m, v in figures.items()}
    return xr.Dataset(values, {"judge": [judge]})


def _figures(scene: Scene, after: Mapping[str, np.ndarray]) -> Groups:
    """What embeddings [N,D] of judges say."""
    made: dict[str, list[xr.Dataset]] = {group: [] for group in scene.groups}
    identities = np.array([one.identity for one in scene.subjects])
    for judge, embedded in after.items():
        known, before = scene.known[judge], scene.before[judge]
        for group, at in scene.groups.items():
            if group != PROBES:
                hidden = judges.same_photo_hidden(before[at], embedded[at], known.threshold)
                figures = {judges.SAME_PHOTO: hidden}
            else:
                figures = judges.found(known, before[at], embedded[at], identities[at])
                if scene.linked.stop:
                    both = scene.linked
                    figures |= judges.linked(known, embedded[both], identities[both], at.stop)
            made[group].append(_of(judge, figures))
    return {group: xr.concat(parts, "judge") for group, parts in made.items()}


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
