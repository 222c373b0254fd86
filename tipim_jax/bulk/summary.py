"""The end of a job: what became of all photos, from the row files of all processes."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tipim_jax.bulk import rows, storage
from tipim_jax.bulk.rows import QUARANTINED, Counts
from tipim_jax.bulk.shards import Shards, find_committed, row_file
from tipim_jax.bulk.storage import Folder

QUARANTINE, SUMMARY = "quarantine.csv", "summary.json"


def write_summary(out: Folder, shards: Shards, run: dict[str, Any]) -> Counts | None:
    """Writes `quarantine.csv` (photo, reason) and `summary.json`, if every shard is done.

    Whichever process is the last one calls this to some effect; if two are, they write the same.

    Args:
      out: the output of the job.
      shards: of the job.
      run: what else the summary should hold.

    Returns:
      The counts of the job, or None if it is not done, or has its summary.
    """
    if storage.exists(out, SUMMARY) or not find_committed(out, shards).all():
        return None
    counts, lost = Counts(), io.StringIO()
    writer = csv.writer(lost, lineterminator="\n")
    writer.writerow(["photo", "reason"])
    for table in _tables(out, shards):
        counts += rows.count_rows(table)
        writer.writerows(
            (row["photo"], row["reason"]) for row in table if row["status"] == QUARANTINED
        )
    storage.write(out, QUARANTINE, lost.getvalue().encode())
    text = json.dumps({**counts._asdict(), **run}, indent=1) + "\n"
    storage.write(out, SUMMARY, text.encode())
    storage.remove_staging(out)
    return counts


def sentence(counts: Counts) -> str:
    """What became of photos and faces, in words."""
    parts = [
        f"{counts.saved} of {counts.photos} photos saved",
        f"{counts.protected_faces} of {counts.faces} faces protected",
    ]
    if small := counts.faces - counts.masked_faces:
        parts.append(f"too small for a mask: {small}")
    if counts.no_face:
        parts.append(f"photos without a face: {counts.no_face}")
    if counts.quarantined:
        parts.append(f"photos quarantined: {counts.quarantined}")
    return ", ".join(parts)


def quarantine_file(workdir: str, process: int, processes: int) -> Path:
    """The list of the photos that one process has quarantined, whether their shards are done or not."""
    return Path(workdir) / f"quarantine-{process}-of-{processes}.csv"


def log_quarantined(path: Path, photo: str, reason: str) -> None:
    """Adds a photo to such a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([photo, reason])


def _tables(out: Folder, shards: Shards) -> Iterator[list[dict[str, Any]]]:
    columns = ["photo", "status", "reason", *rows.FACES]
    for shard in range(shards.total):
        data = storage.read(out, row_file(shards, shard))
        yield pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
