"""Folders on a disk, or anywhere that fsspec reaches (`gs://`, `s3://`, …), by one set of calls."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from tipim_jax.photos.files import move_into_place, passed_over, replace_file

STAGING = ".staging"


class Folder(NamedTuple):
    """A folder: the file system, and the folder's path on it without a slash at the end."""

    fs: Any
    root: str

    @property
    def local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def at(self, name: str) -> str:
        """The path of `name`, which is relative to the folder."""
        return f"{self.root}/{name}"


def folder_at(url: str | os.PathLike[str]) -> Folder:
    """The folder at a path or URL; it need not exist."""
    fs, root = fsspec.core.url_to_fs(os.fspath(url))
    return Folder(fs, root.rstrip("/"))


def real_path(folder: Folder) -> str:
    """The folder's path without links."""
    return os.path.realpath(folder.root) if folder.local else folder.root


def is_within(inner: Folder, outer: Folder) -> bool:
    """Whether a folder or file is `outer` itself or lies below it."""
    if inner.fs != outer.fs:
        return False
    path, above = real_path(inner), real_path(outer)
    return path == above or path.startswith(above.rstrip("/") + "/")


def exists(folder: Folder, name: str) -> bool:
    return folder.fs.exists(folder.at(name))


def read(folder: Folder, name: str, largest: int | None = None) -> bytes:
    """The bytes of a file; no more than `largest` + 1 of them.

    Raises:
      OSError: it is missing or cannot be read.
    """
    with folder.fs.open(folder.at(name), "rb") as file:
        return file.read() if largest is None else file.read(largest + 1)


def list_names(folder: Folder, below: str) -> list[str]:
    """The names of the files directly in the subfolder `below`, hidden ones aside; none without it."""
    if not exists(folder, below):
        return []
    found = (path.rstrip("/").rsplit("/", 1)[-1] for path in _listed(folder, below))
    return sorted(name for name in found if not name.startswith("."))


def _listed(folder: Folder, below: str) -> list[str]:
    folder.fs.invalidate_cache()  # other processes write here
    return folder.fs.ls(folder.at(below), detail=False)


def list_files(folder: Folder) -> Iterator[str]:
    """The files of a folder and below it, in no fixed order, but for hidden ones and pictures of ours.

    Names are relative to it.

    Links to folders are not followed, and are files here.

    Raises:
      OSError: a folder is missing or cannot be read.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = folder.at(below) if below else folder.root
        for entry in folder.fs.ls(here, detail=True):
            path = entry["name"].rstrip("/")
            name = path.rsplit("/", 1)[-1]
            if passed_over(name) or path == here:
                continue
            relative = f"{below}/{name}" if below else name
            if entry["type"] == "directory":
                waiting.append(relative)
            else:
                yield relative


def write(folder: Folder, name: str, data: bytes) -> None:
    """Writes a file whole or not at all, over one that exists.

    Raises:
      OSError: it cannot be written.
    """
    if not folder.local:
        folder.fs.pipe_file(folder.at(name), data)  # an object appears when it is complete
        return
    part = staging_folder(folder) / f"{process_token()}-{name.replace('/', '-')}"
    replace_file(Path(folder.at(name)), data, part)


def move_into(folder: Folder, name: str, staged: Path) -> None:
    """Moves a finished local file into the folder, in one go, over one that exists.

    Raises:
      OSError: it cannot be moved.
    """
    if not folder.local:
        folder.fs.put_file(str(staged), folder.at(name))
        staged.unlink()
        return
    move_into_place(staged, Path(folder.at(name)))


def staging_folder(folder: Folder) -> Path:
    """The local folder for files that are not finished: on the disk of the folder, where it has one,
    so that finishing is a rename."""
    if folder.local:
        return Path(folder.at(STAGING))
    return Path(tempfile.gettempdir()) / "tipim-bulk" / quote(folder.root, safe="")


def process_token() -> str:
    """Names this process: one of an earlier run may still be there and must not write to its files."""
    return f"{socket.gethostname()}-{os.getpid()}"


def clear_staging(folder: Folder) -> None:
    """Removes what killed processes left unfinished; no other process may be at work."""
    shutil.rmtree(staging_folder(folder), ignore_errors=True)


def remove_staging(folder: Folder) -> None:
    """Removes the folder for files that are not finished, if there are none."""
    with contextlib.suppress(OSError):
        staging_folder(folder).rmdir()
