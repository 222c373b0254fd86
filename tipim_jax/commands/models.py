"""`tipim models`: list the recognisers, fetch one, add one's own, or measure their thresholds."""

import argparse
from pathlib import Path

from tqdm import tqdm

from ports import fetch, published, register, zoo
from ports.networks import yunet
from tipim_jax.commands import Commands
from tipim_jax.commands.options import names
from tipim_jax.commands.progress import say, show
from tipim_jax.errors import UserError
from tipim_jax.photos import calibration, verify
from tipim_jax.photos.table import aligned

DONE, PARTLY, FAILED = 0, 1, 2  # exit codes


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    models = commands.add_parser("models", help="list the recognisers, or fetch more of them")
    models.set_defaults(run=_list)
    actions = models.add_subparsers(metavar="ACTION")
    get = actions.add_parser("fetch", help="download a recogniser by its package name, or all")
    which = get.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME")
    which.add_argument("--all", action="store_true", help="every one that is not here yet")
    get.set_defaults(run=_fetch)

    elsewhere = actions.add_parser("published", help="list where checkpoints are published")
    elsewhere.set_defaults(run=_published)

    own = actions.add_parser("add", help="convert your own checkpoint and register it")
    own.add_argument("checkpoint", metavar="FILE")
    own.add_argument("--name", help="what it is called from now on; the file's stem by default")
    own.add_argument("--arch", default="auto", help="its network; recognised by default")
    own.add_argument("--licence", help="of the weights, in your words")
    own.set_defaults(run=_add)

    measure = actions.add_parser(
        "calibrate",
        help="measure the thresholds of recognisers on photos of people",
        description="Measures above which cosine a recogniser says of two faces that they are the same person, "
        "and keeps it for all commands.",
    )
    measure.add_argument("folder", metavar="DIR", help="photos of many people, one folder a person")
    measure.add_argument("--models", metavar="NAME,…", help="recognisers to measure (all here)")
    measure.add_argument("--seed", type=int, default=0, help="of the pairs of strangers (0)")
    measure.set_defaults(run=_calibrate)


def _list(options: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]] = [
        ("name", "network", "accuracy", "FAR 1e-2", "FAR 1e-3", "licence", "origin", "here")
    ]
    for card in zoo.available():
        c = zoo.thresholds(card.name)
        figures = [f"{c[k]:.3f}" for k in ("accuracy", "far_1e-2", "far_1e-3")] if c else ["–"] * 3
        here = "no: " + card.missing if card.missing else "yes"
        rows.append((card.name, card.architecture, *figures, card.licence, zoo.origin(card), here))
    show("\n".join(aligned(rows, right=(2, 3, 4))))
    return DONE


def _published(options: argparse.Namespace) -> int:
    show("\n".join(aligned(published.rows())))
    show("Fetch a file from its project, under its licence, then run `tipim models add FILE`.")
    return DONE


def _fetch(options: argparse.Namespace) -> int:
    if not options.all:
        for path in fetch.fetch(options.name):
            show(f"wrote {path}")
        return DONE
    failed = []
    for name, paths, problem in fetch.fetch_all():
        for path in paths:
            show(f"wrote {path}")
        if problem:
            say(problem)
        elif not paths:
            show(f"{name} is here already")
        failed.append(bool(problem))
    return DONE if not any(failed) else FAILED if all(failed) else PARTLY


def _add(options: argparse.Namespace) -> int:
    checkpoint = Path(options.checkpoint)
    name = options.name or checkpoint.stem
    done = register.register(checkpoint, name, arch=options.arch, licence=options.licence)
    show(register.described(done))
    show(f"Measure its threshold next: tipim models calibrate DIR --models={name}")
    return DONE


def _calibrate(options: argparse.Namespace) -> int:
    folder = Path(options.folder)
    if options.seed < 0:
        raise UserError(f"--seed must be 0 or more, not {options.seed}")
    here = [card.name for card in zoo.available() if not card.missing]
    chosen = names(options.models) or here
    if not chosen:
        raise UserError("no recogniser can be loaded here; see `tipim models`")
    verifiers = [verify.load(name) for name in chosen]
    with tqdm(unit="photo", desc="photos", disable=None) as bar:

        def each(done: int, photos: int) -> None:
            bar.total = photos
            bar.update()

        measured = calibration.calibrate(
            folder, yunet.load(), verifiers, seed=options.seed, each=each
        )
    if measured.skipped:
        path, why = measured.skipped[0]
        say(f"photos without a face: {len(measured.skipped)}, {path} first ({why})")
    if measured.pairs < calibration.FEWEST:
        say(
            f"{measured.pairs} pairs of strangers are too few for a false accept rate of 1e-3; the threshold "
            "is the largest cosine among them"
        )
    rows: list[tuple[str, ...]] = [
        ("name", "accuracy", "AUC", "FAR 1e-2", "TAR", "FAR 1e-3", "TAR", "written to")
    ]
    columns = ("accuracy", "auc", "far_1e-2", "tar_1e-2", "far_1e-3", "tar_1e-3")
    for name, figures in measured.figures.items():
        path = calibration.install(name, figures)
        rows.append((name, *(f"{figures[column]:.4f}" for column in columns), str(path)))
    show("\n".join(aligned(rows, right=(1, 2, 3, 4, 5, 6))))
    show(f"{measured.pairs} pairs of one person's photos, as many of strangers")
    return DONE
