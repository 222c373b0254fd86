"""Protects photos by the million: sharded over devices and processes, resumable, each exactly once.

    python -m experiments.bulk_protect --input=PHOTOS --out=PROTECTED --workdir=STATE

`--input` is a folder tree, a manifest (.parquet or .csv with a column `photo`, paths below --input_root),
ArrayRecord files of encoded photos (a comma-separated list or a pattern ending in `.array_record`), or
`tfds:FOLDER[#SPLIT]`, a prepared data set. The same command again goes on where the last one ended, with
any number of processes. docs/bulk.md says what is guaranteed and how to launch it on many hosts. --quick
protects the demo photos.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags, logging

from experiments import entry
from ports import yunet, zoo
from tipim_jax.bulk import (
    cluster,
    pipeline,
    progress,
    record,
    rows,
    sinks,
    sources,
    storage,
    summary,
    telemetry,
)
from tipim_jax.bulk.ledger import Results
from tipim_jax.bulk.pipeline import Threads, Worker
from tipim_jax.bulk.shards import Assignment, Shards, find_committed
from tipim_jax.bulk.sources import Source
from tipim_jax.bulk.storage import Folder
from tipim_jax.photos import compilation, demo, engine, presets, targets, verify
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.formats import check_quality
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.protect import Models, versions

_INPUT = flags.DEFINE_string("input", None, "Folder, manifest, *.array_record or tfds:FOLDER.")
_INPUT_ROOT = flags.DEFINE_string("input_root", "", "Folder that a manifest's paths are below.")
_OUT = flags.DEFINE_string("out", None, "Where photos, rows and the job's record go.")
_SINK = flags.DEFINE_enum("sink", "folder", ["folder", "array_record"], "Kind of output.")
_WORKDIR = flags.DEFINE_string("workdir", "results/bulk", "Checkpoints and metrics; shared.")
_SHARD_SIZE = flags.DEFINE_integer("shard_size", 64, "Photos published together.")
_STRENGTH = flags.DEFINE_enum("strength", "medium", list(presets.PRESETS), "Preset.")
_GOAL = flags.DEFINE_enum(
    "goal", None, presets.GOALS, "become where --targets are given, else hide."
)
_EPSILON = flags.DEFINE_float("epsilon", None, "Hard cap on the change of any pixel.")
_STEPS = flags.DEFINE_integer("steps", None, "Iterations; of the preset by default.")
_GAMMA = flags.DEFINE_float("gamma", 0.0, "Batch MMD; masks then depend on their batch.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Faces of a device; as many as pay and fit.")
_PRECISION = flags.DEFINE_enum("precision", None, presets.PRECISIONS, "Of the surrogates.")
_SHARD_PARAMS = flags.DEFINE_bool("shard_params", False, "Devices share surrogates, not copy them.")
_SURROGATES = flags.DEFINE_list("surrogates", list(zoo.SURROGATES), "Recognisers to attack.")
_TARGETS = flags.DEFINE_string("targets", None, "An .npz of `tipim make-targets`; built in.")
_FORMAT = flags.DEFINE_string("format", None, "Of outputs; each photo's own by default.")
_QUALITY = flags.DEFINE_integer("quality", 95, "Of lossy formats.")
_KEEP_METADATA = flags.DEFINE_bool("keep_metadata", False, "Keep EXIF, XMP and comments.")
_ERROR_BUDGET = flags.DEFINE_float("error_budget", 0.1, "Share of photos that may be lost.")
_READ_THREADS = flags.DEFINE_integer("read_threads", 2, "Threads that read and detect.")
_FINISH_THREADS = flags.DEFINE_integer("finish_threads", 2, "Threads that encode and judge.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Join the processes of the cluster.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "host:port of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "By default of the cluster.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "By default of the cluster.")
_REPORT_SECONDS = flags.DEFINE_float("report_seconds", 30.0, "Between lines and checkpoints.")
_GRACE_SECONDS = flags.DEFINE_float("grace_seconds", 25.0, "From SIGTERM to the end.")
_TENSORBOARD = flags.DEFINE_bool("tensorboard", False, "Figures for TensorBoard too.")
_PRICE = flags.DEFINE_float("price_per_hour", 0.0, "Of one host, in any currency.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")


class Ask(NamedTuple):
    """What is protected, how, and where it goes."""

    input: str
    input_root: str
    out: Folder
    workdir: str
    sink: str
    shard_size: int
    settings: Settings
    surrogates: list[str]
    targets: str | None
    encoding: Encoding


def asked() -> Ask:
    """The flags.

    Raises:
      ValueError: one sentence about the first that makes no sense.
    """
    workdir, encoding = _WORKDIR.value, Encoding(_FORMAT.value, check_quality(_QUALITY.value))
    if _QUICK.value:
        settings = presets.PRESETS["low"]._replace(steps=2, batch_size=2)
        out = storage.folder_at(Path(workdir).absolute() / "out")
        folder = str(demo.demo_photos()[0].parent)
        return Ask(folder, "", out, workdir, "folder", 2, settings, ["sface"], None, encoding)
    if not _INPUT.value or not _OUT.value:
        raise ValueError("--input and --out are needed; or try --quick")
    settings = presets.PRESETS[_STRENGTH.value]
    if _EPSILON.value is not None:
        settings = settings._replace(epsilon=_EPSILON.value)
    settings = settings._replace(
        goal=_GOAL.value or ("become" if _TARGETS.value else "hide"),
        steps=_STEPS.value or settings.steps,
        gamma=_GAMMA.value,
        seed=_SEED.value,
        batch_size=_BATCH_SIZE.value,
        precision=_PRECISION.value,
    )
    if _SHARD_SIZE.value < 1:
        raise ValueError(f"shard_size is {_SHARD_SIZE.value}; give at least 1")
    return Ask(
        _INPUT.value,
        _INPUT_ROOT.value,
        storage.folder_at(_OUT.value),
        workdir,
        _SINK.value,
        _SHARD_SIZE.value,
        presets.check(settings),
        _SURROGATES.value,
        _TARGETS.value,
        encoding._replace(keep_metadata=_KEEP_METADATA.value),
    )


def config(ask: Ask) -> dict[str, Any]:
    """What decides the bytes, for the job's record."""
    goals = _goals(ask)
    return {
        **ask._asdict(),
        "out": None,
        "workdir": None,
        "settings": ask.settings._asdict(),
        "encoding": ask.encoding._asdict(),
        "targets": list(record.fingerprints(["targets"], [goals.embeddings]).values()),
        "device": jax.local_devices()[0].device_kind,
        # where it decides how many faces fit
        "memory": None
        if ask.settings.batch_size
        else compilation.device_memory(jax.local_devices()[0]),
        "versions": versions(),
    }


def freeze(ask: Ask) -> None:
    """Process 0 at the start: the job's record and the list of its photos, and no leftovers."""
    record.write(ask.out, config(ask))
    storage.clear_staging(ask.out)
    if _records(ask) is None and not storage.exists(ask.out, sources.LIST):
        sources.freeze(ask.out, _paths(ask), ask.encoding.format)


def _records(ask: Ask) -> Source | None:
    """The photos, where they are records and no files."""
    if ask.input.startswith("tfds:"):
        folder, _, split = ask.input.removeprefix("tfds:").partition("#")
        return sources.open_data_set(folder, split)
    if ask.input.endswith(".array_record"):
        return sources.open_array_records(sources.match_files(ask.input))
    return None


def _paths(ask: Ask) -> list[str]:
    if ask.input.endswith((".parquet", ".csv")):
        folder, _, name = ask.input.rpartition("/")
        return sources.read_manifest(storage.read(storage.folder_at(folder or "."), name), name)
    return sources.list_photos(storage.folder_at(ask.input))


def source(ask: Ask) -> Source:
    """The photos of the job as it was frozen."""
    manifest = ask.input.endswith((".parquet", ".csv"))
    folder = ask.input_root if manifest else ask.input
    return _records(ask) or sources.open_list(ask.out, storage.folder_at(folder or "."))


def _goals(ask: Ask) -> targets.Targets:
    return targets.built_in() if ask.targets is None else targets.load(Path(ask.targets))


def load(ask: Ask) -> Models:
    """Everything that is loaded and compiled once; all devices of this process attack."""
    # Detection is host work: the accelerators have better things to do.
    detector = jax.device_put(yunet.load(), jax.local_devices(backend="cpu")[0])
    made = engine.build(
        *(ask.surrogates, _goals(ask), ask.settings, jax.local_devices()),
        shard_params=_SHARD_PARAMS.value,
    )
    judges = [verify.load(name) for name in ask.surrogates]
    return Models(partial(find_faces.find, detector), made, judges)


def worker(ask: Ask, made: Models, photos: Source, assignment: Assignment) -> Worker:
    """The part of this process."""
    used = made.engine
    results = Results(
        assignment=assignment,
        out=ask.out,
        sink=(sinks.to_folder if ask.sink == "folder" else sinks.to_array_records)(ask.out),
        constants=rows.Constants(
            ask.settings.epsilon,
            ask.settings.seed,
            record.fingerprints(used.surrogates, used.params),
        ),
        checkpoints=progress.folder(ask.workdir, assignment.process, assignment.processes),
    )
    return Worker(
        models=made,
        source=photos,
        results=results,
        encoding=ask.encoding,
        error_budget=_ERROR_BUDGET.value,
        checkpoint_seconds=_REPORT_SECONDS.value,
        threads=Threads(
            read=_READ_THREADS.value,
            ahead=2 * used.capacity,
            finish=_FINISH_THREADS.value,
            in_flight=4 * used.capacity,
        ),
        quarantined=partial(summary.log_quarantined, quarantine_file(ask, assignment)),
    )


def quarantine_file(ask: Ask, assignment: Assignment) -> Path:
    return summary.quarantine_file(ask.workdir, assignment.process, assignment.processes)


def stopping(grace: float) -> threading.Event:
    """An event that SIGTERM and SIGINT set; `grace` seconds later the process ends in any case.

    That is safe: what is not published by then is done anew.
    """
    stop = threading.Event()

    def end(*_: Any) -> None:
        stop.set()
        deadline = threading.Timer(grace, os._exit, [0])
        deadline.daemon = True
        deadline.start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return stop


def reporter(path: Path, tensorboard: bool) -> Callable[[telemetry.Meter], None]:
    """Prints a line and adds a JSON line, and TensorBoard scalars beside it if they are wanted.

    Raises:
      ValueError: the extra `tensorboard` is not installed.
    """
    scalars = telemetry.scalar_writer(path.with_suffix("")) if tensorboard else None

    def report(meter: telemetry.Meter) -> None:
        figures = meter.figures()
        telemetry.append_figures(path, figures)
        if scalars is not None:
            scalars(meter.before.photos + int(figures["photos"]), figures)
        print(telemetry.format_line(figures), flush=True)

    return report


def told(ask: Ask, meter: telemetry.Meter, assignment: Assignment) -> None:
    """Prints the pace and the price of this process; if the job is done, its summary."""
    here = telemetry.metrics_file(ask.workdir, assignment.process, assignment.processes)
    every = [
        telemetry.metrics_file(ask.workdir, i, assignment.processes)
        for i in range(assignment.processes)
    ]
    own = telemetry.combine_runs([here], _PRICE.value)
    total = summary.write_summary(
        ask.out, assignment.shards, telemetry.combine_runs(every, _PRICE.value)
    )
    if total is not None:
        print(
            f"All {total.photos} photos of the job: {total.protected} protected, "
            f"{total.no_face} without a face, {total.quarantined} quarantined."
        )
    done = meter.before + meter.counts
    state = "done" if done.photos == meter.photos else "stopped; the same command goes on"
    print(
        f"{done.protected} of {meter.photos} photos protected, {state}; "
        f"{own['photos_per_second']:.2f} photos/s, "
        f"{own['cost_per_million_photos']:.0f} per million photos"
    )


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX narrate every save otherwise
    stop = stopping(_GRACE_SECONDS.value)
    try:
        ask = asked()
        here = cluster.agree_on_job(
            partial(freeze, ask),
            lambda: record.check(ask.out, config(ask)),
            coordinator=_COORDINATOR.value,
            processes=_NUM_PROCESSES.value,
            process=_PROCESS_ID.value,
            join=_DISTRIBUTED.value or _COORDINATOR.value is not None,
        )
        photos = source(ask)
        assignment = Assignment(Shards(photos.photos, ask.shard_size), *here)
        report = reporter(telemetry.metrics_file(ask.workdir, *here), _TENSORBOARD.value)
        if find_committed(ask.out, assignment.shards)[np.asarray(assignment.own, int)].all():
            summary.write_summary(
                ask.out, assignment.shards, {}
            )  # a killed process may have left that to do
            print("Every photo of this process is done already.")
            return
        meter = pipeline.run(worker(ask, load(ask), photos, assignment), stop, report)
    except pipeline.BudgetExceeded as error:
        reasons = quarantine_file(ask, assignment)
        print(f"error: {error}; {reasons} has the reasons", file=sys.stderr)
        sys.exit(1)
    told(ask, meter, assignment)


if __name__ == "__main__":
    entry.run(main)
