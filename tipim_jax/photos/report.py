"""The proof of a run in files: `report.json` and `report.html`."""

import json
from pathlib import Path
from typing import Any

from tipim_jax.photos import page, pictures
from tipim_jax.photos.files import write_atomically
from tipim_jax.photos.records import finite, photo_json
from tipim_jax.photos.results import RunResult, summarise

# Raised when a field of report.json changes its meaning or goes; new fields leave it as it is.
SCHEMA = 2


def write_report(run: RunResult, out: Path, *, quick: bool = False) -> tuple[Path, Path]:
    """Writes `report.json` and `report.html`, or `report-2.json` and so on.

    A report is replaced if all the photos it speaks of are in this one; others stay.

    Args:
      run: what to tell.
      out: the folder.
      quick: leave out the pictures that would have to be made of the photos.

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
    shown = [pictures.shown(out, photo, quick=quick) for photo in run.photos]
    write_atomically(paths[1], page.html(run, out, shown).encode(), overwrite=True)
    pictures.tidy(out)
    return paths


def _replaceable(stem: Path, sources: set[str]) -> bool:
    """Whether a report may be written to STEM.json and STEM.html."""
    text = stem.with_suffix(".json")
    if not text.exists():
        return not stem.with_suffix(".html").exists()
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
                         over_time of a clip, else null: {first, last in seconds, judged, hidden frames,
                         recognisers: {name: hidden frames}},
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
