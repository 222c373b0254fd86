"""What the page shows of faces, as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from tipim_jax.photos.check import FaceSearch, PhotoSearch
from tipim_jax.photos.results import FaceResult
from tipim_jax.photos.verdict import hidden_from, joined, level, visibility


def describe(face: FaceResult, number: int) -> dict[str, Any]:
    """What the page shows of a protected face, as JSON.

    Args:
      face: as measured on the file.
      number: from 1.
    """
    box = [round(value, 1) for value in face.box]
    if face.skipped:
        return {"number": number, "box": box, "skipped": face.skipped}
    return {
        "number": number,
        "box": box,
        "skipped": "",
        "level": level(face),
        "verdict": hidden_from(face),
        "visible": visibility(face.psnr, face.box[2]),
        "figures": {
            "psnr": face.psnr if math.isfinite(face.psnr) else None,
            "ssim": face.ssim,
            "change": face.change,
            "recognisers": [
                {
                    "name": name,
                    "before": match.before,
                    "after": match.after,
                    "threshold": match.threshold,
                    "hidden": match.protected,
                }
                for name, match in face.matches.items()
            ],
        },
    }


def describe_search(search: PhotoSearch, person: str) -> list[dict[str, Any]]:
    """What the page shows of the faces of a photo that was looked up, as JSON.

    Args:
      search: in a gallery of one person.
      person: their name in it.
    """
    return [_found(one, person) for one in search.faces]


def _found(one: FaceSearch, person: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "cosine": candidate.cosine,
            "threshold": search.threshold,
            "found": candidate.cosine > search.threshold,
        }
        for name, search in one.after.items()
        for candidate in search.nearest
        if candidate.name == person
    ]
    finding = [row["name"] for row in rows if row["found"]]
    return {
        "number": one.face.number,
        "place": one.face.place,
        "box": [round(value, 1) for value in one.face.face.box],
        "level": "all" if not finding else "none" if len(finding) == len(rows) else "some",
        "verdict": finders(len(rows), finding),
        "recognisers": rows,
    }


def finders(count: int, finding: Sequence[str]) -> str:
    """How many of `count` recognisers find the person, and which."""
    if not finding:
        return f"None of {count} recognisers finds this person" if count > 1 else "Not found"
    if len(finding) == count:
        return f"All {count} recognisers find this person" if count > 1 else "Found"
    verb = "finds" if len(finding) == 1 else "find"
    return f"{len(finding)} of {count} recognisers {verb} this person: {joined(finding)}"
