"""Verification as AMT-GAN measures it: is a protected photo taken for the target, or no longer for oneself?"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import dataset
from experiments.data.framing import Framing
from experiments.judging import judges
from experiments.protection import cells, specs
from experiments.protection.runs import Run
from experiments.protection.specs import Subjects
from experiments.reporting import paper
from ports import zoo
from tipim_jax.analysis import metrics
from tipim_jax.errors import UserError
from tipim_jax.photos.verify import Verifier, embed_canvases, from_recogniser

FARS = (1e-1, 1e-2, 1e-3)


class Manifest(NamedTuple):
    """Who is protected, and from what."""

    name: str  # for tables
    photos: tuple[Path, ...]  # those to protect
    others: Mapping[Path, Path]  # another photo of the same person, where there is one
    targets: Mapping[str, tuple[Path, Path]]  # name -> (the photo aimed at, the photo tested with)
    groups: Mapping[str, tuple[Path, ...]]  # target -> the photos that aim at it
    # the folder of all photos; those of a person lie in or below a folder of it, unless it is flat
    root: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every photo, once."""
        tests = [path for pair in self.targets.values() for path in pair]
        return tuple(dict.fromkeys([*self.photos, *self.others.values(), *tests]))

    def person(self, photo: Path) -> str:
        """Whom a photo shows; "" in a flat folder."""
        parts = photo.relative_to(self.root).parts
        return parts[0] if len(parts) > 1 else ""


def read(manifest: Path, root: Path) -> Manifest:
    """Reads a manifest of photos below `root`.

    It is JSON: `photos` [photo], `others` {photo: photo}, `targets` {name: {"aim": photo, "test": photo}},
    and, where not every photo aims at every target (LADN), `groups` {name: [photo]} for each of them; `hashes`
    as for `dataset.read_protocol`. Photos are paths below `root`.

    Raises:
      UserError: it is no such manifest, its parts do not fit, or its photos are missing or changed.
    """
    with dataset.entries_of(manifest, "verification protocol") as entries:
        photos = tuple(root / photo for photo in entries["photos"])
        others = {root / a: root / b for a, b in entries.get("others", {}).items()}
        targets = {n: (root / t["aim"], root / t["test"]) for n, t in entries["targets"].items()}
        groups = {n: tuple(root / p for p in g) for n, g in entries.get("groups", {}).items()}
        hashes = dict(entries.get("hashes", {}))
    groups = groups or dict.fromkeys(targets, photos)
    for part, named in (("photos", photos), ("targets", targets)):
        if not named:
            raise UserError(f"{manifest} names no {part}")
    if apart := groups.keys() ^ targets.keys():
        raise UserError(
            f"`groups` and `targets` of {manifest} differ in {', '.join(sorted(apart))}; name a group for "
            "every target, or no groups"
        )
    known = set(photos)
    parts = {"others": tuple(others), **{f"groups.{name}": group for name, group in groups.items()}}
    for part, paths in parts.items():
        if strays := [str(path.relative_to(root)) for path in paths if path not in known]:
            raise UserError(
                f"{len(strays)} photos in `{part}` of {manifest}, {strays[0]} first, are not among its "
                "`photos`"
            )
    for name, group in groups.items():
        if not group:
            raise UserError(f"the group of {name!r} in {manifest} is empty")
    found = Manifest(manifest.stem, photos, others, targets, groups, root)
    dataset.check(manifest, root, found.paths, hashes)
    return found


class Scene(NamedTuple):
    """A manifest's photos as recognisers see them."""

    manifest: Manifest  # what is measured
    framing: Framing  # how photos are shown
    faces: dataset.Faces  # of every photo of the manifest, once
    judges: tuple[Verifier, ...]  # the recognisers
    embeddings: Mapping[str, np.ndarray]  # recogniser -> [N,D] of the faces

    def at(self, paths: Sequence[Path | None]) -> np.ndarray:
        """Indices of the faces of these photos; those without a face are left out."""
        place: dict[Path | None, int] = {path: i for i, path in enumerate(self.faces.paths)}
        return np.array([place[path] for path in paths if path in place], int)


def scene(manifest: Manifest, framing: Framing, models: Sequence[str], cache: Path) -> Scene:
    """Frames and embeds the photos of a manifest."""
    photos = dataset.labelled([(path, manifest.person(path)) for path in manifest.paths])
    faces = dataset.faces(photos, cache, framing.kind, framing.canvas)
    seeing = [from_recogniser(framing.frame(zoo.load(model))) for model in models]
    embedded = {judge.name: embed_canvases(judge, faces.canvases) for judge in seeing}
    return Scene(manifest, framing, faces, tuple(seeing), embedded)


def thresholds(scene: Scene, judge: str) -> tuple[dict[float, float], str]:
    """{FAR: cosine} of a recogniser, and where they are from.

    The published ones for the published networks (names of `paper.THRESHOLDS`); for others, those of
    the clean photos of different people of this scene.
    """
    if judge in paper.THRESHOLDS:
        return dict(zip(FARS, paper.THRESHOLDS[judge], strict=True)), "published"
    place = scene.at(scene.manifest.photos)
    people = scene.faces.identities[place]
    if len(set(people)) == 1:  # a flat folder says of nobody who it is: all count as different
        people = np.arange(len(people))
    _, impostor = judges.pairs(scene.embeddings[judge][place], people)
    if not len(impostor):
        raise UserError(f"{scene.manifest.name} shows too few people to calibrate {judge}")
    # Thresholds depend on impostors alone.
    calibrated = metrics.calibrate(np.ones(1), impostor, FARS)
    return calibrated.thresholds, f"calibrated on {len(impostor)} pairs"


class Trial(NamedTuple):
    """Cosines [P] of one protection, over all photos and targets; PSNR and SSIM, [P] each.

    Impersonation compares with the photo that tests a target, obfuscation with another of the same person.
    """

    before: np.ndarray
    after: np.ndarray
    quality: Mapping[str, np.ndarray]


def protected(
    run: Run, scene: Scene, text: str, target: str, photos: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray]:
    """Protects photos of a manifest from or towards one target, or finds what was made of them already.

    Returns indices [n] of the faces that they show, and canvases [n,160,160,3] uint8; a `UserError` if no
    photo, or not the target's, shows one.
    """
    chosen = scene.at(photos)
    if not len(chosen):
        raise UserError(f"no photo of {scene.manifest.name} that aims at {target!r} shows a face")
    aim = scene.at(scene.manifest.targets[target][:1])
    if not len(aim):
        raise UserError(f"{scene.manifest.targets[target][0]} shows no face to aim at")
    subjects = Subjects(
        scene.faces.at(chosen),
        (target,),
        {name: embedded[aim] for name, embedded in scene.embeddings.items()},
        scene.framing.frame,
    )
    (name,) = run.named([text]).values()
    make = specs.maker(name, subjects, run.batch_size, run.seed, run.presets)
    # Data sets may bear the same name, and a manifest may change: cells belong to the photos themselves.
    contents = " ".join([*subjects.faces.digests, *scene.faces.at(aim).digests])
    digest = hashlib.sha256(contents.encode()).hexdigest()[:16]
    kept = cells.in_parts(
        run.workdir,
        f"{scene.manifest.name}/{name.folder}/to {target}/{digest}",
        len(chosen),
        name.batch or run.batch_size,
        lambda i: {"canvases": make(i)[:, 0]},
    )
    return chosen, kept["canvases"]


def trial(run: Run, scene: Scene, text: str, black_box: str, obfuscation: bool) -> Trial:
    """Protects every photo and compares it as the black box sees it; a `UserError` if there is nothing to."""
    (judge,) = (judge for judge in scene.judges if judge.name == black_box)
    before, after, figures = [], [], []
    seen, groups = scene.embeddings[black_box], scene.manifest.groups
    if obfuscation:  # what aims at nobody is the same for every target
        groups = {next(iter(groups)): scene.manifest.photos}
    for target, photos in groups.items():
        chosen, canvases = protected(run, scene, text, target, photos)
        embedded = embed_canvases(judge, canvases)
        for i, face, made in zip(chosen, embedded, canvases, strict=True):
            test: Path | None = scene.manifest.targets[target][1]
            if obfuscation:
                test = scene.manifest.others.get(scene.faces.paths[i])
            if not len(other := scene.at([test])):  # there is no such photo, or no face in it
                continue
            before.append(float(seen[i] @ seen[other[0]]))
            after.append(float(face @ seen[other[0]]))
            clean = scene.faces.canvases[i]
            figures.append((metrics.psnr(clean, made), metrics.ssim(clean, made)))
    if not after:
        raise UserError(f"{scene.manifest.name} names no photo to compare with for this goal")
    psnr, ssim = np.array(figures).T
    return Trial(np.array(before), np.array(after), {"PSNR": psnr, "SSIM": ssim})


def success(cosines: np.ndarray, threshold: float, obfuscation: bool) -> np.ndarray:
    """[P] whether a protection did what it is for."""
    return cosines < threshold if obfuscation else cosines > threshold
