"""The run of one process: read → detect → pack → attack → paste, encode, judge → publish, overlapped.

Grain's threads read and detect ahead, one or two threads feed the devices, a pool finishes photos. The
number of photos between reading and publishing is limited, and with it the memory. A photo that cannot be
done is quarantined, whatever went wrong with it; what is wrong with the devices, or with the place where
results go, ends the run.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import grain
import jax

from tipim_jax.bulk import rows
from tipim_jax.bulk.ledger import Ledger, Results
from tipim_jax.bulk.rows import NO_FACE, QUARANTINED
from tipim_jax.bulk.shards import Assignment
from tipim_jax.bulk.sources import Source
from tipim_jax.bulk.telemetry import Meter
from tipim_jax.errors import UserError
from tipim_jax.photos.decode import decode
from tipim_jax.photos.finish import Encoding, finish
from tipim_jax.photos.formats import FORMATS, format_named
from tipim_jax.photos.pending import PendingPhoto, detect, make_masks
from tipim_jax.photos.protect import Models

_log = logging.getLogger(__name__)


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


class Worker(NamedTuple):
    """What one process does.

    Attributes:
      models: detector, engine and judges.
      source: the photos of the job.
      results: which of them are this process', and where its results go.
      encoding: of the photos.
      error_budget: largest share of this process' photos that may be quarantined.
      checkpoint_seconds: at least so long between two checkpoints.
      threads: see `Threads`.
      quarantined: called with the name and the reason of a photo that is quarantined, at once.
    """

    models: Models
    source: Source
    results: Results
    encoding: Encoding
    error_budget: float = 0.1
    checkpoint_seconds: float = 10.0
    threads: Threads = Threads()
    quarantined: Callable[[str, str], None] = lambda name, reason: None


class BudgetExceeded(RuntimeError):
    """More photos were quarantined than the run may lose."""


class Prepared(NamedTuple):
    """A photo after the readers: `pending`, or the row of one that is not protected."""

    number: int
    name: str
    pending: PendingPhoto | None
    row: dict[str, Any] | None


class _Skipped(NamedTuple):
    """A photo of a shard that is done."""

    number: int


def run(
    worker: Worker, stop: threading.Event, report: Callable[[Meter], None] = lambda _: None
) -> Meter:
    """Protects the photos of a process, as far as they are not done.

    Args:
      worker: see `Worker`.
      stop: set from outside to end early: the running batch is finished, whole shards published.
      report: called now and then, and at the end.

    Returns:
      The figures. All is done if the counts make up `assignment.photos`.

    Raises:
      BudgetExceeded: too many photos were quarantined; what is published stays.
      OSError: results cannot be written.
      jax.errors.JaxRuntimeError: a device failed.
    """
    return _Run(worker, stop, report).run()


class _Run:
    """The state of `run`: queues, open shards, and the threads' first failure."""

    def __init__(
        self, worker: Worker, stop: threading.Event, report: Callable[[Meter], None]
    ) -> None:
        self.worker, self.stop, self.report = worker, stop, report
        self.ledger = Ledger(worker.results)
        self.meter = self.ledger.meter
        self.engine = worker.models.engine
        self.allowed = int(worker.error_budget * self.meter.photos)
        self.lost = self.meter.before.quarantined
        self.given_up: set[int] = set()  # photos that failed on their way through the batches
        self.lock = threading.Lock()
        self.failure: BaseException | None = None
        # Fewer than a full batch would wait for each other.
        in_flight = max(worker.threads.in_flight, 2 * self.engine.capacity)
        self.slots = threading.Semaphore(in_flight)
        self.batches: deque[Future[None]] = deque()
        # On CPUs two attacks at once would share the cores; elsewhere one is fed while one runs.
        self.depth = 1 if self.engine.mesh.devices.flat[0].platform == "cpu" else 2
        self.devices = ThreadPoolExecutor(self.depth, "device")
        self.waiting = 1  # batches that may wait for the devices
        self.finishers = ThreadPoolExecutor(worker.threads.finish, "finish")

    def run(self) -> Meter:
        iterator = self._open_input()
        queue: deque[tuple[Prepared, int]] = deque()
        capacity, saved = self.engine.capacity, time.monotonic()
        try:
            while not self._is_over():
                with self.meter.clocks.input.running():
                    item = self._next(iterator)
                if item is None:
                    break
                if isinstance(item, Prepared):
                    self._take_slot()
                    if self._is_over():
                        break
                    self._accept(item, queue)
                while len(queue) >= capacity and not self._is_over():
                    self._dispatch([queue.popleft() for _ in range(capacity)])
                if time.monotonic() - saved >= self.worker.checkpoint_seconds:
                    self.ledger.checkpoint()
                    self.report(self.meter)
                    saved = time.monotonic()
            while queue and not self._is_over():
                size = min(len(queue), capacity)
                self._dispatch([queue.popleft() for _ in range(size)])
        finally:
            if self._is_over():
                for batch in self.batches:
                    batch.cancel()
            self.devices.shutdown()
            self.finishers.shutdown()
            iterator.close()
            self.ledger.close()
        if self.failure is not None:
            raise self.failure
        self.ledger.checkpoint()
        self.report(self.meter)
        return self.meter

    # Input

    def _open_input(self) -> Any:
        assignment = self.worker.results.assignment
        first = self.ledger.base * assignment.shards.size
        data = grain.MapDataset.source(_Positions(assignment, first)).map(self._prepare)
        options = grain.ReadOptions(
            num_threads=self.worker.threads.read, prefetch_buffer_size=self.worker.threads.ahead
        )
        iterator = iter(data.to_iter_dataset(options))
        if self.ledger.state is not None:
            iterator.set_state(self.ledger.state)
        return iterator

    def _next(self, iterator: Any) -> Prepared | _Skipped | None:
        state = iterator.get_state()
        try:
            item = next(iterator)
        except StopIteration:
            return None
        self.ledger.note_state(item.number, state)
        return item

    def _prepare(self, number: int) -> Prepared | _Skipped:
        if self.ledger.is_done(number):
            return _Skipped(number)
        source = self.worker.source
        name = self.ledger.retry(lambda: source.name(number))
        try:
            photo = decode(self.ledger.retry(lambda: source.read(number)), name)
            pending = detect(self.worker.models.find, photo)
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{name} cannot be read ({error.strerror or type(error).__name__})"
        except Exception as error:
            reason = _log_fault(number, name, error)
        else:
            if not pending.faceless:
                return Prepared(number, name, pending, None)
            row = rows.unsaved_row(name, NO_FACE, pending.faceless, len(pending.faces))
            return Prepared(number, name, None, row)
        return Prepared(number, name, None, rows.unsaved_row(name, QUARANTINED, reason))

    # Packing and the devices

    def _is_over(self) -> bool:
        return self.stop.is_set() or self.failure is not None

    def _take_slot(self) -> None:
        with self.meter.clocks.output.running():
            while not self.slots.acquire(timeout=0.2):
                if self._is_over():
                    return

    def _accept(self, item: Prepared, queue: deque[tuple[Prepared, int]]) -> None:
        if item.pending is None:
            assert item.row is not None
            self._submit(self._settle, item.number, item.row)
        else:
            queue.extend((item, face) for face in item.pending.to_protect)

    def _dispatch(self, batch: list[tuple[Prepared, int]]) -> None:
        with self.meter.clocks.compute.running():
            while len(self.batches) >= self.depth + self.waiting:
                self.batches.popleft().result()
        self.batches.append(self.devices.submit(self._guard, self._attack, batch))

    def _attack(self, batch: list[tuple[Prepared, int]]) -> None:
        items = {item.number: item for item, _ in batch}
        try:
            self._make_masks(batch)
        except jax.errors.JaxRuntimeError:  # of the device, and no photo's fault
            raise
        except Exception:
            for item in items.values():
                self._attack_alone(item, [pair for pair in batch if pair[0] is item])
        for item in items.values():
            if (
                item.number not in self.given_up
                and item.pending is not None
                and item.pending.masked
            ):
                self._submit(self._finish, item)

    def _make_masks(self, faces: list[tuple[Prepared, int]]) -> None:
        with self.meter.clocks.device.running():
            pairs = [(item.pending, face) for item, face in faces if item.pending is not None]
            make_masks(self.engine, self.engine.full(), pairs)

    def _attack_alone(self, item: Prepared, faces: list[tuple[Prepared, int]]) -> None:
        """The part of one photo in a batch that failed."""
        try:
            self._make_masks(faces)
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:
            with self.lock:
                known = item.number in self.given_up  # by another batch
                self.given_up.add(item.number)
            if not known:
                self._submit(self._quarantine, item, _log_fault(item.number, item.name, error))

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        self.finishers.submit(self._guard, function, *arguments)

    def _guard(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            if self.failure is None:
                function(*arguments)
        except BaseException as error:
            self.failure = self.failure or error

    # Finishing

    def _finish(self, item: Prepared) -> None:
        """Paste, encode, read back, judge, stage."""
        worker, pending = self.worker, item.pending
        assert pending is not None
        try:
            done = finish(
                pending,
                self.engine.settings.epsilon,
                worker.encoding,
                worker.models.find,
                worker.models.judges,
            )
        except UserError as error:
            self._quarantine(item, str(error))
            return
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:
            self._quarantine(item, _log_fault(item.number, item.name, error))
            return
        format = worker.encoding.format
        saved_as = FORMATS[format_named(format) if format else pending.photo.format]
        output = worker.source.output(item.number, saved_as.suffixes[0])
        staged = self.ledger.stage(item.number, output, done.data)
        self._settle(item.number, rows.saved_row(item.name, output, done.faces), staged)

    def _quarantine(self, item: Prepared, reason: str) -> None:
        self._settle(item.number, rows.unsaved_row(item.name, QUARANTINED, reason))

    def _settle(self, number: int, row: dict[str, Any], staged: Any = None) -> None:
        if row["status"] == QUARANTINED:
            with self.lock:
                self.lost += 1
                lost = self.lost
                self.worker.quarantined(row["photo"], row["reason"])
            if lost > self.allowed:
                raise BudgetExceeded(
                    f"{lost} photos are quarantined, more than the {self.allowed} that "
                    "--error_budget allows this process"
                )
        self.slots.release()
        self.ledger.settle(number, row, staged)


def _log_fault(number: int, name: str, error: Exception) -> str:
    """The reason of a photo that the program failed on; the log has the number instead of the name."""
    _log.error("photo %d met a fault of the program and is quarantined", number, exc_info=error)
    kind = type(error).__name__
    return f"{name} met a fault of the program ({kind}: {error}); the log has its traceback"


class _Positions(Sequence[int]):
    """The photos of a process from a position on, as a source for Grain."""

    def __init__(self, assignment: Assignment, first: int) -> None:
        self._assignment, self._first = assignment, first

    def __len__(self) -> int:
        return max(0, self._assignment.photos - self._first)

    def __getitem__(self, position: Any) -> Any:
        return self._assignment.photo(self._first + position)
