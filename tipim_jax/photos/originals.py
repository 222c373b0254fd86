"""Which photo a protected one was made of, by the report beside it or by its name."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from tipim_jax.errors import UserError
from tipim_jax.photos.formats import is_photo


def by_report(photo: Path) -> Path | None:
    """Finds the original in the reports of the folder that holds the photo, and of those above it.

    Returns:
      Its path, even if the file has gone; None if no report speaks of the photo.
    """
    photo = photo.resolve()
    for folder in photo.parents:
        inside = photo.relative_to(folder).parts
        for report in reports(folder):
            for output, source in _photos(report, report.stat().st_mtime_ns):
                if output.parts[-len(inside) :] == inside:
                    return _as_run(photo, output, source)
    return None


def reports(folder: Path) -> list[Path]:
    """The reports in a folder, the newest first."""
    return sorted(folder.glob("report*.json"), key=lambda path: -path.stat().st_mtime_ns)


@lru_cache(maxsize=16)
def _photos(report: Path, changed: int) -> tuple[tuple[Path, Path], ...]:
    """(output, source) of the photos that a report speaks of; none if it is something else."""
    try:
        photos = json.loads(report.read_text(encoding="utf-8"))["photos"]
        return tuple((Path(p["output"]), Path(p["source"])) for p in photos if p["output"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def _as_run(photo: Path, output: Path, source: Path) -> Path:
    """The source where it lay when the report was written, whose relative paths start where `output` does."""
    if photo.parts[-len(output.parts) :] == output.parts:
        there = Path(*photo.parts[: -len(output.parts)]) / source
        if there.exists():
            return there
    return source


def by_name(photo: Path, folder: Path) -> Path:
    """Finds the original in a folder: the file of the same name, in the same subfolders if there are such.

    The format may differ, as `tipim protect --format` makes of a.heic an a.jpg, or an a.heic.jpg.

    Raises:
      UserError: there is none.
    """
    photo = photo.resolve()
    parts = photo.parts[1:]
    for start in range(len(parts)):
        for original in _like(folder.joinpath(*parts[start:])):
            if original.resolve() != photo:
                return original
    raise UserError(f"{folder} holds no original of {photo}; give the photo itself with --before")


def _like(path: Path) -> Iterator[Path]:
    """The files that may have become `path`, the likeliest first."""
    if path.is_file():
        yield path
    if path.parent.is_dir():
        others = sorted(other for other in path.parent.iterdir() if other.is_file())
        yield from (other for other in others if other.name == path.stem)
        yield from (o for o in others if o.stem == path.stem and is_photo(o))
