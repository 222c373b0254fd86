"""What a damaged or hostile weight file may cost: one sentence, and no more memory than its size allows."""

import contextlib
import os
import pickle
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tipim_jax.errors import UserError

HEADROOM = 64 * 2**20
# Four bits stored become 32 in an array, and weights never shrink to a sixteenth in an archive.
GROWTH = 16

# What parsers raise for bytes that make no sense to them
_RAISED = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, OSError, MemoryError,
    AssertionError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile, pickle.UnpicklingError,
    SyntaxError, tokenize.TokenError,  # of headers of NumPy
)  # fmt: skip


class Allowance:
    """Counts what is unpacked from a file: arrays, members of archives, and objects of pickles."""

    def __init__(self, path: str | os.PathLike[str], *others: Path):
        """For the file at `path`, together with other files that belong to it."""
        sizes = [Path(file).stat().st_size for file in (path, *others)]
        self.left = HEADROOM + GROWTH * sum(sizes)

    def take(self, size: int) -> None:
        """Takes `size` bytes, before they are allocated.

        Raises:
          ValueError: fewer are left.
        """
        if not 0 <= size <= self.left:
            raise ValueError("it claims to hold far more than a file of its size can")
        self.left -= size


@contextlib.contextmanager
def refused(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turns what a parser raises into one sentence: the file at `path` is `what`, and why.

    Raises:
      UserError: the parser raised, or a `UserError` came through.
    """
    try:
        yield
    except UserError:
        raise
    except _RAISED as error:
        raise UserError(
            f"{path}: {what} ({one_line(str(error) or type(error).__name__)})"
        ) from error


def one_line(text: str) -> str:
    """The text in one line, cut where it becomes too long to read."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:300] + "…"
