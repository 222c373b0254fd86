"""Cells: the pieces of a run that are computed once, saved whole, and found again after it was stopped.

A cell is a compressed .npz file below --workdir/cells, named after what it holds. Whatever a result depends
on is in the cell's name or in the run's frozen config, and no cell holds a time, so a run that was killed
and started again leaves the same bytes as one that was not.
"""

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.reporting import results

LOG = "cells.log"  # the cells that were computed, in order, with the seconds that each took

Arrays = Mapping[str, np.ndarray]


def kept(workdir: Path, name: str, make: Callable[[], Arrays]) -> dict[str, np.ndarray]:
    """The arrays of a cell (slashes in its name are folders): from its file, or made now and saved."""
    path = workdir / "cells" / f"{name}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **make())  # type: ignore[arg-type]
        results.write(path, buffer.getvalue())
        with (workdir / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{name}\t{time.perf_counter() - started:.2f}\n")
    with np.load(path) as arrays:
        return {key: arrays[key] for key in arrays.files}


def in_parts(
    workdir: Path,
    name: str,
    count: int,
    size: int,
    make: Callable[[np.ndarray], Arrays],
) -> dict[str, np.ndarray]:
    """Arrays [count, ...] with one row per item, of a cell for each `size` items: NAME/0000 and so on.

    `make` takes indices [n] of items to arrays [n, ...].
    """
    parts = [
        kept(workdir, f"{name}/{start:05d}", lambda i=indices: make(i))  # type: ignore[misc]
        for start, indices in _parts(name, count, size)
    ]
    return joined(parts)


def _parts(name: str, count: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    for start in tqdm(range(0, count, size), desc=name, unit="part", disable=None):
        yield start, np.arange(start, min(start + size, count))


def joined(parts: Sequence[Arrays]) -> dict[str, np.ndarray]:
    """The arrays of parts, end to end."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
