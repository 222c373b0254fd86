"""The proof of a run in a terminal: what became of every face, in words or in figures."""

import math
import os
from collections.abc import Sequence

from tipim_jax.errors import printable
from tipim_jax.photos.formats import known
from tipim_jax.photos.results import PhotoResult, RunResult, summarise
from tipim_jax.photos.verdict import hidden_from, joined, visibility

NO_PHOTO = f"no photo ({known()})"
_COLUMNS = (
    "photo",
    "face",
    "recogniser",
    "before",
    "after",
    "threshold",
    "protected",
    "PSNR",
    "SSIM",
    "change",
)


def figures_table(run: RunResult) -> str:
    """The table of figures: one line per face and recogniser, and what the columns are."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for photo, name in zip(run.photos, names(run.photos), strict=True):
        for number, face in enumerate(photo.faces, 1):
            for i, (recogniser, match) in enumerate(face.matches.items()):
                first = (name, str(number)) if i == 0 else ("", "")
                figures = (f"{face.psnr:.1f}", f"{face.ssim:.3f}", str(face.change))
                quality = figures if i == 0 else ("", "", "")
                star = " *" if recogniser in run.surrogates else ""
                cosines = (f"{match.before:.3f}", f"{match.after:.3f}", f"{match.threshold:.3f}")
                verdict = "yes" if match.protected else "NO"
                rows.append((*first, recogniser + star, *cosines, verdict, *quality))
    if len(rows) == 1:
        return ""
    legend = (
        "before, after: cosine to the original face. * the mask was made on it. change: the largest of any "
        "pixel of the face, in levels of 255."
    )
    return "\n".join([*aligned(rows, right=(1, 3, 4, 5, 7, 8, 9)), legend])


def verdict_table(run: RunResult) -> str:
    """The table in words: one line per face."""
    rows = [("photo", "face", "the change", "recognisers")]
    for photo, name in zip(run.photos, names(run.photos), strict=True):
        rows += [
            (name, str(number), f"{visibility(face.psnr, face.box[2])} seen", hidden_from(face))
            for number, face in enumerate(photo.faces, 1)
            if not face.skipped
        ]
    return "\n".join(aligned(rows, right=(1,))) if len(rows) > 1 else ""


def remarks(run: RunResult) -> list[str]:
    """Why photos, faces or files were left out, and what else should be known, a line each."""
    lines = []
    for photo, name in zip(run.photos, names(run.photos), strict=True):
        if photo.error:
            lines.append(f"{name}: NOT protected: {printable(photo.error)}")
        if photo.faceless:
            lines.append(f"{name}: {photo.faceless}; nothing saved")
        lines += [f"{name}: {printable(note)}" for note in photo.notes]
        for number, face in enumerate(photo.faces, 1):
            if face.skipped:
                lines.append(f"{name}, face {number}: left alone: {printable(face.skipped)}")
    lines += [f"{printable(str(path))}: NOT protected: {NO_PHOTO}" for path in run.others]
    if said := caveat(run):
        lines.append(f"{said[0].upper()}{said[1:]}.")
    return lines


def caveat(run: RunResult) -> str:
    """What the proof is not worth, and how to get a better one; empty if there is an independent judge."""
    if not run.judged_by_surrogates_alone:
        return ""
    return (
        "judged only by the recognisers that the masks were made on; `tipim models fetch --all` gets "
        "independent ones, and the same command then asks them"
    )


def names(photos: Sequence[PhotoResult]) -> list[str]:
    """What each photo is called: its path from the folder that holds all of them, for the terminal."""
    paths = [os.path.abspath(photo.source) for photo in photos]
    try:
        above = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on several drives, or no photo at all
        return [printable(path) for path in paths]
    return [printable(os.path.relpath(path, above)) for path in paths]


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of plain text with aligned columns, the first row underlined as the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return [line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])]


def summary_line(run: RunResult) -> str:
    """The run in one line of words."""
    s = summarise(run)
    parts = [f"{_count(s.photos, 'photo')}, {_count(s.faces, 'face')}"]
    if s.faces > s.skipped:
        parts.append(f"{s.protected} of {s.faces - s.skipped} hidden from every recogniser")
    if s.skipped:
        parts.append(f"{_count(s.skipped, 'face')} left alone")
    if s.faceless:
        parts.append(f"{_count(s.faceless, 'photo')} without a face to protect")
    if s.earlier:
        parts.append(f"{_count(s.earlier, 'photo')} done earlier")
    if s.failed:
        parts.append(f"{_count(s.failed, 'photo')} not done")
    if run.unreached:
        parts.append(f"{_count(run.unreached, 'photo')} not reached")
    if run.others:
        parts.append(f"{_count(len(run.others), 'file')} not protected, being no photo")
    if run.judged_by_surrogates_alone:
        parts.append("judged only by the recognisers that the masks were made on")
    return "; ".join(parts) + "."


def figures_line(run: RunResult) -> str:
    """The figures of the run in one line; empty if no face was protected."""
    s = summarise(run)
    if s.faces == s.skipped:
        return ""
    parts = [f"Hidden from {joined([f'{name} {n}' for name, n in s.recognisers.items()])}"]
    if not math.isnan(s.psnr):
        parts.append(f"mean PSNR {s.psnr:.1f} dB, SSIM {s.ssim:.3f}")
    parts.append(f"largest change of a pixel {s.change} levels")
    if run.timings.attack:
        compiling = f"compiling took {run.timings.compile:.1f} s"
        parts.append(f"{s.seconds_per_face:.1f} s per face ({compiling})")
    return "; ".join(parts) + "."


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
