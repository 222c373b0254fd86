"""`tipim protect` and `tipim demo`: protect photos and prove it."""

import argparse
import hashlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ports import packages, zoo
from ports.networks import yunet
from tipim_jax.commands import Commands
from tipim_jax.commands import options as shared
from tipim_jax.commands.progress import Phases, how_far, how_far_in_clip, notices_said, show
from tipim_jax.core.types import PyTree
from tipim_jax.photos import compilation, pictures, report, table, verify
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.demo import demo_photos
from tipim_jax.photos.files import DiskFull, alone_in, remove_leftovers
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job, discover, prepare_output, unoccupied
from tipim_jax.photos.journal import Earlier, Journal, stamp
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.protect import Progress, load_models, versions
from tipim_jax.photos.results import REQUIRED, PhotoResult, RunResult, Timings
from tipim_jax.photos.saving import failed, judge_again, protect_photos
from tipim_jax.photos.targets import Targets
from tipim_jax.video import protect as clips

DONE, PARTLY, FAILED, UNPROTECTED = 0, 1, 2, 3
_CODES = """exit codes:
  0    every photo was done, and every face is protected by the judges that --require names
  1    some photos were not done, or the report could not be written
  2    no photo was done, or the command cannot be understood
  3    every photo was done, but some faces are not protected by the judges that --require names
  130  interrupted (143: terminated); the same command goes on where it was

A photo without a face is done, and not saved. Files that are no photos do not count."""


def add(commands: Commands) -> None:
    """Adds the two commands to a parser's commands."""
    protect = commands.add_parser(
        "protect",
        help="protect photos and prove it worked",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    protect.add_argument("photos", nargs="+", metavar="PHOTO_OR_FOLDER")
    _add_own(protect)
    protect.set_defaults(run=lambda options: run(options, options.photos))

    demo = commands.add_parser(
        "demo",
        help="protect the built-in photos",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_own(demo)
    # It shows what can be had; whoever it shows is asked for no more.
    demo.set_defaults(
        run=lambda options: run(options, demo_photos()), pictures=True, require="none"
    )


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="output folder; the inputs' tree is mirrored")
    shared.add(parser)
    add("--largest_only", action="store_true", help="protect the largest face of a photo only")
    add("--pictures", action="store_true", help="write before | after | mask×8 pictures of faces")
    add("--verbose", action="store_true", help="print the figures of every recogniser")
    add("--overwrite", action="store_true", help="redo what is done, replace outputs that exist")
    add(
        "--require",
        choices=REQUIRED,
        default="all",
        help="who must no longer recognise a face for exit code 0: all judges, those seen when the mask was "
        "made, or none (all)",
    )


class _Task(NamedTuple):
    """What is asked for.

    Attributes:
      settings, surrogates, goals, encoding: as the options say.
      detector: parameters of `ports.networks.yunet`.
      asked: how many photos were asked for, those done earlier among them.
      out: the output folder.
      options: as parsed.
    """

    settings: Settings
    surrogates: Sequence[str]
    goals: Targets
    encoding: Encoding
    detector: PyTree
    asked: int
    out: Path
    options: argparse.Namespace


def run(options: argparse.Namespace, photos: Sequence[str | Path]) -> int:
    """Protects the photos, prints and writes the proof and returns the exit code."""
    with Phases() as phases, notices_said(phases.say):
        return _run(options, photos, phases)


def _run(options: argparse.Namespace, photos: Sequence[str | Path], phases: Phases) -> int:
    started = time.perf_counter()
    settings, encoding = shared.settings_from(options), shared.encoding_from(options)
    found = discover(photos, options.out, format=encoding.format)
    results = _told(found.problems, phases)
    if not found.jobs:
        return FAILED
    surrogates, detector = shared.surrogates_from(options), yunet.load()
    settings = compilation.with_precision(settings, compilation.mesh_over(None))
    goals = shared.targets_from(options, detector, surrogates)
    made_with = _made_with(options, settings, surrogates, goals, encoding)
    out = prepare_output(options.out)
    asked = len(found.jobs)
    task = _Task(settings, surrogates, goals, encoding, detector, asked, out, options)
    with alone_in(out):
        remove_leftovers(out)
        journal = Journal(out, made_with, _versions(), surrogates)
        earlier, problems = _earlier(task, journal, found.jobs, phases)
        results += problems
        if not earlier.left and not earlier.done:
            return FAILED
        done, timings, stopped = _do(task, journal, earlier, phases)
        order = {job.source: i for i, job in enumerate(found.jobs)}
        results = sorted([*results, *done], key=lambda result: order.get(result.source, -1))
        run = RunResult(
            photos=tuple(results),
            surrogates=tuple(surrogates),
            settings=settings._asdict(),
            versions=versions(),
            timings=timings._replace(total=time.perf_counter() - started),
            others=tuple(found.others),
            unreached=len(earlier.left) + len(earlier.done) - len(done),
        )
        written = _written(run, task, phases, quick=stopped is not None)
    if isinstance(stopped, KeyboardInterrupt):
        phases.say("what is done is saved and proved; the same command goes on with the rest")
        raise stopped
    return _code(run, options.require, whole=written)


def _earlier(
    task: _Task, journal: Journal, jobs: Sequence[Job], phases: Phases
) -> tuple[Earlier, list[PhotoResult]]:
    """What earlier runs did and what is left, and the results of jobs whose output another file occupies."""
    if task.options.overwrite:
        return Earlier({}, list(jobs), frozenset(), frozenset()), []
    earlier = journal.look_up(jobs)
    fresh = [job for job in earlier.left if job.output not in earlier.replaced]
    results = _told(unoccupied(fresh, task.out)[1], phases)
    taken = {result.source for result in results}
    earlier = earlier._replace(left=[job for job in earlier.left if job.source not in taken])
    if earlier.versions and (earlier.left or earlier.done):
        names = ", ".join(sorted(earlier.versions))
        phases.say(f"what was done earlier was done with another {names}; --overwrite redoes it")
    return earlier, results


def _told(problems: Sequence[tuple[Path, str]], phases: Phases) -> list[PhotoResult]:
    """The results of photos that cannot be begun, each said."""
    results = [PhotoResult(path, error=problem) for path, problem in problems]
    for result in results:
        _tell(result, phases)
    return results


def _do(
    task: _Task, journal: Journal, earlier: Earlier, phases: Phases
) -> tuple[list[PhotoResult], Timings, BaseException | None]:
    """The results of all photos, or of as many as could be done, and what ended the run before."""
    done = [result._replace(earlier=True) for result in earlier.done.values()]
    timings = Timings(0.0, 0.0, 0.0)
    try:
        thresholds = _thresholds()
        stale = [
            i for i, result in enumerate(done) if result.output and _knows_less(result, thresholds)
        ]
        if not earlier.left and not stale:
            return done, timings, None
        phases.begin("loading recognisers")
        models = None
        if earlier.left:
            models = load_models(
                task.surrogates,
                task.goals,
                task.settings,
                own=task.options.targets is not None,
                detector=task.detector,
                photos=task.asked,
                told=phases.begin,
            )
        if stale:
            judges = verify.verifiers() if models is None else models.judges
            # one that cannot be loaded after all says nothing new
            known = {judge.name: judge.threshold for judge in judges}
            stale = [i for i in stale if _knows_less(done[i], known)]
        if stale:
            phases.begin("judging what was done earlier by recognisers that are new")
        find = find_faces.finder(task.detector)
        jobs_done = list(earlier.done)
        for i in stale:
            done[i] = _judged_again(task, journal, jobs_done[i], done[i], find, judges, phases)
        if models is None:
            return done, timings, None
        made = models.engine

        still = [job for job in earlier.left if not job.moves]
        moving = [job for job in earlier.left if job.moves]
        of_photos = 0.0

        def told(progress: Progress) -> None:
            nonlocal timings, of_photos
            of_photos = progress.seconds
            timings = timings._replace(attack=of_photos, compile=made.compile_seconds)
            phases.update(how_far(progress, len(still), phases.seconds))

        def told_of_clip(progress: clips.Progress) -> None:
            nonlocal timings
            attack = of_photos + progress.seconds
            timings = timings._replace(attack=attack, compile=made.compile_seconds)
            phases.update(how_far_in_clip(progress))

        common: dict[str, Any] = {
            "journal": journal,
            "overwrite": task.options.overwrite,
            "replaced": earlier.replaced,
            "largest_only": task.options.largest_only,
        }
        phases.begin("protecting")
        for result in itertools.chain(
            protect_photos(
                models, still, task.out, task.encoding, asked=task.asked, told=told, **common
            ),
            clips.protect_clips(
                models, moving, task.out, task.encoding, told=told_of_clip, **common
            ),
        ):
            done.append(result)
            if result.error:
                _tell(result, phases)
    except DiskFull as error:
        phases.say(str(error))
        return done, timings, error
    except KeyboardInterrupt as stop:
        return done, timings, stop
    return done, timings, None


def _judged_again(
    task: _Task,
    journal: Journal,
    job: Job,
    done: PhotoResult,
    find: find_faces.Find,
    judges: Sequence[verify.Verifier],
    phases: Phases,
) -> PhotoResult:
    """A photo that is done, judged by the recognisers that are here now; as it was if that fails."""
    try:
        largest = task.options.largest_only
        if job.moves:
            anew = clips.judge_again(job, done, find, judges, task.surrogates, largest_only=largest)
        else:
            anew = judge_again(job, done, task.encoding, find, judges, largest_only=largest)
        journal.add(job, stamp(job.source), anew)
    except DiskFull:
        raise
    except Exception as error:
        _tell(failed(job.source, error), phases)
        return done
    return anew


def _thresholds() -> dict[str, float]:
    """The thresholds of the recognisers that will judge, without loading them."""
    measured = {name: zoo.thresholds(name) for name in verify.calibrated()}
    return {name: float(found["far_1e-3"]) for name, found in measured.items() if found}


def _knows_less(result: PhotoResult, thresholds: dict[str, float]) -> bool:
    """Whether a proof lacks a recogniser that is here, or has it with another threshold."""
    return any(
        name not in face.matches or face.matches[name].threshold != threshold
        for face in result.faces
        if not face.skipped
        for name, threshold in thresholds.items()
    )


def _written(run: RunResult, task: _Task, phases: Phases, *, quick: bool) -> bool:
    """Writes the reports, prints the proof, and says whether everything could be written."""
    problem, paths = "", None
    phases.begin("writing the report")
    try:
        paths = report.write_report(run, task.out, quick=quick)
        if task.options.pictures and not quick:
            pictures.write_side_by_side(run, task.out)
    except PhotoError as error:
        problem = str(error)
    phases.end()
    verbose = task.options.verbose
    lines = [table.figures_table(run) if verbose else table.verdict_table(run)]
    lines += [*table.remarks(run), table.summary_line(run)]
    lines += [table.figures_line(run)] if verbose else []
    for line in filter(None, lines):
        show(line)
    if paths is not None:
        show(f"Photos in {task.out}; proof in {paths[0].name} and, with pictures, {paths[1].name}.")
    if problem:
        phases.say(problem)
    return not problem


def _code(run: RunResult, require: str, *, whole: bool) -> int:
    lost = sum(bool(photo.error) for photo in run.photos) + run.unreached
    if lost:
        return FAILED if lost == len(run.photos) + run.unreached else PARTLY
    if not whole:
        return PARTLY
    faces = [face for photo in run.photos for face in photo.faces if not face.skipped]
    return DONE if all(face.satisfies(require, run.surrogates) for face in faces) else UNPROTECTED


def _made_with(
    options: argparse.Namespace,
    settings: Settings,
    surrogates: Sequence[str],
    goals: Targets,
    encoding: Encoding,
) -> dict[str, Any]:
    """What decides the bytes, by the names of the options, versions of packages apart."""
    digest = hashlib.sha256()
    if settings.goal == "become":
        for name in surrogates:
            if name in goals.embeddings:
                digest.update(np.ascontiguousarray(goals.embeddings[name]).tobytes())
    return {
        "strength": options.strength,
        **{name: getattr(settings, name) for name in shared.GIVEN},
        "surrogates": {
            name: hashlib.sha256(zoo.fingerprint(name).encode()).hexdigest() for name in surrogates
        },
        "targets": digest.hexdigest(),
        **encoding._asdict(),
        "largest_only": options.largest_only,
    }


def _versions() -> dict[str, str]:
    device = jax.local_devices()[0]
    return {**versions(), "detector": packages.YUNET.sha256, "device": device.device_kind}


def _tell(result: PhotoResult, phases: Phases) -> None:
    """Says what went wrong with a photo, and which photo that is."""
    name = str(result.source)
    phases.say(result.error if name in result.error else f"{name}: {result.error}")
    if result.fault:
        phases.say_as_is(result.fault)
