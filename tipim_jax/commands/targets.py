"""`tipim make-targets`: blend virtual identities from a folder of faces."""

import argparse
from pathlib import Path

from ports.networks import yunet
from tipim_jax.commands import Commands
from tipim_jax.commands.options import names
from tipim_jax.commands.progress import say, show
from tipim_jax.errors import UserError
from tipim_jax.photos import targets, verify
from tipim_jax.photos.table import aligned


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    make = commands.add_parser(
        "make-targets", help="blend people who do not exist from photos, to become"
    )
    make.add_argument("folder", metavar="DIR", help="photos of many people, one folder a person")
    make.add_argument("--out", required=True, metavar="FILE.npz")
    make.add_argument("--count", type=int, default=targets.COUNT, help="virtual identities (10)")
    make.add_argument("--blend", type=int, default=targets.BLEND, help="people in each (5)")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--models", metavar="NAME,…", help="recognisers to embed with (all here)")
    make.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Makes the targets, prints how close they are to people and returns 0."""
    folder, out = Path(options.folder), Path(options.out)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of photos")
    if out.exists():
        raise UserError(f"{out} exists already; choose another name")
    judges = verify.verifiers(names(options.models) or None)
    made = targets.make(
        folder, yunet.load(), judges, count=options.count, blend=options.blend, seed=options.seed
    )
    targets.save(made, out)
    rows = [("recogniser", "mean cosine", "largest cosine", "threshold")]
    for judge in judges:
        mean, largest = targets.likeness(made.embeddings[judge.name])
        rows.append((judge.name, f"{mean:.3f}", f"{largest:.3f}", f"{judge.threshold:.3f}"))
    show("\n".join(aligned(rows, right=(1, 2, 3))))
    show(f"wrote {len(made.names)} virtual identities to {out}")
    if warning := targets.warning(made):
        say(warning)
    return 0
