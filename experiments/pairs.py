"""Verification as AMT-GAN measures it: is a protected photo taken for the target, or no longer for oneself?"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import cells, data, paper, protections
from experiments.framing import Framing
from experiments.protections import Subjects
from experiments.runs import Run
from ports import zoo
from tipim_jax import metrics
from tipim_jax.ensemble import on_canvas
from tipim_jax.photos.verify import Verifier, embed_canvases

FARS = (1e-1, 1e-2, 1e-3)


class Manifest(NamedTuple):
    """Who is protected, and from what.

    Attributes:
      name: for tables.
      photos: those to protect.
      others: another photo of the same person, where there is one.
      targets: name -> (the photo aimed at, the photo tested with).
      groups: target -> the photos that aim at it.
    """

    name: str
    photos: tuple[Path, ...]
    others: Mapping[Path, Path]
    targets: Mapping[str, tuple[Path, Path]]
    groups: Mapping[str, tuple[Path, ...]]


def read(manifest: Path, root: Path) -> Manifest:
    """Reads a manifest of photos below `root`.

    It is JSON: `photos` [photo], `others` {photo: photo}, `targets` {name: {"aim": photo, "test": photo}},
    and, where not every photo aims at every target (LADN), `groups` {name: [photo]}; `hashes` as for
    `data.read_protocol`. Photos are paths below `root`.

    Raises:
      ValueError: it is no such manifest, or its photos are missing or changed.
    """
    try:
        entries: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
        photos = tuple(root / photo for photo in entries["photos"])
        others = {root / a: root / b for a, b in entries.get("others", {}).items()}
        targets = {n: (root / t["aim"], root / t["test"]) for n, t in entries["targets"].items()}
        groups = {n: tuple(root / p for p in g) for n, g in entries.get("groups", {}).items()}
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(f"{manifest} is not a verification protocol ({error!r})") from error
    named = [*photos, *others.values(), *(path for pair in targets.values() for path in pair)]
    data.check(manifest, root, named, entries.get("hashes", {}))
    return Manifest(
        manifest.stem, photos, others, targets, groups or dict.fromkeys(targets, photos)
    )


class Scene(NamedTuple):
    """A manifest's photos as recognisers see them.

    Attributes:
      manifest: what is measured.
      framing: how photos are shown.
      faces: of every photo of the manifest, once.
      judges: the recognisers.
      embeddings: recogniser -> [N,D] of the faces.
    """

    manifest: Manifest
    framing: Framing
    faces: data.Faces
    judges: tuple[Verifier, ...]
    embeddings: Mapping[str, np.ndarray]

    def at(self, paths: Sequence[Path]) -> np.ndarray:
        """Indices of the faces of these photos; those without a face are left out."""
        place = {path: i for i, path in enumerate(self.faces.paths)}
        return np.array([place[path] for path in paths if path in place], int)

    def of(self, judge: str, path: Path) -> np.ndarray | None:
        """[D] embedding of a photo, or None if it shows no face."""
        found = self.at([path])
        return self.embeddings[judge][found[0]] if len(found) else None


def scene(manifest: Manifest, framing: Framing, models: Sequence[str], cache: Path) -> Scene:
    """Frames and embeds the photos of a manifest."""
    tests = [path for pair in manifest.targets.values() for path in pair]
    paths = tuple(dict.fromkeys([*manifest.photos, *manifest.others.values(), *tests]))
    people = tuple(path.parent.name for path in paths)
    faces = data.faces(data.Labelled(paths, people), cache, framing.kind, framing.canvas)
    judges = []
    for model in models:
        recogniser = framing.frame(zoo.load(model))
        embed = jax.jit(jax.vmap(on_canvas(recogniser), (None, 0)))
        judges.append(Verifier(model, embed, recogniser.params, float("nan")))
    embedded = {judge.name: embed_canvases(judge, faces.canvases) for judge in judges}
    return Scene(manifest, framing, faces, tuple(judges), embedded)


def thresholds(scene: Scene, judge: str) -> tuple[dict[float, float], str]:
    """{FAR: cosine} of a recogniser, and where they are from.

    The published ones for the published networks (names of `paper.THRESHOLDS`); for others, those of
    the clean photos of different people of this scene.
    """
    if judge in paper.THRESHOLDS:
        return dict(zip(FARS, paper.THRESHOLDS[judge], strict=True)), "published"
    place = scene.at(scene.manifest.photos)
    embedded, people = scene.embeddings[judge][place], scene.faces.identities[place]
    first, second = np.triu_indices(len(place), 1)
    # In a flat folder nothing says who is who; its photos count as of different people.
    strangers = (people[first] != people[second]) | (len(set(people)) == 1)
    impostor = np.sum(embedded[first] * embedded[second], axis=1)[strangers]
    if not len(impostor):
        raise ValueError(f"{scene.manifest.name} shows too few people to calibrate {judge}")
    # Thresholds depend on impostors alone.
    calibrated = metrics.calibrate(np.ones(1), impostor, FARS)
    return calibrated.thresholds, f"calibrated on {len(impostor)} pairs"


class Trial(NamedTuple):
    """Cosines of one protection, before and after, over all photos and targets; PSNR and SSIM.

    Impersonation compares with the photo that tests a target, obfuscation with another photo of the same
    person. All are [P].
    """

    before: np.ndarray
    after: np.ndarray
    quality: Mapping[str, np.ndarray]


def protected(run: Run, scene: Scene, text: str, target: str) -> tuple[np.ndarray, np.ndarray]:
    """Indices [n] of the faces of a target's group, and their canvases [n,160,160,3] protected, kept."""
    chosen = scene.at(scene.manifest.groups[target])
    aim = {
        judge.name: scene.of(judge.name, scene.manifest.targets[target][0])
        for judge in scene.judges
    }
    if any(embedding is None for embedding in aim.values()):
        raise ValueError(f"{scene.manifest.targets[target][0]} shows no face to aim at")
    subjects = Subjects(
        scene.faces.at(chosen),
        (target,),
        {name: embedding[None] for name, embedding in aim.items() if embedding is not None},
        scene.framing.frame,
    )
    (name,) = run.named([text]).values()
    make = protections.maker(name, subjects, run.batch_size, run.seed, run.presets)
    cell = f"{scene.manifest.name}/{name.folder}/to {target}"
    kept = cells.in_parts(
        run.workdir, cell, len(chosen), run.batch_size, lambda i: {"canvases": make(i)[:, 0]}
    )
    return chosen, kept["canvases"]


def trial(run: Run, scene: Scene, text: str, black_box: str, obfuscation: bool) -> Trial:
    """Protects every photo and compares it as the black box sees it.

    Raises:
      ValueError: for an obfuscation without photos to compare with.
    """
    (judge,) = (judge for judge in scene.judges if judge.name == black_box)
    before, after, figures = [], [], []
    # What aims at nobody is the same for every target.
    targets = list(scene.manifest.targets)[:1] if obfuscation else list(scene.manifest.targets)
    for target in targets:
        chosen, canvases = protected(run, scene, text, target)
        embedded = embed_canvases(judge, canvases)
        for i, face, made in zip(chosen, embedded, canvases):
            path = scene.faces.paths[i]
            other = (
                scene.manifest.others.get(path)
                if obfuscation
                else scene.manifest.targets[target][1]
            )
            reference = None if other is None else scene.of(black_box, other)
            if reference is None:
                continue
            before.append(float(scene.embeddings[black_box][i] @ reference))
            after.append(float(face @ reference))
            clean = scene.faces.canvases[i]
            figures.append((metrics.psnr(clean, made), metrics.ssim(clean, made)))
    if not after:
        raise ValueError(f"{scene.manifest.name} names no photo to compare with for this goal")
    psnr, ssim = np.array(figures).T
    return Trial(np.array(before), np.array(after), {"PSNR": psnr, "SSIM": ssim})


def success(cosines: np.ndarray, threshold: float, obfuscation: bool) -> np.ndarray:
    """[P] whether a protection did what it is for."""
    return cosines < threshold if obfuscation else cosines > threshold
