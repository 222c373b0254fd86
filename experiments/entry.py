"""How every launch begins, and how bad input ends it."""

import sys
from collections.abc import Callable

from absl import app


def run(main: Callable[[list[str]], None], arguments: bool = False) -> None:
    """`app.run` that tells a `ValueError`, bad input, in one sentence on stderr: exit code 2, no traceback.

    Args:
      main: takes the command line without its flags.
      arguments: whether anything but flags is allowed there.
    """

    def told(argv: list[str]) -> int | None:
        try:
            if len(argv) > 1 and not arguments:
                raise ValueError(f"unexpected argument {argv[1]!r}; flags begin with --")
            main(argv)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return None

    app.run(told)
