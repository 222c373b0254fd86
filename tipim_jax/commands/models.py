"""`tipim models`: list the recognisers, fetch one, or add one's own."""

import argparse
from pathlib import Path

from ports import fetch, published, register, zoo
from tipim_jax.commands import Commands
from tipim_jax.commands.progress import say, show
from tipim_jax.photos.report import aligned

DONE, PARTLY, FAILED = 0, 1, 2  # exit codes


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    models = commands.add_parser("models", help="list the recognisers, or fetch one")
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
    show(f"Calibrate it next: python -m experiments.calibrate --models={name} --install …")
    return DONE
