"""The proof of a run: a table for the terminal, `report.json` and a self-contained `report.html`."""

import base64
import html
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tipim_jax.errors import printable
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.formats import known
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.records import finite, photo_json
from tipim_jax.photos.results import FaceResult, PhotoResult, Pictures, RunResult, summarise

# Raised when a field of report.json changes its meaning or goes; new fields leave it as it is.
SCHEMA = 2
_PICTURE_SIZE = 320
_GAIN = 8
_NO_PHOTO = f"no photo ({known()})"


def proof_table(run: RunResult) -> str:
    """The table: one line per face and recogniser, then why photos or faces were left out."""
    rows = [
        (
            *("photo", "face", "recogniser", "before", "after", "threshold", "protected"),
            *("PSNR", "SSIM", "change"),
        )
    ]
    remarks = []
    for photo, name in zip(run.photos, names(run.photos), strict=True):
        if photo.error:
            remarks.append(f"{name}: NOT protected: {printable(photo.error)}")
        if photo.faceless:
            remarks.append(f"{name}: {photo.faceless}; nothing saved")
        remarks += [f"{name}: {printable(note)}" for note in photo.notes]
        for number, face in enumerate(photo.faces, 1):
            if face.skipped:
                remarks.append(f"{name}, face {number}: left alone: {printable(face.skipped)}")
            for i, (recogniser, match) in enumerate(face.matches.items()):
                first = (name, str(number)) if i == 0 else ("", "")
                figures = (f"{face.psnr:.1f}", f"{face.ssim:.3f}", str(face.change))
                quality = figures if i == 0 else ("", "", "")
                star = " *" if recogniser in run.surrogates else ""
                cosines = (f"{match.before:.3f}", f"{match.after:.3f}", f"{match.threshold:.3f}")
                verdict = "yes" if match.protected else "NO"
                rows.append((*first, recogniser + star, *cosines, verdict, *quality))
    lines = aligned(rows, right=(1, 3, 4, 5, 7, 8, 9)) if len(rows) > 1 else []
    if len(rows) > 1:
        lines.append(
            "before, after: cosine to the original face. * the mask was made on it. change: the largest of any "
            "pixel of the face, in levels of 255."
        )
    remarks += [f"{printable(str(path))}: NOT protected: {_NO_PHOTO}" for path in run.others]
    if said := caveat(run):
        remarks.append(f"{said[0].upper()}{said[1:]}.")
    return "\n".join(lines + remarks)


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
    """The run in one line."""
    s = summarise(run)
    parts = [f"{_count(s.photos, 'photo')}, {_count(s.faces, 'face')}"]
    if s.faces > s.skipped:
        parts.append(
            f"{s.protected} of {s.faces - s.skipped} protected from every recogniser "
            f"({', '.join(f'{name} {n}' for name, n in s.recognisers.items())})"
        )
        if not math.isnan(s.psnr):
            parts.append(f"mean PSNR {s.psnr:.1f} dB, SSIM {s.ssim:.3f}")
        parts.append(f"largest change of a pixel {s.change} levels")
        if run.timings.attack:
            parts.append(
                f"{s.seconds_per_face:.1f} s per face (compiling took {run.timings.compile:.1f} s)"
            )
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


def write_report(run: RunResult, out: Path, *, quick: bool = False) -> tuple[Path, Path]:
    """Writes `report.json` and `report.html`, or `report-2.json` and so on.

    A report is replaced if all the photos it speaks of are in this one; others stay.

    Args:
      run: what to tell.
      out: the folder.
      quick: leave out the pictures that would have to be made of the files.

    Returns:
      The two paths.

    Raises:
      PhotoError: they cannot be written.
    """
    number, stem = 1, out / "report"
    sources = {str(photo.source) for photo in run.photos}
    while not _replaceable(stem, sources):
        number += 1
        stem = out / f"report-{number}"
    paths = stem.with_suffix(".json"), stem.with_suffix(".html")
    text = json.dumps(report_json(run), indent=1, allow_nan=False)
    write_atomically(paths[0], text.encode(), overwrite=True)
    write_atomically(paths[1], report_html(run, quick=quick).encode(), overwrite=True)
    return paths


def _replaceable(stem: Path, sources: set[str]) -> bool:
    """Whether a report may be written to STEM.json and STEM.html."""
    text, page = stem.with_suffix(".json"), stem.with_suffix(".html")
    if not text.exists():
        return not page.exists()
    try:
        there = json.loads(text.read_text(encoding="utf-8"))["photos"]
        return {photo["source"] for photo in there} <= sources
    except (OSError, ValueError, KeyError, TypeError):
        return False  # somebody else's file


def report_json(run: RunResult) -> dict[str, Any]:
    """The run as JSON values.

      schema: int; settings, versions: objects; surrogates: [name]
      timings: {total, compile, attack} in seconds
      summary: the fields of `results.Summary`
      judged_by_surrogates_alone: whether no judge is independent of the masks
      unreached: how many photos the run ended before
      others: [path], files that are no photos
      photos: [{source, output or null, error, faceless, change in levels, notes: [text],
                faces: [{box: [left, top, width, height], target, skipped, protected,
                         psnr in dB or null for no change, ssim, change in levels,
                         recognisers: {name: {before, after, threshold, protected, surrogate}}}]}]

    A number that is not finite is null.
    """
    return finite(
        {
            "schema": SCHEMA,
            "settings": run.settings,
            "surrogates": list(run.surrogates),
            "versions": run.versions,
            "timings": run.timings._asdict(),
            "summary": summarise(run)._asdict(),
            "judged_by_surrogates_alone": run.judged_by_surrogates_alone,
            "unreached": run.unreached,
            "others": [str(path) for path in run.others],
            "photos": [photo_json(photo, run.surrogates) for photo in run.photos],
        }
    )


def face_pictures(
    before: np.ndarray, after: np.ndarray, box: tuple[float, float, float, float]
) -> Pictures:
    """Pictures of a face and its surroundings, made smaller where they are large.

    Args:
      before, after: [H,W,3] uint8, the photo and the protected photo.
      box: left, top, width, height of the face.
    """
    left, top, width, height = box
    margin = 0.6 * max(width, height)
    x0, y0 = max(0, math.floor(left - margin)), max(0, math.floor(top - margin))
    x1, y1 = math.ceil(left + width + margin), math.ceil(top + height + margin)
    a, b = before[y0:y1, x0:x1], after[y0:y1, x0:x1]
    mask = np.clip(128 + _GAIN * (b.astype(np.int16) - a), 0, 255).astype(np.uint8)

    def small(pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        image.thumbnail((_PICTURE_SIZE, _PICTURE_SIZE), Image.Resampling.BOX)
        return np.asarray(image)

    return Pictures(small(a), small(b), small(mask))


def pictured(photo: PhotoResult) -> PhotoResult:
    """The photo with pictures of its faces, made of its two files where it has none and they are there."""
    if photo.output is None or all(face.skipped or face.pictures for face in photo.faces):
        return photo
    try:
        before, after = read_photo(photo.source).pixels, read_photo(photo.output).pixels
    except PhotoError:
        return photo
    if before.shape != after.shape:
        return photo
    faces = (
        face
        if face.skipped or face.pictures
        else face._replace(pictures=face_pictures(before, after, face.box))
        for face in photo.faces
    )
    return photo._replace(faces=tuple(faces))


def write_pictures(run: RunResult, out: Path, *, quick: bool = False) -> list[Path]:
    """Writes `side_by_side` of every protected face as out/pictures/PHOTO-faceN.png, in the tree of
    the photos; what is there is replaced.

    Args:
      run, out, quick: as for `write_report`.

    Raises:
      PhotoError: they cannot be written.
    """
    written = []
    for photo in run.photos:
        shown = photo if quick else pictured(photo)
        for number, face in enumerate(shown.faces, 1):
            if face.pictures is not None and photo.output is not None:
                place = out / "pictures" / photo.output.relative_to(out)
                written.append(place.with_name(f"{place.name}-face{number}.png"))
                write_atomically(written[-1], png(side_by_side(face.pictures)), overwrite=True)
    return written


def side_by_side(pictures: Pictures) -> np.ndarray:
    """Before, after and mask in one picture [h,3w+gaps,3] uint8."""
    gap = np.full((len(pictures.before), 8, 3), 255, np.uint8)
    return np.concatenate([pictures.before, gap, pictures.after, gap, pictures.mask], axis=1)


def png(pixels: np.ndarray) -> bytes:
    """The PNG file of [h,w,3] uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def report_html(run: RunResult, *, quick: bool = False) -> str:
    """The run as one HTML page that loads nothing from anywhere; `quick` as for `write_report`."""
    body = []
    for photo, name in zip(run.photos, names(run.photos), strict=True):
        body.append(f"<h2>{_text(name)}</h2>")
        if photo.output is not None:
            body.append(f"<p>saved as {_text(photo.output)}</p>")
        if photo.error:
            body.append(f"<p class=no>not protected: {_text(photo.error)}</p>")
        if photo.faceless:
            body.append(f"<p>{_text(photo.faceless)}; nothing saved</p>")
        body += [f"<p>{_text(note)}</p>" for note in photo.notes]
        shown = photo if quick else pictured(photo)
        for number, face in enumerate(shown.faces, 1):
            body.append(_face_html(number, face, run.surrogates))
    body += [f"<p class=no>{_text(path)}: not protected: {_NO_PHOTO}</p>" for path in run.others]
    settings = "".join(
        f"<tr><td>{_text(key)}<td>{_text(value)}"
        for key, value in {**run.settings, **run.versions}.items()
    )
    return _PAGE.format(
        summary=_text(summary_line(run)),
        caveat=f"<p class=no>{_text(said)}</p>" if (said := caveat(run)) else "",
        body="\n".join(body),
        settings=settings,
        gain=_GAIN,
    )


def _face_html(number: int, face: FaceResult, surrogates: Sequence[str]) -> str:
    if face.skipped:
        return f"<h3>Face {number}</h3><p>left alone: {_text(face.skipped)}</p>"
    rows = "".join(
        f"<tr><td>{_text(name)}{' *' if name in surrogates else ''}<td>{match.before:.3f}"
        f"<td>{match.after:.3f}<td>{match.threshold:.3f}"
        + ("<td class=yes>yes" if match.protected else "<td class=no>no")
        for name, match in face.matches.items()
    )
    figures = ""
    if face.pictures is not None:
        captions = ("before", "after", f"mask ×{_GAIN}")
        figures = "".join(
            f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{_jpeg(pixels)}">'
            f"<figcaption>{caption}</figcaption></figure>"
            for caption, pixels in zip(captions, face.pictures, strict=True)
        )
    towards = f", moved towards {_text(face.target)}" if face.target else ""
    return (
        f"<h3>Face {number}: {'protected' if face.protected else 'not protected'}</h3>"
        f"<div class=figures>{figures}</div>"
        f"<p>PSNR {face.psnr:.1f} dB, SSIM {face.ssim:.3f}, largest change of a "
        f"pixel {face.change} levels{towards}</p>"
        "<table><tr><th>recogniser<th>before<th>after<th>threshold<th>protected"
        f"{rows}</table>"
    )


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def _text(value: Any) -> str:
    return html.escape(printable(str(value)))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>tipim: protected photos</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark }}
.figures {{ display: flex; flex-wrap: wrap; gap: 1rem }}
figure {{ margin: 0 }}
img {{ max-width: 20rem; display: block }}
table {{ border-collapse: collapse }}
td, th {{ padding: .1rem .8rem; text-align: right; font-variant-numeric: tabular-nums }}
td:first-child, th:first-child {{ text-align: left }}
.yes {{ color: #080 }}
.no {{ color: #c00; font-weight: bold }}
.warning {{ border: 1px solid #c00; padding: .5rem 1rem }}
</style>
<h1>Protected photos</h1>
<p>{summary}</p>
{caveat}
<p class="warning">This page shows unprotected faces. Keep it to yourself; publish the saved photos only.</p>
{body}
<h2>About the numbers</h2>
<p>before, after: cosine of the face in the photo before, and in the saved file after, to the original
face. A recogniser says “same person” above its threshold (one false match in 1,000). * the mask was made
on this recogniser. Mask ×{gain}: grey where nothing changed.</p>
<details><summary>Settings and versions</summary><table>{settings}</table></details>
</html>
"""
