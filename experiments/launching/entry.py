"""How every launch begins, and how bad input ends it."""

import sys
from collections.abc import Callable, Sequence

from absl import app

from tipim_jax.errors import UserError


def run(main: Callable[[list[str]], None], arguments: bool = False) -> None:
    """`app.run` that tells a `UserError` in one sentence on stderr: exit code 2, no traceback.

    Every other exception is a fault of the program and keeps its traceback.

    Args:
      main: takes the command line without its flags.
      arguments: whether anything but flags is allowed there.
    """

    def told(argv: list[str]) -> int | None:
        try:
            if len(argv) > 1 and not arguments:
                raise UserError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main(argv)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return None

    app.run(told)


def numbers(flag: str, texts: Sequence[str]) -> list[int]:
    """The numbers of a flag that lists some.

    Raises:
      UserError: one is none, or less than 1.
    """
    for text in texts:
        if not text.isdecimal() or int(text) < 1:
            raise UserError(f"--{flag}: {text!r} is no number of 1 or more")
    return [int(text) for text in texts]
