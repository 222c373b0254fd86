"""Photos on the disk: read as they are, written whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tipim_jax.photos.decode import MAX_PIXELS, decode
from tipim_jax.photos.encode import QUALITY, encode
from tipim_jax.photos.photo import Photo, PhotoError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

# The folder below an output folder where the pictures of `tipim protect --pictures` go. Nobody else calls one
# so, and what lies in it is never taken for photos.
PICTURES = "tipim-pictures"
_PART = re.compile(r"\.(\d+)-\d+\.part")


class DiskFull(PhotoError):
    """There is no room for a file, nor for the ones after it."""


def read_photo(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> Photo:
    """Reads a photo file, see `decode.decode`.

    Raises:
      PhotoError: as `decode`; or the file is missing, no file, or cannot be read.
    """
    path = Path(path)
    with readable(path), path.open("rb") as file:
        return decode(file, str(path), max_pixels)._replace(path=path)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Says in our words that a file is missing, none, or cannot be read.

    Raises:
      PhotoError: that.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise PhotoError(f"{path} is a folder, not a photo")
        if not stat.S_ISREG(kind):  # a pipe would be waited for without end
            raise PhotoError(f"{path} is a pipe or a device, not a photo")
        yield
    except FileNotFoundError:
        raise PhotoError(f"{path} does not exist") from None
    except OSError as error:
        raise PhotoError(f"{path} cannot be read ({error.strerror or error})") from error


def write_photo(
    photo: Photo,
    protected: np.ndarray,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    quality: int = QUALITY,
    subsampling: str = "4:4:4",
    keep_metadata: bool = False,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Writes a protected photo (see `encode.encode`) in one go: the whole file or none.

    Returns:
      Notes for the user.

    Raises:
      PhotoError: as `encode`; or the file exists and `overwrite` is not set; or it is the photo
        itself, which is never overwritten; or it cannot be written.
    """
    path = Path(path)
    with contextlib.suppress(OSError):  # there is no such file
        if photo.path is not None and path.samefile(photo.path):
            raise PhotoError(f"{path} is the photo itself; choose another output folder")
    data, notes = encode(
        photo,
        protected,
        format=format,
        quality=quality,
        subsampling=subsampling,
        keep_metadata=keep_metadata,
    )
    write_atomically(path, data, overwrite=overwrite)
    return notes


def write_atomically(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Writes a file, and the folders above it, so that it never exists half-written.

    Raises:
      DiskFull: the disk, or the user's share of it, is full.
      PhotoError: the file exists and `overwrite` is not set, or the disk refuses.
    """
    try:
        if not overwrite and path.exists():
            raise PhotoError(f"{path} exists already; choose another output folder or overwrite it")
        replace_file(path, data)
    except OSError as error:
        raise unwritten(path, error) from error


def replace_file(path: Path, data: bytes, temporary: Path | None = None) -> None:
    """Writes a file in one go over one that may exist, and makes the folders above it.

    Args:
      path: of the file.
      data: its bytes.
      temporary: what it is called until it is complete, on the same disk; a hidden file beside it by default.

    Raises:
      OSError: the disk refuses; nothing is left then.
    """
    if temporary is None:
        temporary = part_of(path)
    temporary.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(data)
        move_into_place(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def passed_over(name: str) -> bool:
    """Whether a file or folder of this name is no place for photos: hidden, or pictures of ours."""
    return name.startswith(".") or name == PICTURES


def digest(data: bytes | Path) -> str:
    """The SHA-256 of a file, or of its bytes.

    Raises:
      OSError: it cannot be read.
    """
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def part_of(path: Path) -> Path:
    """What a file is called until it is complete: a hidden one beside it, which `remove_leftovers` knows."""
    # The file's own name may be as long as names can be.
    return path.with_name(f".{os.getpid()}-{threading.get_ident()}.part")


def move_into_place(complete: Path, path: Path) -> None:
    """Moves a complete file in one go over one that may exist, and makes the folders above it.

    Raises:
      OSError: the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with complete.open("rb+") as file:
        os.fsync(file.fileno())  # or a power cut could leave a name without its bytes
    os.replace(complete, path)


def remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed left of `write_atomically` in a folder and below it."""
    for path in folder.rglob(".*.part"):
        left_by = _PART.fullmatch(path.name)
        if left_by and not _runs(int(left_by[1])):
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other runs out of an output folder; however this one ends, the next one gets in.

    Where the system or its network disk knows no locks, nobody is kept out.

    Raises:
      PhotoError: another run is writing there.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            if fcntl is not None:
                descriptor = os.open(folder, os.O_RDONLY)
                held.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise PhotoError(
                        f"another run is writing to {folder}; wait for its end, or choose another output folder"
                    ) from None
        yield


def _runs(process: int) -> bool:
    """Whether a process is there; where that cannot be asked without harm, it is taken to be."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def unwritten(path: Path, error: OSError) -> PhotoError:
    """What the user is told of a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{path} cannot be written: the disk is full; make room and run it again")
    return PhotoError(f"{path} cannot be written ({error.strerror or error})")
