"""What was measured on a face, in words that need no explanation."""

import math
from collections.abc import Sequence
from typing import Any

from tipim_jax.photos.check import FaceSearch, PhotoSearch
from tipim_jax.photos.results import FaceResult

# How visible a change is, on the scale of SSIMULACRA2 (90: no difference seen, 70: high quality, 50: medium),
# estimated from the PSNR and the width of a face; what it was fitted to is in docs/web.md.
HARDLY, SLIGHTLY = 75.0, 50.0
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def describe(face: FaceResult, number: int) -> dict[str, Any]:
    """What the page shows of a protected face, as JSON.

    Args:
      face: as measured on the file.
      number: from 1.
    """
    box = [round(value, 1) for value in face.box]
    if face.skipped:
        return {"number": number, "box": box, "skipped": face.skipped}
    still = [name for name, match in face.matches.items() if not match.protected]
    count = len(face.matches)
    return {
        "number": number,
        "box": box,
        "skipped": "",
        "level": "all" if not still else "none" if len(still) == count else "some",
        "verdict": hidden(count, still),
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


def hidden(count: int, still: Sequence[str]) -> str:
    """From how many of `count` recognisers a face is hidden, and which still match it."""
    if not still:
        return f"Hidden from all {count} recognisers" if count > 1 else "Hidden from the recogniser"
    if len(still) == count:
        return f"Still matched by all {count} recognisers" if count > 1 else "Still matched"
    named = _joined(still) if len(still) < 4 else f"the other {_number(len(still))}"
    return (
        f"Hidden from {count - len(still)} of {count} recognisers; "
        f"{named} still {'matches' if len(still) == 1 else 'match'}"
    )


def visibility(psnr: float, width: float) -> str:
    """How visible a change is at 100 %, in one of three words.

    Args:
      psnr: of the face, before and after, dB.
      width: of the face, pixels; the same change is seen better the larger the face.
    """
    score = 107 + 4.3 * psnr - 27.1 * math.log2(max(1.0, width))
    return "hardly" if score >= HARDLY else "slightly" if score >= SLIGHTLY else "clearly"


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
    return f"{len(finding)} of {count} recognisers {verb} this person: {_joined(finding)}"


def _joined(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _number(count: int) -> str:
    return _WORDS[count] if count < len(_WORDS) else str(count)
