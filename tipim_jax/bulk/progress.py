"""How far a process is, in Orbax: its input iterator's state, and the counts of what lies before it.

The row files say which shards are done. A checkpoint only saves looking: a process that restarts need
not read the row files before it, nor step the iterator to where it was. Where the two disagree
(somebody removed a row file), the row files are right and the checkpoint is not used.
"""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from tipim_jax.bulk.rows import Counts

_FILE = "progress.json"


class Progress(NamedTuple):
    """A process up to its first open shard.

    Attributes:
      shards: how many of its own shards are done before that one.
      counts: of the photos in them.
      base: the own shard that the input iterator began with.
      state: Grain's iterator state at the first photo of the open shard; None before the first one.
    """

    shards: int
    counts: Counts
    base: int
    state: dict[str, Any] | None


def folder(workdir: str, process: int, processes: int) -> epath.Path:
    """Where one process of so many keeps its checkpoints, one folder for each."""
    return epath.Path(workdir).resolve() / "progress" / f"{process}-of-{processes}"


def save(folder: epath.Path, progress: Progress) -> None:
    """Saves progress, whole or not at all, and removes what was saved before."""
    name = f"{progress.shards:07d}"
    folder.mkdir(parents=True, exist_ok=True)
    with _checkpointer() as checkpointer:
        checkpointer.save(folder / name, args=_Save(progress), force=True)
    for path in folder.iterdir():
        if path.name != name:  # earlier ones, and what a killed process left half-written
            path.rmtree()


def load(folder: epath.Path) -> Progress | None:
    """The latest progress; None if there is none that can be read."""
    if not folder.exists():
        return None
    names = sorted(path.name for path in folder.iterdir() if path.name.isdigit())
    if not names:
        return None
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(folder / names[-1], args=_Load())
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _Handler(ocp.CheckpointHandler):
    """Progress as JSON, as Grain itself keeps the state of an iterator."""

    def save(self, directory: epath.Path, args: Any) -> None:
        (directory / _FILE).write_text(json.dumps(args.progress))

    def restore(self, directory: epath.Path, args: Any) -> Progress:
        shards, counts, base, state = json.loads((directory / _FILE).read_text())
        return Progress(shards, Counts(*counts), base, state)


@ocp.args.register_with_handler(_Handler, for_save=True)
@dataclasses.dataclass
class _Save(ocp.args.CheckpointArgs):
    progress: Progress


@ocp.args.register_with_handler(_Handler, for_restore=True)
@dataclasses.dataclass
class _Load(ocp.args.CheckpointArgs):
    pass


def _checkpointer() -> ocp.Checkpointer:
    """Orbax without the other processes: whatever happens to them, this one saves and loads.

    The newer API (`orbax.checkpoint.v1`) has every process take part in every save.
    """
    options = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    return ocp.Checkpointer(_Handler(), multiprocessing_options=options)
