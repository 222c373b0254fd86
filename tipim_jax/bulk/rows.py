"""One Parquet row for every photo: what became of it, and everything that decided the bytes."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tipim_jax.photos.results import FaceResult

PROTECTED, NO_FACE, QUARANTINED = "protected", "no_face", "quarantined"


class Constants(NamedTuple):
    """What is the same in every row of a job.

    Attributes:
      epsilon: hard cap on the change of any pixel, pixel levels.
      seed: of the run.
      models: surrogate -> SHA-256 of its parameters.
    """

    epsilon: float
    seed: int
    models: dict[str, str]


def schema(constants: Constants) -> pa.Schema:
    """The columns; lists have an entry per protected face, largest face first."""
    floats = pa.list_(pa.float32())
    similarities = [
        (f"{when}_{name}", floats) for name in constants.models for when in ("before", "after")
    ]
    return pa.schema(
        [
            ("photo", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("output", pa.string()),
            ("faces", pa.int32()),
            ("protected_faces", pa.int32()),
            ("epsilon", pa.float32()),
            ("psnr", floats),
            ("ssim", floats),
            ("target", pa.list_(pa.string())),
            *similarities,
            ("seed", pa.int64()),
            ("models", pa.map_(pa.string(), pa.string())),
        ]
    )


def saved_row(photo: str, output: str, faces: Sequence[FaceResult]) -> dict[str, Any]:
    """The row of a photo that was done."""
    treated = [face for face in faces if not face.skipped]
    row = {
        "photo": photo,
        "status": PROTECTED,
        "output": output,
        "faces": len(faces),
        "protected_faces": len(treated),
        "psnr": [face.psnr for face in treated],
        "ssim": [face.ssim for face in treated],
        "target": [face.target for face in treated],
    }
    for name in treated[0].matches:
        row[f"before_{name}"] = [face.matches[name].before for face in treated]
        row[f"after_{name}"] = [face.matches[name].after for face in treated]
    return row


def unprotected_row(photo: str, status: str, reason: str, faces: int = 0) -> dict[str, Any]:
    """The row of a photo that has no output."""
    return {
        "photo": photo,
        "status": status,
        "reason": reason,
        "faces": faces,
        "protected_faces": 0,
    }


def encode_rows(rows: Sequence[dict[str, Any]], constants: Constants) -> bytes:
    """A Parquet file of rows."""
    common = {
        "epsilon": constants.epsilon,
        "seed": constants.seed,
        "models": list(constants.models.items()),
    }
    table = pa.Table.from_pylist([row | common for row in rows], schema=schema(constants))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


class Counts(NamedTuple):
    """photos = protected + no_face + quarantined; faces: those protected."""

    photos: int = 0
    protected: int = 0
    no_face: int = 0
    quarantined: int = 0
    faces: int = 0

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def count_rows(rows: Sequence[dict[str, Any]]) -> Counts:
    """Counts of rows."""
    statuses = [row["status"] for row in rows]
    return Counts(
        photos=len(rows),
        protected=statuses.count(PROTECTED),
        no_face=statuses.count(NO_FACE),
        quarantined=statuses.count(QUARANTINED),
        faces=sum(row["protected_faces"] for row in rows),
    )


def count_encoded(data: bytes) -> Counts:
    """Counts of a Parquet file of rows."""
    columns = ["status", "protected_faces"]
    return count_rows(pq.read_table(io.BytesIO(data), columns=columns).to_pylist())
