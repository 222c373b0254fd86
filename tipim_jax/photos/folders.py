"""Which photos and clips are protected, and where each goes: the inputs' tree mirrored under the output."""

import errno
import os
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tipim_jax.photos.decode import is_animation
from tipim_jax.photos.files import passed_over
from tipim_jax.photos.formats import is_film, is_photo, known, other_suffix
from tipim_jax.photos.photo import PhotoError


class Job(NamedTuple):
    """A photo to protect.

    Attributes:
      source: the input file.
      output: relative to the output folder.
      note: why the output has another name than the input; empty if it has not, but for a format's suffix.
      moves: whether it is a clip, a film or an animation, which keeps its format.
    """

    source: Path
    output: Path
    note: str = ""
    moves: bool = False


class Found(NamedTuple):
    """What the inputs amount to.

    Attributes:
      jobs: in the order of the inputs, each folder sorted by name.
      problems: (input, one sentence) for inputs that cannot be done; the others still can.
      others: files of the folders that are no photos as far as their names tell, hidden ones aside.
    """

    jobs: list[Job]
    problems: list[tuple[Path, str]]
    others: list[Path]


def discover(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
) -> Found:
    """Lists the photos of files and folders.

    A folder gives every file with a photo's suffix in it and below it; hidden ones, pictures that `tipim
    protect --pictures` wrote and `out` itself are left aside. One folder is mirrored directly under `out`,
    several each under their own names. A file named as such is taken whatever its suffix. What is named twice
    is done once.

    Args:
      inputs: files and folders.
      out: the output folder; it need not exist.
      format: the format outputs are written in, which sets their suffixes (`output_names`); each its own
        by default.

    Raises:
      PhotoError: there is no input; an output would be one of the input files.
    """
    if not inputs:
        raise PhotoError("no photo or folder is given")
    out = Path(out)
    paths = [Path(path) for path in inputs]
    roots = list(dict.fromkeys(path.resolve() for path in paths if path.is_dir()))
    below = dict(zip(roots, output_names([root.name for root in roots]), strict=True))
    if len(roots) == 1:
        below = {roots[0]: ""}
    names: dict[Path, tuple[Path, Path]] = {}  # the file without links -> the file, its name
    problems: list[tuple[Path, str]] = []
    others: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            try:
                files = sorted(files_below(path, leaving=out))
            except OSError as error:
                problems.append((path, f"{error.filename} cannot be read ({error.strerror})"))
                continue
            kept = [file for file in files if is_photo(file) or is_film(file)]
            others |= {file.resolve(): file for file in files if file not in kept}
            files = kept
            if not files:
                problems.append((path, f"{path} holds no photo ({known()})"))
            for file in files:
                name = Path(below[path.resolve()]) / file.relative_to(path)
                names.setdefault(file.resolve(), (file, name))
        elif path.exists() or path.is_symlink():  # a link to nowhere is a photo that cannot be read
            names.setdefault(path.resolve(), (path, Path(path.name)))
        else:
            problems.append((path, f"{path} does not exist"))

    named = _jobs(list(names.values()), format)
    for job in named:
        if (out / job.output).resolve() in names:
            raise PhotoError(
                f"{out / job.output} is one of the photos given; choose another output folder"
            )
    return Found(named, problems, [file for key, file in others.items() if key not in names])


def unoccupied(jobs: Iterable[Job], out: Path) -> tuple[list[Job], list[tuple[Path, str]]]:
    """The jobs whose outputs do not exist yet, and (input, one sentence) for the others."""
    free: list[Job] = []
    problems: list[tuple[Path, str]] = []
    for job in jobs:
        path = out / job.output
        if path.exists():
            text = f"{path} exists already; choose another output folder or overwrite it"
            problems.append((job.source, text))
        else:
            free.append(job)
    return free, problems


def prepare_output(out: str | os.PathLike[str]) -> Path:
    """Makes the output folder, and makes sure that files can be written to it.

    Raises:
      PhotoError: they cannot.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        reason = "it is a file" if error.errno == errno.EEXIST else error.strerror
        raise PhotoError(f"the output folder {out} cannot be written to ({reason})") from error
    return out


def photos_below(folder: Path, *, leaving: Path | None = None) -> Iterator[Path]:
    """The files of `files_below` with a photo's suffix."""
    return (path for path in files_below(folder, leaving=leaving) if is_photo(path))


def files_below(folder: Path, *, leaving: Path | None = None) -> Iterator[Path]:
    """The files in a folder and below it, but for hidden ones, pictures of ours and `leaving`.

    Raises:
      OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    skipped = None if leaving is None else leaving.resolve()
    for path, folders, files in os.walk(folder, onerror=refuse):
        here = Path(path)
        folders[:] = [
            name for name in folders if not passed_over(name) and (here / name).resolve() != skipped
        ]
        for name in files:
            if not passed_over(name):
                yield here / name


def output_names(
    names: Iterable[str], format: str | None = None, moving: Collection[str] = ()
) -> list[str]:
    """Where photos go, relative to the output folder: no two to one place.

    A photo keeps its name. Where its suffix stands for another format than the one it is saved in, that is
    replaced (a.heic: a.png), or added to if two photos would get the same name so (a.heic.png, a.tif.png).
    A name that is still taken gets a number: of two a.jpg the first stays a.jpg, the second becomes a-2.jpg.
    Names that differ by case alone, or by how an accent is encoded, are one name, as on many disks.

    Args:
      names: relative paths with forward slashes, of folders or of photos.
      format: that the photos are saved in, a name `formats.format_named` knows; each its own by default.
      moving: those of clips, which keep their format.

    Returns:
      The names of the outputs, in order.

    Raises:
      PhotoError: as `formats.format_named`.
    """
    names = list(names)
    wanted = [name if name in moving else _with_suffix(name, format) for name in names]
    kept = [name == want for name, want in zip(names, wanted, strict=True)]
    askers = Counter(map(_folded, wanted))
    outputs: dict[int, str] = {}
    taken: set[str] = set()
    for i, name in enumerate(names):
        if kept[i] and _folded(name) not in taken:
            outputs[i] = name
            taken.add(_folded(name))
    for i, name in enumerate(names):
        if i not in outputs:
            several = not kept[i] and askers[_folded(wanted[i])] > 1
            want = name + PurePosixPath(wanted[i]).suffix if several else wanted[i]
            outputs[i] = next(free for free in _numbered(want) if _folded(free) not in taken)
            taken.add(_folded(outputs[i]))
    return [outputs[i] for i in range(len(names))]


def _with_suffix(name: str, format: str | None) -> str:
    """The name with a suffix of the format, its own if that is one."""
    path = PurePosixPath(name)
    suffix = other_suffix(path, format)
    return name if suffix is None else str(path.with_suffix(suffix))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(name: str) -> Iterator[str]:
    """a/b.jpg, a/b-2.jpg, a/b-3.jpg, …"""
    path = PurePosixPath(name)
    yield name
    for number in count(2):
        yield str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def _jobs(files: list[tuple[Path, Path]], format: str | None) -> list[Job]:
    """The jobs of files and the names that they would have below the output folder."""
    moves = [is_film(file) or is_animation(file) for file, _ in files]
    names = [name.as_posix() for _, name in files]
    moving = {name for name, move in zip(names, moves, strict=True) if move}
    outputs = output_names(names, format, moving)
    jobs = []
    for (file, name), output, move in zip(files, outputs, moves, strict=True):
        numbered = PurePosixPath(output).stem not in (name.stem, name.name)
        note = f"saved as {output}, since another photo has its name" if numbered else ""
        jobs.append(Job(file, Path(output), note, move))
    return jobs
