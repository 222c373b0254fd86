"""One Parquet row for every photo: what became of it, and everything that decided the bytes."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tipim_jax.photos.results import FaceResult

SAVED, NO_FACE, QUARANTINED = "saved", "no_face", "quarantined"
FACES = ("faces", "masked_faces", "protected_faces")  # columns that counts add up


class Constants(NamedTuple):
    """What is the same in every row of a job.

    Attributes:
      epsilon: hard cap on the change of any pixel before encoding, pixel levels.
      seed: of the run.
      surrogates: recogniser that masks are made on -> SHA-256 of its parameters.
      judges: recogniser that judges saved files -> SHA-256 of its parameters.
      thresholds: judge -> cosine above which it says "same person", FAR 1e-3.
    """

    epsilon: float
    seed: int
    surrogates: dict[str, str]
    judges: dict[str, str]
    thresholds: dict[str, float]


def schema(constants: Constants) -> pa.Schema:
    """The columns; lists have an entry for every face with a mask, largest face first."""
    floats, digests = pa.list_(pa.float32()), pa.map_(pa.string(), pa.string())
    similarities = [
        (f"{when}_{name}", floats) for name in constants.judges for when in ("before", "after")
    ]
    return pa.schema(
        [
            ("photo", pa.string()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("output", pa.string()),
            ("faces", pa.int32()),
            ("masked_faces", pa.int32()),
            ("protected_faces", pa.int32()),
            ("protected", pa.list_(pa.bool_())),
            ("epsilon", pa.float32()),
            ("psnr", floats),
            ("ssim", floats),
            ("target", pa.list_(pa.string())),
            *similarities,
            ("seed", pa.int64()),
            ("surrogates", digests),
            ("judges", digests),
            ("thresholds", pa.map_(pa.string(), pa.float64())),
        ]
    )


def saved_row(photo: str, output: str, faces: Sequence[FaceResult]) -> dict[str, Any]:
    """The row of a photo that was saved with masks.

    A face is protected if no judge takes the face in the saved file for the original one
    (`FaceResult.protected`, as in `tipim protect`).
    """
    masked = [face for face in faces if not face.skipped]
    row = {
        "photo": photo,
        "status": SAVED,
        "output": output,
        "faces": len(faces),
        "masked_faces": len(masked),
        "protected_faces": sum(face.protected for face in masked),
        "protected": [face.protected for face in masked],
        "psnr": [face.psnr for face in masked],
        "ssim": [face.ssim for face in masked],
        "target": [face.target for face in masked],
    }
    for name in masked[0].matches:
        row[f"before_{name}"] = [face.matches[name].before for face in masked]
        row[f"after_{name}"] = [face.matches[name].after for face in masked]
    return row


def unsaved_row(photo: str, status: str, reason: str, faces: int = 0) -> dict[str, Any]:
    """The row of a photo that has no output."""
    return {
        "photo": photo,
        "status": status,
        "reason": reason,
        "faces": faces,
        "masked_faces": 0,
        "protected_faces": 0,
    }


def encode_rows(rows: Sequence[dict[str, Any]], constants: Constants) -> bytes:
    """A Parquet file of rows."""
    common = {
        "epsilon": constants.epsilon,
        "seed": constants.seed,
        "surrogates": list(constants.surrogates.items()),
        "judges": list(constants.judges.items()),
        "thresholds": list(constants.thresholds.items()),
    }
    table = pa.Table.from_pylist([row | common for row in rows], schema=schema(constants))
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


class Counts(NamedTuple):
    """What became of photos and of their faces.

    Attributes:
      photos: saved + no_face + quarantined.
      saved: photos with an output.
      no_face: photos without a face that is large enough.
      quarantined: photos that could not be done.
      faces: all that were found.
      masked_faces: those that got a mask; the others were too small for one.
      protected_faces: those of them that no judge recognises in the saved file.
    """

    photos: int = 0
    saved: int = 0
    no_face: int = 0
    quarantined: int = 0
    faces: int = 0
    masked_faces: int = 0
    protected_faces: int = 0

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


def count_rows(rows: Sequence[dict[str, Any]]) -> Counts:
    """Counts of rows."""
    statuses = [row["status"] for row in rows]
    faces = {name: sum(row[name] for row in rows) for name in FACES}
    return Counts(
        photos=len(rows),
        saved=statuses.count(SAVED),
        no_face=statuses.count(NO_FACE),
        quarantined=statuses.count(QUARANTINED),
        **faces,
    )


def count_encoded(data: bytes) -> Counts:
    """Counts of a Parquet file of rows."""
    columns = ["status", *FACES]
    return count_rows(pq.read_table(io.BytesIO(data), columns=columns).to_pylist())
