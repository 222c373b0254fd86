"""The run of one process: read → detect → pack → attack → paste, encode, judge → publish, overlapped.

Grain's threads read and detect ahead, one or two threads feed the devices, a pool finishes photos. The
number of photos between reading and publishing is limited, and with it the memory.
"""

import contextlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np

from tipim_jax.bulk import places, progress, retry, rows
from tipim_jax.bulk.places import Place
from tipim_jax.bulk.progress import Progress
from tipim_jax.bulk.rows import NO_FACE, QUARANTINED, Constants, Counts
from tipim_jax.bulk.sinks import Sink, Staged
from tipim_jax.bulk.sources import Source, output_name
from tipim_jax.bulk.telemetry import Meter
from tipim_jax.bulk.work import Mine, committed, row_file
from tipim_jax.photos import protect
from tipim_jax.photos.files import FORMATS, PhotoError, decode, encode
from tipim_jax.photos.protect import Saving, Tools, Work


class Threads(NamedTuple):
    """Host threads and buffers.

    Attributes:
      read: threads that read, decode and detect.
      ahead: photos they may be ahead.
      finish: threads that paste, encode, judge and publish.
      in_flight: photos between the readers and the end; never fewer than two full batches.
    """

    read: int = 2
    ahead: int = 16
    finish: int = 2
    in_flight: int = 64


class Job(NamedTuple):
    """What one process does.

    Attributes:
      tools: finder, engine and judges.
      source: the photos.
      mine: those of this process.
      out: where results go.
      sink: how they are published.
      constants: of all rows.
      saving: how photos are encoded.
      checkpoints: the folder of this process' progress.
      error_budget: largest share of this process' photos that may be quarantined.
      checkpoint_seconds: at least so long between two checkpoints.
      threads: see `Threads`.
      retry_wait: seconds before the first repetition of a read or write.
    """

    tools: Tools
    source: Source
    mine: Mine
    out: Place
    sink: Sink
    constants: Constants
    saving: Saving
    checkpoints: Any
    error_budget: float = 0.1
    checkpoint_seconds: float = 10.0
    threads: Threads = Threads()
    retry_wait: float = retry.FIRST_WAIT


class BudgetExceeded(RuntimeError):
    """More photos were quarantined than the run may lose."""


class Prepared(NamedTuple):
    """A photo after the readers: `work`, or the row of one that is not protected."""

    number: int
    name: str
    work: Work | None
    row: dict[str, Any] | None


class _Skipped(NamedTuple):
    """A photo of a shard that is done."""

    number: int


def resume(job: Job) -> tuple[np.ndarray, Progress]:
    """Which shards are done [total] bool, and where this process goes on.

    The checkpoint is used if the shards before it are done, as the row files say; otherwise, and
    from there on, row files are counted.
    """
    done = committed(job.out, job.mine.shards)
    own = done[np.asarray(job.mine.own, int)]
    known = progress.load(job.checkpoints)
    if known is None or known.shards > len(own) or not own[: known.shards].all():
        first = int(np.argmin(own)) if len(own) and not own.all() else len(own)
        known = Progress(0, Counts(), first, None)
    return done, known


def run(job: Job, stop: threading.Event, report: Callable[[Meter], None] = lambda _: None) -> Meter:
    """Protects the photos of a process, as far as they are not done.

    Args:
      job: see `Job`.
      stop: set from outside to end early: the running batch is finished, whole shards published.
      report: called now and then, and at the end.

    Returns:
      The figures. All is done if the counts make up `mine.photos`.

    Raises:
      BudgetExceeded: too many photos were quarantined; what is published stays.
      OSError: results cannot be written.
    """
    return _Run(job, stop, report).run()


class _Run:
    """The state of `run`: queues, open shards, and the threads' first failure."""

    def __init__(self, job: Job, stop: threading.Event, report: Callable[[Meter], None]) -> None:
        self.job, self.stop, self.report = job, stop, report
        self.done, self.start = resume(job)
        own = list(job.mine.own)
        later = [s for s in own[self.start.shards :] if self.done[s]]
        self.shard_counts = {s: self._counts_of(s) for s in later}
        before = sum(self.shard_counts.values(), self.start.counts)
        self.meter = Meter(job.mine.photos, before)
        self.allowed = int(job.error_budget * job.mine.photos)
        self.lost = before.quarantined
        self.position = self.start.shards  # of the first own shard that is not done
        self.counts = self.start.counts  # of the own shards before it
        self.states: dict[int, dict[str, Any]] = {}  # own shard's position -> iterator's state
        self.open: dict[int, dict[int, tuple[dict[str, Any], Staged | None]]] = {}
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        # Fewer than a full batch would wait for each other.
        in_flight = max(job.threads.in_flight, 2 * job.tools.engine.capacity)
        self.slots = threading.Semaphore(in_flight)
        self.batches: deque[Future[None]] = deque()
        # On CPUs two attacks at once would share the cores; elsewhere one is fed while one runs.
        depth = 1 if job.tools.engine.mesh.devices.flat[0].platform == "cpu" else 2
        self.devices = ThreadPoolExecutor(depth, "device")
        self.waiting = 1  # batches that may wait for the devices
        self.depth = depth
        self.finishers = ThreadPoolExecutor(job.threads.finish, "finish")

    def run(self) -> Meter:
        self._advance()
        iterator = self._input()
        queue: deque[tuple[Prepared, int]] = deque()
        saved = time.monotonic()
        try:
            while not self._over():
                with self.meter.clocks.input.running():
                    item = self._next(iterator)
                if item is None:
                    break
                if isinstance(item, Prepared):
                    self._slot()
                    if self._over():
                        break
                    self._accept(item, queue)
                capacity = self.job.tools.engine.capacity
                while len(queue) >= capacity and not self._over():
                    self._dispatch([queue.popleft() for _ in range(capacity)])
                if time.monotonic() - saved >= self.job.checkpoint_seconds:
                    self._checkpoint()
                    self.report(self.meter)
                    saved = time.monotonic()
            while queue and not self._over():
                size = min(len(queue), self.job.tools.engine.capacity)
                self._dispatch([queue.popleft() for _ in range(size)])
        finally:
            if self._over():
                for batch in self.batches:
                    batch.cancel()
            self.devices.shutdown()
            self.finishers.shutdown()
            iterator.close()
        if self.failure is not None:
            self._leave()
            raise self.failure
        self._checkpoint()
        self._leave()
        self.report(self.meter)
        return self.meter

    # Input

    def _input(self) -> Any:
        mine = self.job.mine
        first = self.start.base * mine.shards.size
        data = grain.MapDataset.source(_Positions(mine, first)).map(self._prepare)
        options = grain.ReadOptions(
            num_threads=self.job.threads.read, prefetch_buffer_size=self.job.threads.ahead
        )
        iterator = iter(data.to_iter_dataset(options))
        if self.start.state is not None:
            iterator.set_state(self.start.state)
        return iterator

    def _next(self, iterator: Any) -> Prepared | _Skipped | None:
        state = iterator.get_state()
        try:
            item = next(iterator)
        except StopIteration:
            return None
        shard, offset = divmod(item.number, self.job.mine.shards.size)
        if offset == 0:
            with self.lock:
                self.states[self.job.mine.own.index(shard)] = state
        return item

    def _prepare(self, number: int) -> Prepared | _Skipped:
        job = self.job
        if self.done[number // job.mine.shards.size]:
            return _Skipped(number)
        again = partial(retry.call, wait=job.retry_wait, retried=self.meter.retried)
        name = again(lambda: job.source.name(number))
        try:
            photo = decode(again(lambda: job.source.read(number)), name)
            work = protect.start(job.tools.find, photo)
        except PhotoError as error:
            return Prepared(number, name, None, rows.left(name, QUARANTINED, str(error)))
        except OSError as error:
            reason = f"{name} cannot be read ({error.strerror or type(error).__name__})"
            return Prepared(number, name, None, rows.left(name, QUARANTINED, reason))
        if work.nothing:
            row = rows.left(name, NO_FACE, work.nothing, len(work.faces))
            return Prepared(number, name, None, row)
        return Prepared(number, name, work, None)

    # Packing and the devices

    def _over(self) -> bool:
        return self.stop.is_set() or self.failure is not None

    def _slot(self) -> None:
        with self.meter.clocks.output.running():
            while not self.slots.acquire(timeout=0.2):
                if self._over():
                    return

    def _accept(self, item: Prepared, queue: deque[tuple[Prepared, int]]) -> None:
        if item.work is None:
            self._finisher(self._settle, item.number, item.row, None)
        else:
            queue.extend((item, face) for face in item.work.wanted)

    def _dispatch(self, batch: list[tuple[Prepared, int]]) -> None:
        with self.meter.clocks.compute.running():
            while len(self.batches) >= self.depth + self.waiting:
                self.batches.popleft().result()
        self.batches.append(self.devices.submit(self._guarded, self._attack, batch))

    def _attack(self, batch: list[tuple[Prepared, int]]) -> None:
        faces = [(item.work, face) for item, face in batch if item.work is not None]
        with self.meter.clocks.device.running():
            protect.attack_batch(self.job.tools.engine, faces)
        for item in {item.number: item for item, _ in batch}.values():
            if item.work is not None and item.work.ready:
                self._finisher(self._finish, item)

    def _finisher(self, function: Callable[..., None], *arguments: Any) -> None:
        self.finishers.submit(self._guarded, function, *arguments)

    def _guarded(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            if self.failure is None:
                function(*arguments)
        except BaseException as error:
            self.failure = self.failure or error

    # Finishing

    def _finish(self, item: Prepared) -> None:
        """Paste, encode, read back, judge, stage."""
        job, work = self.job, item.work
        assert work is not None
        try:
            protected = protect.pasted(work, job.tools.engine.settings.epsilon)
            data, _ = encode(
                work.photo,
                protected,
                format=job.saving.format,
                quality=job.saving.quality,
                keep_metadata=job.saving.keep_metadata,
            )
            saved = decode(data, item.name)
            faces, _ = protect.examine(job.tools, work, saved, job.saving)
        except ValueError as error:
            self._settle(item.number, rows.left(item.name, QUARANTINED, str(error)), None)
            return
        output = output_name(item.name, job.saving.format)
        if not any(output.lower().endswith(s) for f in FORMATS.values() for s in f.suffixes):
            output += FORMATS[work.photo.format].suffixes[0]  # a record has no name of its own
        path = self._folder(item.number) / f"{item.number:012d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        row = rows.protected(item.name, output, faces)
        self._settle(item.number, row, Staged(output, path))

    def _settle(self, number: int, row: dict[str, Any], staged: Staged | None) -> None:
        """Notes what became of a photo; publishes its shard if it was the last one of it."""
        shards = self.job.mine.shards
        shard = number // shards.size
        with self.lock:
            if row["status"] == QUARANTINED:
                self.lost += 1
                if self.lost > self.allowed:
                    raise BudgetExceeded(
                        f"{self.lost} photos are quarantined, more than the {self.allowed} that "
                        "--error_budget allows this process; see the reasons in the row files"
                    )
            settled = self.open.setdefault(shard, {})
            settled[number] = (row, staged)
            complete = len(settled) == len(shards.numbers(shard))
            if complete:
                del self.open[shard]
        self.slots.release()
        if complete:
            self._publish(shard, settled)

    def _publish(self, shard: int, settled: dict[int, Any]) -> None:
        """Outputs first, the row file last: its presence says that the shard is done."""
        job = self.job
        name = job.mine.shards.name(shard)
        photos: list[Staged] = []
        table = []
        for number in job.mine.shards.numbers(shard):
            row, staged = settled[number]
            if staged is not None:
                row["output"] = job.sink.location(name, staged.output, len(photos))
                photos.append(staged)
            table.append(row)
        again = partial(retry.call, wait=job.retry_wait, retried=self.meter.retried)
        again(lambda: job.sink.publish(name, photos))
        data = rows.encode(table, job.constants)
        again(lambda: places.write(job.out, row_file(job.mine.shards, shard), data))
        shutil.rmtree(self._folder(shard * job.mine.shards.size), ignore_errors=True)
        counts = rows.count(table)
        self.meter.add(counts)
        with self.lock:
            self.done[shard] = True
            self.shard_counts[shard] = counts
        self._advance()

    def _folder(self, number: int) -> Path:
        """Where photos of this one's shard are staged."""
        shards = self.job.mine.shards
        name = f"{places.token()}-{shards.name(number // shards.size)}"
        return places.staging(self.job.out) / name

    # Progress

    def _counts_of(self, shard: int) -> Counts:
        name = row_file(self.job.mine.shards, shard)
        read = partial(places.read, self.job.out, name)
        return rows.counted(retry.call(read, wait=self.job.retry_wait))

    def _advance(self) -> None:
        """Moves the first open shard on over those that are done."""
        own = self.job.mine.own
        with self.lock:
            while self.position < len(own) and self.done[own[self.position]]:
                self.counts += self.shard_counts.pop(own[self.position])
                self.states.pop(self.position, None)
                self.position += 1

    def _checkpoint(self) -> None:
        with self.lock:
            state = self.states.get(self.position)
            now = Progress(self.position, self.counts, self.start.base, state)
        if state is not None or self.position == len(self.job.mine.own):
            progress.save(self.job.checkpoints, now)

    def _leave(self) -> None:
        """Removes what was staged for shards that are not done; they are done anew."""
        for shard in self.open:
            folder = self._folder(shard * self.job.mine.shards.size)
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            places.staging(self.job.out).rmdir()  # the last one leaves nothing


class _Positions(Sequence[int]):
    """The photos of a process from a position on, as a source for Grain."""

    def __init__(self, mine: Mine, first: int) -> None:
        self._mine, self._first = mine, first

    def __len__(self) -> int:
        return max(0, self._mine.photos - self._first)

    def __getitem__(self, position: Any) -> Any:
        return self._mine.photo(self._first + position)
