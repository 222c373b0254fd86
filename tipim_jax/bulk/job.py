"""A job from its options: what decides its results, its frozen list, its models, and the part of a process."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ports import zoo
from ports.networks import yunet
from tipim_jax.bulk import progress, record, rows, sinks, sources, storage, summary, telemetry
from tipim_jax.bulk.ledger import Results
from tipim_jax.bulk.pipeline import Threads, Worker
from tipim_jax.bulk.shards import Assignment
from tipim_jax.bulk.sources import Source
from tipim_jax.bulk.storage import Folder
from tipim_jax.errors import UserError
from tipim_jax.photos import compilation, protect, targets
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.formats import format_named
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.protect import Models, versions

SINKS: dict[str, Callable[[Folder], sinks.Sink]] = {
    "folder": sinks.to_folder,
    "array_record": sinks.to_array_records,
}


class BulkOptions(NamedTuple):
    """What a job protects, how, and where it goes.

    Attributes:
      input: a folder, a manifest, ArrayRecord files or `tfds:FOLDER#SPLIT` (docs/bulk.md).
      out: the output folder.
      workdir: for checkpoints, metrics and the list of quarantined photos of a process.
      settings: of the masks.
      surrogates: recognisers that masks are made on.
      judges: recognisers that judge the saved files.
      encoding: of the saved files.
      input_root: the folder that the paths of a manifest are below.
      sink: how photos are saved, one of `SINKS`.
      shard_size: photos published together.
      targets: an .npz of `tipim make-targets`; the built-in ones by default.
    """

    input: str
    out: Folder
    workdir: str
    settings: Settings
    surrogates: list[str]
    judges: list[str]
    encoding: Encoding
    input_root: str = ""
    sink: str = "folder"
    shard_size: int = 64
    targets: str | None = None


class RunOptions(NamedTuple):
    """How a process works on a job; nothing of it has a say in the results.

    Attributes:
      error_budget: share of its photos that may be quarantined.
      report_seconds: between two lines of figures, and two checkpoints.
      read_threads: that read, decode and detect.
      finish_threads: that paste, encode, judge and publish.
      shard_params: devices hold shares of the surrogates instead of copies.
    """

    error_budget: float = 0.1
    report_seconds: float = 30.0
    read_threads: int = 2
    finish_threads: int = 2
    shard_params: bool = False


def check_options(options: BulkOptions, run: RunOptions) -> None:
    """Makes sure that a job can be done as the options say.

    Raises:
      UserError: one sentence about the first that cannot.
    """
    if options.shard_size < 1:
        raise UserError(f"shard_size is {options.shard_size}; give at least 1")
    if not 0 <= run.error_budget <= 1:
        raise UserError(f"error_budget is {run.error_budget:g}; give a share from 0 to 1")
    for name in ("read_threads", "finish_threads"):
        if getattr(run, name) < 1:
            raise UserError(f"{name} is {getattr(run, name)}; give at least 1")
    if options.targets is not None and not Path(options.targets).is_file():
        raise UserError(
            f"{options.targets} is no file; bulk takes targets that `tipim make-targets` has saved"
        )
    if options.encoding.format is not None:
        format_named(options.encoding.format)
    for name in options.surrogates:
        zoo.find(name)
    for name in options.judges:
        _threshold(name)
    _check_places(options)


def _threshold(name: str) -> float:
    """What a judge says "same person" above."""
    zoo.find(name)
    measured = zoo.thresholds(name)
    if measured is None:
        raise UserError(
            f"{name} has no threshold yet and cannot judge; measure it with "
            f"`tipim models calibrate DIR --models={name}`"
        )
    return measured["far_1e-3"]


def _check_places(options: BulkOptions) -> None:
    """Makes sure that no photo is overwritten, and no output protected again."""
    input = _place(options)
    apart = (
        f"--out {options.out.root} and --input {options.input} must lie apart, or photos would be "
    )
    if input is None:
        files = map(storage.folder_at, sources.match_files(options.input))
        if any(storage.is_within(file, options.out) for file in files):
            raise UserError(f"{apart}mixed with their protected copies; choose another --out")
        return
    if not options.input.startswith("tfds:") and input.fs.isfile(input.root):
        raise UserError(f"{options.input} is a file; give a folder, a list or *.array_record")
    if storage.is_within(input, options.out):
        raise UserError(f"{apart}overwritten; choose another --out")
    if not _is_manifest(options) and storage.is_within(options.out, input):
        raise UserError(f"{apart}protected again by the next job; choose another --out")


def _place(options: BulkOptions) -> Folder | None:
    """The folder of the photos; None for ArrayRecord files."""
    if options.input.startswith("tfds:"):
        return storage.folder_at(_data_set(options)[0])
    if _is_manifest(options):
        return storage.folder_at(options.input_root or ".")
    return None if options.input.endswith(".array_record") else storage.folder_at(options.input)


def _is_manifest(options: BulkOptions) -> bool:
    return options.input.endswith((".parquet", ".csv"))


def _data_set(options: BulkOptions) -> tuple[str, str]:
    """The folder of a data set, and the name of its split."""
    folder, _, split = options.input.removeprefix("tfds:").partition("#")
    return folder, split


def describe(options: BulkOptions) -> dict[str, Any]:
    """What decides the results, for the job's record; JSON values."""
    device = jax.local_devices()[0]
    digests = record.fingerprints(["targets"], [_load_targets(options).embeddings])
    records = options.input.endswith(".array_record")
    return {
        **options._asdict(),
        "out": None,
        "workdir": None,
        "files": sources.match_files(options.input) if records else None,
        "settings": options.settings._asdict(),
        "encoding": options.encoding._asdict(),
        "judges": {name: _threshold(name) for name in options.judges},
        "targets": digests["targets"],
        "device": device.device_kind,
        # where it decides how many faces fit
        "memory": None if options.settings.batch_size else compilation.device_memory(device),
        "versions": versions(),
    }


def freeze(options: BulkOptions) -> None:
    """Writes the job's record and the list of its photos, and removes leftovers; for the first process.

    Raises:
      UserError: the output holds another job, or the input holds no photos that could be done.
    """
    begun = storage.exists(options.out, record.FILE)
    if begun:
        record.check(options.out, describe(options))
    storage.clear_staging(options.out)
    if begun:
        return
    format = options.encoding.format
    if _is_manifest(options):
        sources.freeze(options.out, _read_manifest(options), format)
    elif _open_records(options) is None:
        found = sources.list_folder(storage.folder_at(options.input))
        sources.freeze(options.out, found.photos, format, found.others)
    # Last of all, so that a job whose input is refused has not begun.
    record.write(options.out, describe(options))


def _read_manifest(options: BulkOptions) -> list[str]:
    folder, _, name = options.input.rpartition("/")
    if not storage.exists(here := storage.folder_at(folder or "."), name):
        raise UserError(f"{options.input} does not exist")
    paths = sources.read_manifest(storage.read(here, name), name)
    root = storage.folder_at(options.input_root or ".")
    if storage.is_within(options.out, root):
        below = os.path.relpath(storage.real_path(options.out), storage.real_path(root)) + "/"
        for path in paths:
            if path.startswith(below):
                raise UserError(f"{path} lies in --out; choose another --out, or leave it out")
    return paths


def _open_records(options: BulkOptions) -> Source | None:
    """The photos, where they are records and no files."""
    if options.input.startswith("tfds:"):
        return sources.open_data_set(*_data_set(options))
    if options.input.endswith(".array_record"):
        return sources.open_array_records(sources.match_files(options.input))
    return None


def open_source(options: BulkOptions) -> Source:
    """The photos of a job as it was frozen."""
    folder = options.input_root if _is_manifest(options) else options.input
    return _open_records(options) or sources.open_list(
        options.out, storage.folder_at(folder or ".")
    )


def _load_targets(options: BulkOptions) -> targets.Targets:
    return targets.built_in() if options.targets is None else targets.load(Path(options.targets))


def load_models(options: BulkOptions, *, shard_params: bool = False) -> Models:
    """Loads and compiles everything; all devices of this process attack.

    Raises:
      UserError: a surrogate or judge is unknown or absent, or nothing fits the devices.
    """
    # Detection is host work: the accelerators have better things to do.
    detector = jax.device_put(yunet.load(), jax.local_devices(backend="cpu")[0])
    return protect.load_models(
        options.surrogates,
        _load_targets(options),
        options.settings,
        judges=options.judges,
        detector=detector,
        devices=jax.local_devices(),
        shard_params=shard_params,
    )


def make_results(options: BulkOptions, models: Models, assignment: Assignment) -> Results:
    """Where the results of a process go, and what is in all its rows."""
    made, judges = models.engine, models.judges
    return Results(
        assignment=assignment,
        out=options.out,
        sink=SINKS[options.sink](options.out),
        constants=rows.Constants(
            epsilon=made.settings.epsilon,
            seed=made.settings.seed,
            surrogates=record.fingerprints(made.surrogates, made.params),
            judges=record.fingerprints(
                [judge.name for judge in judges], [judge.params for judge in judges]
            ),
            thresholds={judge.name: judge.threshold for judge in judges},
        ),
        checkpoints=progress.folder(options.workdir, assignment.process, assignment.processes),
    )


def make_worker(
    options: BulkOptions,
    run: RunOptions,
    models: Models,
    source: Source,
    assignment: Assignment,
) -> Worker:
    """The part of one process."""
    capacity = models.engine.capacity
    return Worker(
        models=models,
        source=source,
        results=make_results(options, models, assignment),
        encoding=options.encoding,
        error_budget=run.error_budget,
        checkpoint_seconds=run.report_seconds,
        threads=Threads(
            read=run.read_threads,
            ahead=2 * capacity,
            finish=run.finish_threads,
            in_flight=4 * capacity,
        ),
        quarantined=partial(summary.log_quarantined, quarantine_file(options, assignment)),
    )


def quarantine_file(options: BulkOptions, assignment: Assignment) -> Path:
    """The list of the photos that a process has quarantined."""
    return summary.quarantine_file(options.workdir, assignment.process, assignment.processes)


def summarise(
    options: BulkOptions, assignment: Assignment, price_per_hour: float
) -> dict[str, Any]:
    """What the summary of a job holds besides its counts.

    Args:
      options: of the job.
      assignment: of this process; the metrics of all are looked for beside its own.
      price_per_hour: of the machine of one process.
    """
    processes = assignment.processes
    metrics = [telemetry.metrics_file(options.workdir, i, processes) for i in range(processes)]
    return {
        "judges": options.judges,
        "independent_judges": independent_judges(options),
        "other_files": sources.count_others(options.out),
        **telemetry.combine_runs(metrics, price_per_hour),
    }


def independent_judges(options: BulkOptions) -> list[str]:
    """The judges that no mask is made on."""
    return [name for name in options.judges if name not in options.surrogates]


def judges_sentence(options: BulkOptions) -> str:
    """Who has judged, and what that is worth."""
    names = ", ".join(options.judges)
    if not options.judges:
        return "No calibrated recogniser is here to judge the saved files; no face counts as protected."
    if independent_judges(options):
        return f"Judged at FAR 1e-3 on the saved files by {names}; protected: none of them recognises the face."
    return (
        f"Judged only by the recognisers it was made on ({names}), at FAR 1e-3: others may recognise "
        "the faces; `tipim models fetch --all` brings judges that no mask is made on."
    )
