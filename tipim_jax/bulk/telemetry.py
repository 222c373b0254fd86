"""What a run is doing and what it costs: counts and times, as one console line and one JSON line each.

Lines hold figures alone: no photo's name, path or content.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tipim_jax.bulk import tensorboard
from tipim_jax.bulk.rows import Counts


class Clock:
    """Wall-clock seconds during which at least one of several threads was inside."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._lock = now, threading.Lock()
        self._inside, self._since, self._seconds = 0, 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._since = self._now()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._seconds += self._now() - self._since

    @property
    def seconds(self) -> float:
        with self._lock:
            return self._seconds + (self._now() - self._since if self._inside else 0.0)


class Clocks(NamedTuple):
    """Where the time goes.

    Attributes:
      device: a batch is being attacked; the rest is the time that devices wait.
      input: the packer waits for photos: the run is bound by reading, decoding and detecting.
      compute: the packer waits for the devices: the run is bound by the attack, as it should be.
      output: the packer waits for finished photos to leave: bound by encoding, judging and writing.
    """

    device: Clock
    input: Clock
    compute: Clock
    output: Clock


class Meter:
    """The figures of one process; its methods may be called from every thread."""

    def __init__(self, photos: int, before: Counts, now: Callable[[], float] = time.perf_counter):
        """photos: of the process, of which `before` were done by earlier runs."""
        self.photos, self.before = photos, before
        self.clocks = Clocks(*(Clock(now) for _ in Clocks._fields))
        self._now, self._started, self._lock = now, now(), threading.Lock()
        self._counts, self._retries = Counts(), 0

    def add(self, counts: Counts) -> None:
        with self._lock:
            self._counts += counts

    def retried(self) -> None:
        with self._lock:
            self._retries += 1

    @property
    def counts(self) -> Counts:
        """Of this run."""
        with self._lock:
            return self._counts

    def figures(self) -> dict[str, float]:
        """Everything, for a JSON line; seconds and rates are of this run."""
        seconds, counts = self._now() - self._started, self.counts
        rate = counts.photos / seconds if seconds else 0.0
        left = self.photos - self.before.photos - counts.photos
        spent = {f"{name}_seconds": clock.seconds for name, clock in self._clocks()}
        return {
            "seconds": seconds,
            "photos_total": self.photos,
            "photos_before": self.before.photos,
            **{name: value for name, value in counts._asdict().items()},
            "retries": self._retries,
            "photos_per_second": rate,
            "faces_per_second": counts.masked_faces / seconds if seconds else 0.0,
            "eta_seconds": left / rate if rate else -1.0,
            **spent,
            "device_busy": spent["device_seconds"] / seconds if seconds else 0.0,
        }

    def _clocks(self) -> list[tuple[str, Clock]]:
        return list(zip(Clocks._fields, self.clocks, strict=True))


def format_line(figures: dict[str, Any]) -> str:
    """One line for the console."""
    f = figures
    done = f["photos_before"] + f["photos"]
    eta = f"{f['eta_seconds'] / 3600:.1f} h" if f["eta_seconds"] >= 0 else "?"
    return (
        f"{done}/{f['photos_total']} photos, {f['photos_per_second']:.2f} photos/s, "
        f"{f['faces_per_second']:.2f} faces/s, "
        f"{f['protected_faces']} of {f['faces']} faces protected, {f['quarantined']} quarantined, "
        f"devices busy {f['device_busy']:.0%}, ETA {eta}"
    )


def metrics_file(workdir: str, process: int, processes: int) -> Path:
    """The file of JSON lines of one process."""
    return Path(workdir) / f"metrics-{process}-of-{processes}.jsonl"


def append_figures(path: Path, figures: dict[str, Any]) -> None:
    """Adds a JSON line with the time to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": time.time(), **figures}) + "\n"
    with path.open("a+b", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a process was killed at its last line
                line = "\n" + line
        file.write(line.encode())


def last_figures(path: Path) -> dict[str, Any] | None:
    """The last line that is complete, since another process may be writing one; None without any."""
    if not path.exists():
        return None
    for line in reversed(path.read_bytes().split(b"\n")[:-1]):
        try:
            return json.loads(line)
        except ValueError:
            continue
    return None


def scalar_writer(folder: Path) -> Callable[[int, dict[str, float]], None]:
    """Writes figures as TensorBoard scalars over the photos done: (photos, figures) -> None.

    Args:
      folder: where the event files go.

    Raises:
      UserError: the extra `tensorboard` is not installed.
    """
    writer = tensorboard.open_writer(folder)

    def write(photos: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, photos)

    return write


def combine_runs(paths: Iterable[Path], price_per_hour: float) -> dict[str, float]:
    """Pace and cost of the last runs of the processes that left these files, all together.

    Args:
      paths: of `metrics_file`; those that are not there are left out.
      price_per_hour: of the machine of one process.
    """
    last = [figures for path in paths if (figures := last_figures(path)) is not None]
    photos = sum(figures["photos"] for figures in last)
    seconds = sum(figures["seconds"] for figures in last)
    return {
        "processes": len(last),
        "photos_per_second": sum(figures["photos_per_second"] for figures in last),
        "faces_per_second": sum(figures["faces_per_second"] for figures in last),
        "cost_per_million_photos": price_per_hour * seconds / 3600 / max(1, photos) * 1e6,
    }
