"""Results as JSON values, and back: what reports hold, and what an output folder keeps of each photo."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tipim_jax.photos.results import FaceResult, Match, OverTime, PhotoResult


def photo_json(photo: PhotoResult, surrogates: Sequence[str]) -> dict[str, Any]:
    """A photo's part of `report.report_json`; its pictures and its traceback are left out."""
    return finite(
        {
            "source": str(photo.source),
            "output": None if photo.output is None else str(photo.output),
            "error": photo.error,
            "faceless": photo.faceless,
            "change": photo.change,
            "notes": list(photo.notes),
            "faces": [_face_json(face, surrogates) for face in photo.faces],
        }
    )


def photo_from_json(values: dict[str, Any]) -> PhotoResult:
    """The photo that `photo_json` was given, without its pictures.

    Raises:
      KeyError, TypeError, ValueError: these are no such values.
    """
    return PhotoResult(
        source=Path(values["source"]),
        output=None if values["output"] is None else Path(values["output"]),
        faces=tuple(_face_from_json(face) for face in values["faces"]),
        error=values["error"],
        notes=tuple(values["notes"]),
        faceless=values["faceless"],
        change=int(values["change"]),
    )


def _face_json(face: FaceResult, surrogates: Sequence[str]) -> dict[str, Any]:
    return {
        "box": [float(x) for x in face.box],
        "target": face.target,
        "skipped": face.skipped,
        "protected": face.protected,
        "psnr": face.psnr,
        "ssim": face.ssim,
        "change": face.change,
        "over_time": face.over_time and face.over_time._asdict(),
        "recognisers": {
            name: {
                **match._asdict(),
                "protected": match.protected,
                "surrogate": name in surrogates,
            }
            for name, match in face.matches.items()
        },
    }


def _face_from_json(values: dict[str, Any]) -> FaceResult:
    left, top, width, height = map(float, values["box"])
    over_time = values.get("over_time")  # journals of before clips have none
    return FaceResult(
        box=(left, top, width, height),
        matches={
            name: Match(*(_number(match[field], math.nan) for field in Match._fields))
            for name, match in values["recognisers"].items()
        },
        psnr=_number(values["psnr"], math.inf),
        ssim=_number(values["ssim"], math.nan),
        change=int(values["change"]),
        target=values["target"],
        skipped=values["skipped"],
        over_time=OverTime(**over_time) if over_time else None,
    )


def _number(value: float | None, absent: float) -> float:
    return absent if value is None else float(value)


def finite(value: Any) -> Any:
    """JSON values with null for numbers that JSON cannot hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
