"""Members of a zip archive, of which none unpacks to more than it says and all that is said is counted."""

import contextlib
import os
import zipfile
from collections.abc import Iterator

from ports.readers.limits import Allowance

_UNPACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take memory as their headers say


class Members:
    """The members of an open archive."""

    def __init__(self, archive: zipfile.ZipFile, size: int, allowance: Allowance):
        self._archive, self._size, self._allowance = archive, size, allowance
        self.names = archive.namelist()

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
          ValueError: it is packed in a way that weights never are, or is too large.
          KeyError: there is no such member.
        """
        about = self._archive.getinfo(name)
        if about.compress_type not in _UNPACKED:
            raise ValueError(f"{name} is neither stored nor deflated")
        if about.compress_size > self._size:  # as much would be allocated before it is read
            raise ValueError(f"{name} is cut short")
        self._allowance.take(about.file_size)
        return self._archive.read(about)


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], allowance: Allowance) -> Iterator[Members]:
    """The members of the archive at `path`."""
    with zipfile.ZipFile(path) as archive:
        yield Members(archive, os.path.getsize(path), allowance)
