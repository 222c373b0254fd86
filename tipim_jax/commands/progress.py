"""What commands print: results on stdout, everything else on stderr."""

import contextlib
import os
import sys

from tipim_jax.errors import printable


def show(text: str) -> None:
    """Prints results, unless nobody reads them any more (`tipim models | head -1`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close()


def close() -> None:
    """Writes out what is buffered for stdout; if its reader has gone, that and the rest go nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain then.
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def say(message: str) -> None:
    """Prints one line about what went wrong, or what should be known."""
    print(f"tipim: {printable(message)}", file=sys.stderr)
