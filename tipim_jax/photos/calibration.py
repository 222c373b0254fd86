"""Thresholds of recognisers, measured on photos of people: when do two faces count as one person?"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ports import store
from tipim_jax.analysis import metrics
from tipim_jax.errors import UserError
from tipim_jax.photos.faces import Face
from tipim_jax.photos.files import write_atomically
from tipim_jax.photos.gallery import read_gallery
from tipim_jax.photos.portrait import main_face
from tipim_jax.photos.verify import Verifier

FEWEST = 1000  # impostor pairs, below which nothing is known of a false accept rate of 1e-3


class Calibrated(NamedTuple):
    """What photos of people say of recognisers.

    Attributes:
      figures: recogniser -> its record, as `zoo.thresholds` reads it.
      pairs: how many were genuine; as many were of different people.
      skipped: (photo, why it gave no face).
    """

    figures: dict[str, dict[str, Any]]
    pairs: int
    skipped: tuple[tuple[Path, str], ...]


def calibrate(
    folder: Path,
    detector: Any,
    verifiers: Sequence[Verifier],
    *,
    seed: int = 0,
    each: Callable[[int, int], object] = lambda done, photos: None,
) -> Calibrated:
    """Measures recognisers on the people of a folder.

    Each subfolder is a person, shown by the main face of every photo in it and below it; a photo directly in
    the folder is a person of its own. All pairs of photos of one person are genuine, and as many pairs of
    photos of different people are drawn as impostors.

    Args:
      folder: the photos.
      detector: parameters of `ports.networks.yunet`.
      verifiers: the recognisers.
      seed: of the drawing.
      each: called for every photo done, with the number of those and of all.

    Raises:
      UserError: the folder shows no face, nobody twice, or too few different people.
    """

    def find(pixels: np.ndarray) -> list[Face]:
        return [main_face(detector, pixels)]

    people = read_gallery(folder, find, verifiers, each=each)
    genuine, impostor = pairs(people.person, seed)
    counts = f"{len(genuine)} genuine and {len(impostor)} impostor pairs"
    protocol = f"{folder.resolve().name}: {counts}, seed {seed}"
    figures = {}
    for name, embeddings in people.embeddings.items():
        cosines = [
            np.sum(embeddings[some[:, 0]] * embeddings[some[:, 1]], axis=1)
            for some in (genuine, impostor)
        ]
        figures[name] = record(metrics.calibrate(*cosines), protocol)
    return Calibrated(figures, len(genuine), people.skipped)


def pairs(person: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Makes all genuine pairs [P,2], and as many impostor pairs [P,2] drawn without repetition.

    Args:
      person: [N] index of the person of each face.
      seed: of the drawing.

    Raises:
      UserError: nobody has two photos, or there are fewer impostor pairs than genuine ones.
    """
    order = np.argsort(person, kind="stable")
    end = np.searchsorted(person[order], person[order], side="right")
    # In this order, the faces after i are first those of the same person, up to end[i], then strangers.
    same = [(i, j) for i in range(len(order)) for j in range(i + 1, end[i])]
    strangers = np.cumsum(len(order) - end)  # pairs of strangers whose first face is i or before
    if not 0 < len(same) <= strangers[-1]:
        raise UserError(
            f"{len(same)} pairs of photos of one person and {strangers[-1]} of different people are not "
            "enough to calibrate; give a folder of more people, some with several photos"
        )
    chosen = np.random.default_rng(seed).choice(strangers[-1], len(same), replace=False)
    first = np.searchsorted(strangers, chosen, side="right")
    second = len(order) - (strangers[first] - chosen)
    return order[np.array(same)], order[np.stack([first, second], axis=1)]


def record(measured: metrics.Calibration, protocol: str) -> dict[str, Any]:
    """Makes the record of a calibration, as it is stored."""
    thresholds, rates = measured.thresholds, measured.rates
    return {
        "accuracy": round(measured.accuracy, 5),
        "auc": round(measured.auc, 6),
        "far_1e-1": round(thresholds[1e-1], 6),
        "far_1e-2": round(thresholds[1e-2], 6),
        "far_1e-3": round(thresholds[1e-3], 6),
        "tar_1e-2": round(rates[1e-2], 5),
        "tar_1e-3": round(rates[1e-3], 5),
        "protocol": protocol,
    }


def install(name: str, figures: dict[str, Any]) -> Path:
    """Writes the record of a recogniser where `zoo.thresholds` looks first; returns the file.

    Raises:
      PhotoError: the disk refuses.
    """
    path = store.directory() / name / "calibration.json"
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode(), overwrite=True)
    return path
