"""The proof of a run in files: `report.json`, a self-contained `report.html`, pictures of faces."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tipim_jax.errors import printable
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.records import finite, photo_json
from tipim_jax.photos.results import FaceResult, PhotoResult, Pictures, RunResult, summarise
from tipim_jax.photos.table import NO_PHOTO, caveat, names, summary_line
from tipim_jax.photos.verdict import hidden_from, visibility

# Raised when a field of report.json changes its meaning or goes; new fields leave it as it is.
SCHEMA = 2
_PICTURE_SIZE = 320
_GAIN = 8


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
    body, attention = [], []
    for i, (photo, name) in enumerate(zip(run.photos, names(run.photos), strict=True), 1):
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
            anchor = f"photo{i}-face{number}"
            body.append(_face_html(anchor, number, face, run.surrogates))
            if not face.skipped and not face.protected:
                attention.append(f"<a href=#{anchor}>{_text(name)}, face {number}</a>")
    body += [f"<p class=no>{_text(path)}: not protected: {NO_PHOTO}</p>" for path in run.others]
    settings = "".join(
        f"<tr><td>{_text(key)}<td>{_text(value)}"
        for key, value in {**run.settings, **run.versions}.items()
    )
    return _PAGE.format(
        summary=_text(summary_line(run)),
        attention=f"<p class=no>Still recognised: {', '.join(attention)}.</p>" if attention else "",
        caveat=f"<p class=no>{_text(said)}</p>" if (said := caveat(run)) else "",
        body="\n".join(body),
        settings=settings,
        gain=_GAIN,
    )


def _face_html(anchor: str, number: int, face: FaceResult, surrogates: Sequence[str]) -> str:
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
    colour = "yes" if face.protected else "no"
    return (
        f"<h3 id={anchor}>Face {number}</h3><p class={colour}>{_text(hidden_from(face))}.</p>"
        f"<p>The change is {visibility(face.psnr, face.box[2])} seen at 100 %.</p>"
        f"<div class=figures>{figures}</div>"
        "<details><summary>Figures</summary>"
        f"<p>PSNR {face.psnr:.1f} dB, SSIM {face.ssim:.3f}, largest change of a "
        f"pixel {face.change} levels{towards}</p>"
        "<table><tr><th>recogniser<th>before<th>after<th>threshold<th>protected"
        f"{rows}</table></details>"
    )


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()


def _text(value: Any) -> str:
    return html.escape(printable(str(value)))


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
img {{ max-width: min(20rem, 100%); display: block }}
details {{ overflow-x: auto }}
table {{ border-collapse: collapse }}
td, th {{ padding: .1rem .8rem; text-align: right; font-variant-numeric: tabular-nums }}
td:first-child, th:first-child {{ text-align: left }}
.yes {{ color: light-dark(#070, #7d7) }}
.no {{ color: light-dark(#b00, #f99); font-weight: bold }}
.warning {{ border: 1px solid #c00; padding: .5rem 1rem }}
</style>
<h1>Protected photos</h1>
<p>{summary}</p>
{attention}
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
