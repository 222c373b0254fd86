"""`tipim check PHOTO… --gallery DIR`: who is found in a gallery, before and after protection?"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from tipim_jax.commands import Commands
from tipim_jax.commands.options import names
from tipim_jax.commands.progress import say, show
from tipim_jax.errors import UserError, printable
from tipim_jax.photos import originals
from tipim_jax.photos.check import DEPTH, Candidate, FaceSearch, PhotoSearch, look_up
from tipim_jax.photos.faces import Find, finder
from tipim_jax.photos.folders import photos_below
from tipim_jax.photos.gallery import Gallery, read_gallery
from tipim_jax.photos.table import aligned
from tipim_jax.photos.verify import Verifier, ready, verifiers

NOBODY, SOMEBODY, FAILED = 0, 1, 2  # exit codes; FAILED also where a photo could not be looked up
_NAMED = 5  # photos of the gallery that gave no face
_CROWD = 100  # people among whom chance hits must be spoken of


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    parser = commands.add_parser(
        "check",
        help="look up faces in a gallery of known people",
        description=f"Looks up every face of the photos in a gallery. Somebody is found whom a recogniser "
        f"ranks among the {DEPTH} nearest people and above its threshold. Exit code 0: no face is found as "
        "the person it shows; 1: one is, by at least one recogniser; 2: something could not be looked up. "
        "Without the originals nobody knows whom a face shows, and whoever is found counts.",
    )
    parser.add_argument("photos", nargs="+", metavar="PHOTO_OR_FOLDER")
    parser.add_argument(
        "--gallery",
        required=True,
        metavar="DIR",
        help="known people: a subfolder for each, or photos that stand for themselves",
    )
    parser.add_argument(
        "--before",
        metavar="DIR_OR_PHOTO",
        help="the originals; by default those that the reports of `tipim protect` name",
    )
    parser.add_argument("--models", metavar="NAME,…", help="recognisers to ask (all here)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Looks up the photos, prints what was found and returns the exit code."""
    photos = list(dict.fromkeys(path for given in options.photos for path in _photos(Path(given))))
    before = _before(options.before, len(photos))
    judges = ready(verifiers(names(options.models)) if options.models else None)
    find = finder()
    gallery = _gallery(options.gallery, find, judges)
    results = []
    for photo in tqdm(photos, unit="photo", desc="photos", disable=None):
        try:
            original, notes = _original(photo, before)
        except UserError as error:
            result = PhotoSearch(str(photo), error=str(error))
        else:
            result = look_up(photo, original, gallery, find, judges)
            result = result._replace(notes=(*result.notes, *notes))
        if result.error:
            say(result.error if result.name in result.error else f"{result.name}: {result.error}")
        results.append(result)
    show(described(results, gallery))
    if any(result.found for result in results):
        return SOMEBODY
    return FAILED if any(result.error for result in results) else NOBODY


def _before(given: str | None, photos: int) -> Path | None:
    """The originals given, if they can be those of so many photos."""
    if given is None:
        return None
    before = Path(given)
    if not before.exists():
        raise UserError(f"{before} does not exist; --before takes a photo or a folder of originals")
    if photos > 1 and not before.is_dir():
        raise UserError(f"{before} is one photo; with several photos, give --before a folder")
    return before


def _gallery(folder: str, find: Find, judges: Sequence[Verifier]) -> Gallery:
    with tqdm(unit="photo", desc="gallery", disable=None) as bar:

        def each(done: int, photos: int) -> None:
            bar.total = photos
            bar.update()

        gallery = read_gallery(folder, find, judges, each=each)
    if skipped := gallery.skipped:
        more = ", …" if len(skipped) > _NAMED else ""
        first = ", ".join(str(path) for path, _ in skipped[:_NAMED])
        say(f"{_count(len(skipped), 'photo')} of the gallery gave no face: {first}{more}")
    return gallery


def _photos(given: Path) -> list[Path]:
    """The photos of a folder, or the photo itself."""
    if not given.is_dir():
        return [given]
    found = sorted(photos_below(given))
    if not found:
        raise UserError(f"{given} holds no photo")
    return found


def _original(photo: Path, before: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """The original of a photo, if it is known and here, and a note where it is not here.

    Raises:
      UserError: it should be in `before` and is not.
    """
    if before is not None:
        return (originals.by_name(photo, before) if before.is_dir() else before), ()
    original = originals.by_report(photo)
    if original is None or original.exists():
        return original, ()
    return None, (f"its original, {original}, is not there any more; give it with --before",)


def described(results: Sequence[PhotoSearch], gallery: Gallery) -> str:
    """The searches in plain text: a line for each face, the tables, and what it amounts to."""
    lines: list[str] = []
    faces = [(result.name, one) for result in results for one in result.faces]
    for result in results:
        lines += [f"{result.name}, {one.face}: {_outcome(one)}." for one in result.faces]
        lines += [f"{result.name}: {note}." for note in result.notes]
    compared = _before_and_after([(name, one) for name, one in faces if one.before])
    alone = _nearest([(name, one) for name, one in faces if not one.before])
    for table in (compared, alone):
        lines += ["", *table] if table else []
    lines += ["", *_summary(results, gallery)]
    return "\n".join(map(printable, lines))


def _outcome(one: FaceSearch) -> str:
    asked = len(one.after)
    lost = "; no face is detected there any more" if one.lost else ""
    if not one.before:
        people: dict[str, dict[str, Candidate]] = {}
        for recogniser, candidate in one.found.items():
            people.setdefault(candidate.name, {})[recogniser] = candidate
        found = [f"as {name} by {_by(some, asked)}" for name, some in people.items()]
        return f"found {', '.join(found)}" if found else "nobody is found above a threshold"
    if not one.person:
        return f"nobody is found for the original, so nobody can be found again{lost}"
    before = f"before, by {_by(one.found_before, asked)}"
    if one.found:
        return f"still found as {one.person} by {_by(one.found, asked)} ({before}){lost}"
    return f"no longer found as {one.person} ({before}){lost}"


def _by(found: Mapping[str, Candidate], asked: int) -> str:
    """Who finds somebody: "3 of 5 recognisers: sface, dlib at rank 2, expo"; names are left out if all do."""
    ranked = [n if one.rank == 1 else f"{n} at rank {one.rank}" for n, one in found.items()]
    if len(found) == asked and all(one.rank == 1 for one in found.values()):
        return f"{asked} of {_count(asked, 'recogniser')}"
    return f"{len(found)} of {_count(asked, 'recogniser')}: {', '.join(ranked)}"


def _before_and_after(faces: Sequence[tuple[str, FaceSearch]]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("photo", "face", "recogniser", "person", "before", "after", "threshold", "nearest")
    ]
    for name, one in faces:
        for i, (recogniser, after) in enumerate(one.after.items()):
            first = (name, str(one.face.number)) if i == 0 else ("", "")
            ranked = [_ranked(search.person) for search in (one.before[recogniser], after)]
            cells = (
                one.person or "–",
                *ranked,
                f"{after.threshold:.3f}",
                _named(after.nearest[:1]),
            )
            rows.append((*first, recogniser, *cells))
    legend = (
        "before, after: cosine of the person's nearest photo (rank of the person). "
        "nearest: who is at rank 1 after."
    )
    return [*aligned(rows, right=(1, 4, 5, 6)), legend] if faces else []


def _nearest(faces: Sequence[tuple[str, FaceSearch]]) -> list[str]:
    rows: list[tuple[str, ...]] = [
        ("photo", "face", "recogniser", "threshold", "rank 1", f"ranks 2 to {DEPTH} above it")
    ]
    for name, one in faces:
        for i, (recogniser, search) in enumerate(one.after.items()):
            first = (name, str(one.face.number)) if i == 0 else ("", "")
            others = [c for c in search.nearest[1:] if c.cosine > search.threshold]
            cells = (f"{search.threshold:.3f}", _named(search.nearest[:1]), _named(others))
            rows.append((*first, recogniser, *cells))
    return aligned(rows, right=(1, 3)) if faces else []


def _ranked(one: Candidate | None) -> str:
    return f"{one.cosine:.3f} ({one.rank})" if one else "–"


def _named(some: Sequence[Candidate]) -> str:
    return ", ".join(f"{one.name} {one.cosine:.3f}" for one in some) or "–"


def _summary(results: Sequence[PhotoSearch], gallery: Gallery) -> list[str]:
    faces = [one for result in results for one in result.faces]
    found = sum(bool(one.found) for one in faces)
    people, photos = len(gallery.people), len(set(gallery.paths))
    lines = [
        f"Found: {found} of {_count(len(faces), 'face')}, in a gallery of "
        f"{_count(people, 'person', 'people')} ({_count(photos, 'photo')})."
    ]
    if found and people >= _CROWD:
        lines.append(
            f"One stranger in 1,000 passes a threshold by chance: of {people} people, {people / 1000:.1f} "
            "for every face and recogniser."
        )
    return lines


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
