"""`tipim bulk`: photos by the million, sharded over devices and processes, resumable, each exactly once.

    tipim bulk --input=PHOTOS --out=PROTECTED --workdir=STATE

docs/bulk.md says what is guaranteed and how to launch it on many hosts.
"""

import argparse
import logging
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tipim_jax.commands import options as shared
from tipim_jax.commands.progress import say, show
from tipim_jax.errors import UserError
from tipim_jax.photos import demo, presets, verify
from tipim_jax.photos.files import unwritten

if TYPE_CHECKING:
    from tipim_jax.bulk.job import BulkOptions, RunOptions
    from tipim_jax.bulk.shards import Assignment
    from tipim_jax.bulk.telemetry import Meter

DONE, OVER_BUDGET = 0, 1  # exit codes; of users' errors it is 2, as of every command
PACKAGES = ("array_record", "fsspec", "grain", "pyarrow")  # of the extra


def add(commands: Any) -> None:
    """Adds the command to the parsers of `tipim`."""
    parser = commands.add_parser("bulk", help="protect photos by the million, on many machines")
    add = parser.add_argument
    add("--input", metavar="PHOTOS", help="folder, list.parquet, list.csv, *.array_record, tfds:…")
    add("--out", metavar="DIR_OR_URL", help="where photos, rows and the job's record go")
    add("--workdir", default="bulk", metavar="DIR", help="checkpoints, metrics, quarantine (bulk)")
    add("--input_root", default="", metavar="DIR", help="folder that a list's paths are below")
    add("--sink", choices=("folder", "array_record"), default="folder", help="kind of output")
    add("--shard_size", type=int, default=64, help="photos published together (64)")
    shared.add(parser)
    add("--judges", metavar="NAME,…", help="recognisers that judge saved files (all here)")
    add("--shard_params", action="store_true", help="devices share surrogates, not copy them")
    add("--error_budget", type=float, default=0.1, help="share of photos that may be lost (0.1)")
    add("--read_threads", type=int, default=2, help="threads that read and detect (2)")
    add("--finish_threads", type=int, default=2, help="threads that encode and judge (2)")
    add("--distributed", action="store_true", help="join the processes of the cluster")
    add("--coordinator_address", metavar="HOST:PORT", help="of process 0")
    add("--num_processes", type=int, help="by default of the cluster")
    add("--process_id", type=int, help="by default of the cluster")
    add("--report_seconds", type=float, default=30.0, help="between lines and checkpoints (30)")
    add("--grace_seconds", type=float, default=25.0, help="from SIGTERM to the end (25)")
    add("--tensorboard", action="store_true", help="figures for TensorBoard too")
    add("--price_per_hour", type=float, default=0.0, help="of one host, in any currency")
    add("--quick", action="store_true", help="the smallest honest run, on the demo photos")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Protects the photos of a job, as far as they are this process' and not done; the exit code.

    Raises:
      UserError: the options make no sense, results cannot be written, or the extra `bulk` is not installed.
    """
    _check_installed()
    from tipim_jax.bulk import cluster, job, pipeline, record, summary, telemetry
    from tipim_jax.bulk.shards import Assignment, Shards, find_committed

    logging.getLogger("absl").setLevel(logging.WARNING)  # Orbax narrates every save otherwise
    stop = _stop_at_signals(options.grace_seconds)
    bulk, running = parse_options(options)
    job.check_options(bulk, running)
    process = cluster.agree_on_job(
        partial(job.freeze, bulk),
        lambda: record.check(bulk.out, job.describe(bulk)),
        coordinator=options.coordinator_address,
        processes=options.num_processes,
        process=options.process_id,
        join=options.distributed or options.coordinator_address is not None,
    )
    source = job.open_source(bulk)
    assignment = Assignment(Shards(source.photos, bulk.shard_size), *process)
    report = make_reporter(
        telemetry.metrics_file(bulk.workdir, *process), tensorboard=options.tensorboard
    )
    if find_committed(bulk.out, assignment.shards)[list(assignment.own)].all():
        # a killed process may have left that to do
        figures = job.summarise(bulk, assignment, options.price_per_hour)
        summary.write_summary(bulk.out, assignment.shards, figures)
        show("Every photo of this process is done already.")
        return DONE
    models = job.load_models(bulk, shard_params=running.shard_params)
    worker = job.make_worker(bulk, running, models, source, assignment)
    try:
        meter = pipeline.run(worker, stop, report)
    except pipeline.BudgetExceeded as error:
        say(f"{error}; {job.quarantine_file(bulk, assignment)} has the reasons")
        return OVER_BUDGET
    except OSError as error:  # of results; those of photos have quarantined them
        raise unwritten(Path(error.filename or bulk.out.root), error) from error
    _print_outcome(bulk, meter, assignment, options.price_per_hour)
    return DONE


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{', '.join(missing)} missing for `tipim bulk`; "
            'run `pip install "tipim-jax[models,bulk]"`'
        )


def parse_options(options: argparse.Namespace) -> "tuple[BulkOptions, RunOptions]":
    """What the options ask for: the job, and how this process works on it.

    Raises:
      UserError: one sentence about the first that makes no sense.
    """
    from tipim_jax.bulk import storage
    from tipim_jax.bulk.job import BulkOptions, RunOptions

    running = RunOptions(
        error_budget=options.error_budget,
        report_seconds=options.report_seconds,
        read_threads=options.read_threads,
        finish_threads=options.finish_threads,
        shard_params=options.shard_params,
    )
    encoding = shared.encoding_from(options)
    if options.quick:
        quick = BulkOptions(
            input=str(demo.demo_photos()[0].parent),
            out=storage.folder_at(Path(options.workdir).absolute() / "out"),
            workdir=options.workdir,
            settings=presets.PRESETS["low"]._replace(steps=2, batch_size=2),
            surrogates=["sface"],
            judges=["sface"],
            encoding=encoding,
            shard_size=2,
        )
        return quick, running
    if not options.input or not options.out:
        raise UserError("--input and --out are needed; or try --quick")
    bulk = BulkOptions(
        input=options.input,
        out=storage.folder_at(options.out),
        workdir=options.workdir,
        settings=shared.settings_from(options),
        surrogates=shared.surrogates_from(options),
        judges=shared.names(options.judges) or verify.calibrated(),
        encoding=encoding,
        input_root=options.input_root,
        sink=options.sink,
        shard_size=options.shard_size,
        targets=options.targets,
    )
    return bulk, running


def _stop_at_signals(grace: float) -> threading.Event:
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


def make_reporter(path: Path, *, tensorboard: bool) -> "Callable[[Meter], None]":
    """Prints a line and adds a JSON line, and TensorBoard scalars beside it if they are wanted.

    Raises:
      UserError: the extra `tensorboard` is not installed.
    """
    from tipim_jax.bulk import telemetry

    scalars = telemetry.scalar_writer(path.with_suffix("")) if tensorboard else None

    def report(meter: "Meter") -> None:
        figures = meter.figures()
        telemetry.append_figures(path, figures)
        if scalars is not None:
            scalars(meter.before.photos + int(figures["photos"]), figures)
        show(telemetry.format_line(figures))

    return report


def _print_outcome(
    options: "BulkOptions", meter: "Meter", assignment: "Assignment", price: float
) -> None:
    """Prints what became of the job, if it is done, and what this process has done."""
    from tipim_jax.bulk import job, sources, summary, telemetry

    own = telemetry.combine_runs(
        [telemetry.metrics_file(options.workdir, assignment.process, assignment.processes)], price
    )
    figures = job.summarise(options, assignment, price)
    total = summary.write_summary(options.out, assignment.shards, figures)
    if total is not None:
        show(f"All {total.photos} photos of the job: {summary.sentence(total)}.")
    if others := figures["other_files"]:
        show(
            f"Not protected, since they are no photos: {others} of the input's files; "
            f"{sources.OTHER_FILES} names them."
        )
    show(job.judges_sentence(options))
    done = meter.before + meter.counts
    state = "done" if done.photos == meter.photos else "stopped; the same command goes on"
    show(
        f"{summary.sentence(done)}, {state}; {own['photos_per_second']:.2f} photos/s, "
        f"{own['cost_per_million_photos']:.0f} per million photos"
    )
