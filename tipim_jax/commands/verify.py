"""`tipim verify A B`: do two photos show the same person?"""

import argparse
from collections.abc import Sequence

from tipim_jax.commands import Commands
from tipim_jax.commands.progress import show
from tipim_jax.photos.faces import SMALLEST
from tipim_jax.photos.table import aligned
from tipim_jax.photos.verify import Pair, Verification, verify

SAME, DIFFERENT = 0, 1  # exit codes; 2 for what cannot be compared
LISTED = 10  # further pairs, at least; those somebody takes for one person are all listed


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    parser = commands.add_parser(
        "verify",
        help="compare the faces of two photos",
        description="Compares every face of one photo with every face of another. More than half of the "
        "recognisers decide. Exit code 0: the photos have a person in common; 1: they have not; 2: they "
        "cannot be compared.",
    )
    parser.add_argument("a", metavar="A")
    parser.add_argument("b", metavar="B")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the comparison and returns its exit code."""
    compared = verify(options.a, options.b)
    show(described(compared))
    return SAME if compared.same else DIFFERENT


def described(compared: Verification) -> str:
    """The comparison in plain text: the best pair in full, the others in short, and the verdict."""
    best, *others = compared.pairs
    lines = [f"{_names(best)}{', the closest pair' if others else ''}:", *_in_full(best)]
    if others:
        lines += ["", *_in_short(others)]
    small = [
        f"{photo} {one}"
        for photo, faces in (("A", compared.a), ("B", compared.b))
        for one in faces
        if one.face.small
    ]
    if small:
        lines += ["", f"Left out, smaller than {SMALLEST} pixels: {', '.join(small)}."]
    return "\n".join([*lines, "", _verdict(compared)])


def _names(pair: Pair) -> str:
    return f"A {pair.a} and B {pair.b}"


def _in_full(pair: Pair) -> list[str]:
    rows = [("recogniser", "cosine", "threshold", "verdict")]
    for name, opinion in pair.opinions.items():
        verdict = "same person" if opinion.same else "different people"
        rows.append((name, f"{opinion.cosine:.3f}", f"{opinion.threshold:.3f}", verdict))
    return aligned(rows, right=(1, 2))


def _in_short(pairs: Sequence[Pair]) -> list[str]:
    recognisers = list(pairs[0].opinions)
    voted = sum(pair.votes > 0 for pair in pairs)
    listed = pairs[: max(LISTED, voted)]
    rows = [("A", "B", *recognisers, "same person")]
    for pair in listed:
        cosines = [f"{opinion.cosine:.3f}" for opinion in pair.opinions.values()]
        rows.append((str(pair.a), str(pair.b), *cosines, f"{pair.votes} of {len(cosines)}"))
    lines = aligned(rows, right=range(2, 2 + len(recognisers)))
    if rest := len(pairs) - len(listed):
        lines.append(f"and {rest} further {_plural(rest, 'pair')}, different people to every one.")
    return lines


def _verdict(compared: Verification) -> str:
    best = compared.pairs[0]
    count = len(best.opinions)
    say = f"{best.votes} of {count} {_plural(count, 'recogniser')}"
    if not compared.same:
        if not best.votes:
            return f"Different people to {'all ' if count > 1 else ''}{count} {_plural(count, 'recogniser')}."
        return f"Different people: {say} would pair {_names(best)}, and it takes more than half."
    more = sum(pair.same for pair in compared.pairs) - 1
    also = f"; {more} further {_plural(more, 'pair')} too" if more else ""
    return f"Same person to {say}: {_names(best)}{also}."


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"
