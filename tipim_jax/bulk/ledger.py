"""What became of every photo of a process: noted one by one, published a whole shard at a time."""

import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tipim_jax.bulk import progress, retry, rows, storage
from tipim_jax.bulk.progress import Progress
from tipim_jax.bulk.rows import Constants, Counts
from tipim_jax.bulk.shards import Assignment, find_committed, row_file
from tipim_jax.bulk.sinks import Sink, Staged
from tipim_jax.bulk.storage import Folder
from tipim_jax.bulk.telemetry import Meter


class Results(NamedTuple):
    """Where the results of a process go.

    Attributes:
      assignment: the photos of the process.
      out: the folder of the job's results.
      sink: how photos are published.
      constants: of all rows.
      checkpoints: the folder of this process' progress.
      retry_wait: seconds before the first repetition of a read or write.
    """

    assignment: Assignment
    out: Folder
    sink: Sink
    constants: Constants
    checkpoints: Any
    retry_wait: float = retry.FIRST_WAIT


def resume(results: Results) -> tuple[np.ndarray, Progress]:
    """Which shards are done [total] bool, and where this process goes on.

    The checkpoint is used if the shards before it are done, as the row files say; otherwise, and
    from there on, row files are counted.
    """
    done = find_committed(results.out, results.assignment.shards)
    own = done[np.asarray(results.assignment.own, int)]
    known = progress.load(results.checkpoints)
    if known is None or known.shards > len(own) or not own[: known.shards].all():
        first = int(np.argmin(own)) if len(own) and not own.all() else len(own)
        known = Progress(0, Counts(), first, None)
    return done, known


class Ledger:
    """The open and the published shards of a process; its methods may be called from every thread.

    Attributes:
      meter: the figures of this run.
      base: the own shard that the input begins with.
      state: Grain's iterator state to begin with; None for none.
    """

    def __init__(self, results: Results) -> None:
        self._results = results
        self._done, start = resume(results)
        self.base, self.state = start.base, start.state
        later = [s for s in results.assignment.own[start.shards :] if self._done[s]]
        self._shard_counts = {s: self._read_counts(s) for s in later}
        before = sum(self._shard_counts.values(), start.counts)
        self.meter = Meter(results.assignment.photos, before)
        self._position = start.shards  # of the first own shard that is not done
        self._counts = start.counts  # of the own shards before it
        self._states: dict[int, dict[str, Any]] = {}  # own shard's position -> iterator's state
        self._open: dict[int, dict[int, tuple[dict[str, Any], Staged | None]]] = {}
        self._lock = threading.Lock()
        self._advance()

    def is_done(self, number: int) -> bool:
        """Whether the shard of a photo is published."""
        return bool(self._done[number // self._results.assignment.shards.size])

    def retry(self, function: Callable[[], Any]) -> Any:
        """`retry.call` that counts what it repeats."""
        return retry.call(function, wait=self._results.retry_wait, retried=self.meter.retried)

    def note_state(self, number: int, state: dict[str, Any]) -> None:
        """Keeps the iterator's state before a photo, if the photo is the first of its shard."""
        shard, offset = divmod(number, self._results.assignment.shards.size)
        if offset == 0:
            with self._lock:
                self._states[self._results.assignment.own.index(shard)] = state

    def stage(self, number: int, output: str, data: bytes) -> Staged:
        """Keeps the file of a photo until its shard is published.

        Raises:
          OSError: the disk refuses.
        """
        path = self._staging(number // self._results.assignment.shards.size) / f"{number:012d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return Staged(output, path)

    def settle(self, number: int, row: dict[str, Any], staged: Staged | None = None) -> None:
        """Notes what became of a photo; publishes its shard if it was the last one of it.

        Raises:
          OSError: the shard cannot be written.
        """
        shards = self._results.assignment.shards
        shard = number // shards.size
        with self._lock:
            settled = self._open.setdefault(shard, {})
            settled[number] = (row, staged)
            complete = len(settled) == len(shards.numbers(shard))
            if complete:
                del self._open[shard]
        if complete:
            self._publish(shard, settled)

    def checkpoint(self) -> None:
        """Saves how far the process is."""
        with self._lock:
            state = self._states.get(self._position)
            now = Progress(self._position, self._counts, self.base, state)
        if state is not None or self._position == len(self._results.assignment.own):
            progress.save(self._results.checkpoints, now)

    def close(self) -> None:
        """Removes what was staged for shards that are not done; they are done anew."""
        for shard in self._open:
            shutil.rmtree(self._staging(shard), ignore_errors=True)
        storage.remove_staging(self._results.out)  # the last one leaves nothing

    def _publish(self, shard: int, settled: dict[int, Any]) -> None:
        """Outputs first, the row file last: its presence says that the shard is done."""
        results = self._results
        name = results.assignment.shards.name(shard)
        photos: list[Staged] = []
        table = []
        for number in results.assignment.shards.numbers(shard):
            row, staged = settled[number]
            if staged is not None:
                row["output"] = results.sink.location(name, staged.output, len(photos))
                photos.append(staged)
            table.append(row)
        self.retry(lambda: results.sink.publish(name, photos))
        data = rows.encode_rows(table, results.constants)
        file = row_file(results.assignment.shards, shard)
        self.retry(lambda: storage.write(results.out, file, data))
        shutil.rmtree(self._staging(shard), ignore_errors=True)
        counts = rows.count_rows(table)
        self.meter.add(counts)
        with self._lock:
            self._done[shard] = True
            self._shard_counts[shard] = counts
        self._advance()

    def _staging(self, shard: int) -> Path:
        """Where the photos of a shard are staged."""
        name = f"{storage.process_token()}-{self._results.assignment.shards.name(shard)}"
        return storage.staging_folder(self._results.out) / name

    def _read_counts(self, shard: int) -> Counts:
        name = row_file(self._results.assignment.shards, shard)
        read = partial(storage.read, self._results.out, name)
        return rows.count_encoded(retry.call(read, wait=self._results.retry_wait))

    def _advance(self) -> None:
        """Moves the first open shard on over those that are done."""
        own = self._results.assignment.own
        with self._lock:
            while self._position < len(own) and self._done[own[self._position]]:
                self._counts += self._shard_counts.pop(own[self._position])
                self._states.pop(self._position, None)
                self._position += 1
