"""`tipim protect` and `tipim demo`: protect photos and prove it."""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ports import yunet
from tipim_jax.commands import Commands
from tipim_jax.commands import options as shared
from tipim_jax.commands.progress import say, show
from tipim_jax.photos import engine, report, targets, verify
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.demo import demo_photos
from tipim_jax.photos.folders import discover, prepare_output
from tipim_jax.photos.protect import Models, Progress, versions
from tipim_jax.photos.results import PhotoResult, RunResult, Timings
from tipim_jax.photos.saving import protect_photos

DONE, PARTLY, FAILED = 0, 1, 2  # exit codes: every photo, some photos, none (or a usage error)


def add(commands: Commands) -> None:
    """Adds the two commands to a parser's commands."""
    protect = commands.add_parser("protect", help="protect photos and prove it worked")
    protect.add_argument("photos", nargs="+", metavar="PHOTO_OR_FOLDER")
    _add_own(protect)
    protect.set_defaults(run=lambda options: run(options, options.photos))

    demo = commands.add_parser("demo", help="protect the built-in photos")
    _add_own(demo)
    demo.set_defaults(run=lambda options: run(options, demo_photos()), pictures=True)


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="output folder; the inputs' tree is mirrored")
    shared.add(parser)
    add("--largest_only", action="store_true", help="protect the largest face of a photo only")
    add("--pictures", action="store_true", help="write before | after | mask×8 pictures of faces")
    add("--overwrite", action="store_true", help="replace outputs that exist")


def run(options: argparse.Namespace, photos: Sequence[str | Path]) -> int:
    """Protects the photos, prints and writes the proof and returns the exit code."""
    started = time.perf_counter()
    settings, encoding = shared.settings_from(options), shared.encoding_from(options)
    found = discover(photos, options.out, format=encoding.format, overwrite=options.overwrite)
    results = [PhotoResult(path, error=problem) for path, problem in found.problems]
    for result in results:
        _tell(result)
    if not found.jobs:
        return FAILED
    surrogates = shared.surrogates_from(options)
    detector = yunet.load()
    goals = shared.targets_from(options, detector, surrogates)
    out = prepare_output(options.out)
    with ThreadPoolExecutor(1) as pool:
        build = partial(engine.build, photos=len(found.jobs))
        building = pool.submit(build, surrogates, goals, settings)
        judges = verify.verifiers()
        made = building.result()
    if warning := targets.warning(goals):
        say(warning)
    own = goals if options.targets else None
    loaded = Models(partial(find_faces.find, detector), made, judges, own)

    seconds = 0.0
    with tqdm(total=len(found.jobs), unit="photo", disable=None) as bar:

        def count(progress: Progress) -> None:
            nonlocal seconds
            seconds = progress.seconds

        for result in protect_photos(
            loaded,
            found.jobs,
            out,
            encoding,
            overwrite=options.overwrite,
            largest_only=options.largest_only,
            told=count,
        ):
            results.append(result)
            bar.update()
            if result.error:
                bar.clear()
                _tell(result)
    timings = Timings(time.perf_counter() - started, made.compile_seconds, seconds)
    run = RunResult(tuple(results), tuple(surrogates), made.settings._asdict(), versions(), timings)
    paths = report.write_report(run, out)
    if options.pictures:
        report.write_pictures(run, out)
    if table := report.proof_table(run):
        show(table)
    show(report.summary_line(run))
    show(f"Photos in {out}; proof in {paths[0].name} and, with pictures, {paths[1].name}.")
    failed = sum(bool(result.error) for result in results)
    return DONE if not failed else FAILED if failed == len(results) else PARTLY


def _tell(result: PhotoResult) -> None:
    """Says what went wrong with a photo, and which photo that is."""
    name = str(result.source)
    say(result.error if name in result.error else f"{name}: {result.error}")
    if result.fault:
        print(result.fault, end="", file=sys.stderr)
