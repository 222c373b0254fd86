"""The end of a job: what became of all photos, from the row files of all processes."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

from tipim_jax.bulk import places, rows
from tipim_jax.bulk.places import Place
from tipim_jax.bulk.rows import QUARANTINED, Counts
from tipim_jax.bulk.work import Shards, committed, row_file

QUARANTINE, SUMMARY = "quarantine.csv", "summary.json"


def finish(out: Place, shards: Shards, run: dict[str, Any]) -> Counts | None:
    """Writes `quarantine.csv` (photo, reason) and `summary.json`, if every shard is done.

    Whichever process is the last one calls this to some effect; if two are, they write the same.

    Args:
      out: the output of the job.
      shards: of the job.
      run: what else the summary should hold.

    Returns:
      The counts of the job, or None if it is not done, or has its summary.
    """
    if places.exists(out, SUMMARY) or not committed(out, shards).all():
        return None
    counts, lost = Counts(), io.StringIO()
    writer = csv.writer(lost, lineterminator="\n")
    writer.writerow(["photo", "reason"])
    for table in _tables(out, shards):
        counts += rows.count(table)
        writer.writerows(
            (row["photo"], row["reason"]) for row in table if row["status"] == QUARANTINED
        )
    places.write(out, QUARANTINE, lost.getvalue().encode())
    text = json.dumps({**counts._asdict(), **run}, indent=1) + "\n"
    places.write(out, SUMMARY, text.encode())
    return counts


def _tables(out: Place, shards: Shards) -> Iterator[list[dict[str, Any]]]:
    columns = ["photo", "status", "reason", "protected_faces"]
    for shard in range(shards.total):
        data = places.read(out, row_file(shards, shard))
        yield pq.read_table(io.BytesIO(data), columns=columns).to_pylist()
