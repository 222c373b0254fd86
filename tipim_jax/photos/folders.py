"""Which photos are protected, and where each goes: the inputs' tree mirrored under the output folder."""

import errno
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tipim_jax.photos.files import FORMATS, PhotoError, format_named

_SUFFIXES = {suffix for format in FORMATS.values() for suffix in format.suffixes}


class Job(NamedTuple):
    """A photo to protect: the input file, and its output relative to the output folder."""

    source: Path
    output: Path


class Found(NamedTuple):
    """What the inputs amount to.

    Attributes:
      jobs: in the order of the inputs, each folder sorted by name.
      problems: (input, one sentence) for inputs that cannot be done; the others still can.
    """

    jobs: list[Job]
    problems: list[tuple[Path, str]]


def discover(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    format: str | None = None,
    overwrite: bool = False,
) -> Found:
    """Lists the photos of files and folders.

    A folder gives every file with a photo's suffix in it and below it, hidden ones and `out` itself
    left aside; one folder is mirrored directly under `out`, several each under their own names. A
    file named as such is taken whatever its suffix. What is named twice is done once.

    Args:
      inputs: files and folders.
      out: the output folder; it need not exist.
      format: the format outputs are written in, which sets their suffixes; each its own by default.
        Two photos that differ by suffix alone (a.heic, a.jpg) then become a.heic.png, a.jpg.png.
      overwrite: whether outputs that exist are no problem.

    Raises:
      PhotoError: there is no input; an output would be one of the input files.
    """
    if not inputs:
        raise PhotoError("no photo or folder is given")
    out = Path(out)
    paths = [Path(path) for path in inputs]
    several = len({path.resolve() for path in paths if path.is_dir()}) > 1
    jobs: dict[Path, Job] = {}
    problems = []
    for path in paths:
        if path.is_dir():
            base = Path(path.resolve().name) if several else Path()
            try:
                files = sorted(photos_below(path, leaving=out))
            except OSError as error:
                problems.append((path, f"{error.filename} cannot be read ({error.strerror})"))
                continue
            if not files:
                problems.append((path, f"{path} holds no photo ({', '.join(sorted(_SUFFIXES))})"))
            for file in files:
                jobs.setdefault(file.resolve(), Job(file, base / file.relative_to(path)))
        elif path.exists():
            jobs.setdefault(path.resolve(), Job(path, Path(path.name)))
        else:
            problems.append((path, f"{path} does not exist"))

    named = _distinct(_with_suffixes(list(jobs.values()), format), problems)
    for job in named:
        if (out / job.output).resolve() in jobs:
            raise PhotoError(
                f"{out / job.output} is one of the photos given; choose another output folder"
            )
    done = []
    for job in named:
        if (out / job.output).exists() and not overwrite:
            text = (
                f"{out / job.output} exists already; choose another output folder or overwrite it"
            )
            problems.append((job.source, text))
        else:
            done.append(job)
    return Found(done, problems)


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
    """The files with a photo's suffix in a folder and below it, hidden ones and `leaving` aside.

    Raises:
      OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    skipped = None if leaving is None else leaving.resolve()
    for path, folders, files in os.walk(folder, onerror=refuse):
        here = Path(path)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != skipped
        ]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES:
                yield here / name


def _with_suffixes(jobs: list[Job], format: str | None) -> list[Job]:
    if format is None:
        return jobs
    suffixes = FORMATS[format_named(format)].suffixes

    def renamed(path: Path) -> Path:
        return path if path.suffix.lower() in suffixes else path.with_suffix(suffixes[0])

    taken = Counter(renamed(job.output) for job in jobs)
    return [
        job._replace(output=renamed(job.output))
        if taken[renamed(job.output)] == 1 or renamed(job.output) == job.output
        else job._replace(output=job.output.with_name(job.output.name + suffixes[0]))
        for job in jobs
    ]


def _distinct(jobs: list[Job], problems: list[tuple[Path, str]]) -> list[Job]:
    """The jobs whose output no earlier job has; the others are problems."""
    first: dict[Path, Job] = {}
    for job in jobs:
        other = first.setdefault(job.output, job)
        if other is not job:
            text = (
                f"{job.source} and {other.source} would both be saved as {job.output}; "
                "rename one or protect it in a run of its own"
            )
            problems.append((job.source, text))
    return list(first.values())
