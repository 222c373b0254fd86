"""What people gave to the page: their photos, tab by tab, in one private folder that is deleted at the end."""

import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from tipim_jax.errors import UserError
from tipim_jax.web.worker import Job

if sys.platform != "win32":
    import fcntl

Role = Literal[
    "protect", "check", "known"
]  # to protect; to look up; of the person who is looked for
ROLES: tuple[Role, ...] = ("protect", "check", "known")
_PREFIX = "tipim-serve-"
_LONGEST = 200  # characters of a photo's name
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{n}{i}" for n in ("COM", "LPT") for i in range(1, 10))}


class Limits(NamedTuple):
    """What the server takes.

    Attributes:
      photo: bytes of a photo.
      photos: of a tab.
      total: bytes of all photos of all tabs.
      tabs: that are open at once.
      forgotten: seconds without a sign of life after which a tab makes room for others.
    """

    photo: int = 200 * 2**20
    photos: int = 500
    total: int = 4 * 2**30
    tabs: int = 50
    forgotten: float = 3600.0


class TooMuch(UserError):
    """A limit is reached."""


class Missing(UserError):
    """There is no such tab, photo or file."""


class Spot(NamedTuple):
    """A face of a photo, as the page shows it.

    Attributes:
      number: from 1, the largest face first.
      place: where it is, in words.
      box: left, top, width, height in pixels of the upright photo.
      small: whether it is too small to be protected.
    """

    number: int
    place: str
    box: tuple[float, float, float, float]
    small: bool


@dataclass(eq=False)
class Shot:
    """A photo that was given.

    Attributes:
      id: of the photo, random.
      name: of its file, without folders.
      role: what it was given for.
      folder: its own, with the file and the pictures of it.
      bytes: of the file.
      width, height: pixels, upright; 0 before it was looked at.
      faces: found in it.
      error: why it cannot be used; empty if it can.
      looking: the job that looks at it.
    """

    id: str
    name: str
    role: Role
    folder: Path
    bytes: int
    width: int = 0
    height: int = 0
    faces: tuple[Spot, ...] = ()
    error: str = ""
    looking: Job | None = None

    @property
    def file(self) -> Path:
        return self.folder / "photo"


@dataclass(eq=False)
class Album:
    """What one tab of a browser holds.

    Attributes:
      id: random.
      shots: id -> photo, in the order given.
      run: the latest protection, and `results`, what became of each photo by its id.
      previews: (photo, face, strength, format) -> its job and what it gave.
      search: the latest look-up, and `found`, what it gave.
      seen: when the tab was heard of last, seconds of `time.monotonic`.
    """

    id: str
    shots: dict[str, Shot] = field(default_factory=dict)
    run: Job | None = None
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    previews: dict[tuple[str, int, str, str], tuple[Job, dict[str, Any]]] = field(
        default_factory=dict
    )
    search: Job | None = None
    found: dict[str, Any] = field(default_factory=dict)
    seen: float = 0.0

    def with_role(self, role: Role) -> list[Shot]:
        """The photos given for something, in order."""
        return [shot for shot in list(self.shots.values()) if shot.role == role]

    @property
    def jobs(self) -> Iterator[Job]:
        """Everything that is, or was, done for this tab."""
        yield from (shot.looking for shot in list(self.shots.values()) if shot.looking)
        yield from (job for job, _ in list(self.previews.values()))
        yield from (job for job in (self.run, self.search) if job)


class Session:
    """All tabs, and the folder that their photos are in.

    Used as a context, which deletes the folder at its end.
    """

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self.albums: dict[str, Album] = {}
        self._lock = threading.RLock()
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # rwx------
        self._alive = (self.folder / "alive").open("wb")
        if sys.platform != "win32":
            fcntl.flock(self._alive, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Deletes everything."""
        self._alive.close()
        # The worker may be writing into it at this very moment.
        while self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def open(self) -> Album:
        """Makes room for a tab.

        Raises:
          TooMuch: there are too many.
        """
        with self._lock:
            self._forget()
            if len(self.albums) >= self.limits.tabs:
                raise TooMuch(f"{self.limits.tabs} tabs are open already; use one of them")
            album = Album(secrets.token_hex(8), seen=time.monotonic())
            self.albums[album.id] = album
            return album

    def album(self, id: str) -> Album:
        """The tab of this id.

        Raises:
          Missing: there is none.
        """
        album = self.albums.get(id)
        if album is None:
            raise Missing("this tab is not known any more; reload the page")
        album.seen = time.monotonic()
        return album

    def shot(self, album: Album, id: str) -> Shot:
        """A photo of a tab.

        Raises:
          Missing: there is none.
        """
        shot = album.shots.get(id)
        if shot is None:
            raise Missing("this photo was removed")
        return shot

    def check_room(self, album: Album, name: str, size: int) -> None:
        """Makes sure that a photo may be added.

        Raises:
          TooMuch: a limit is reached.
        """
        limits = self.limits
        with self._lock:
            if len(album.shots) >= limits.photos:
                raise TooMuch(f"{limits.photos} photos are here already; remove some first")
            if size > limits.photo:
                raise TooMuch(f"{name} is larger than {_mega(limits.photo)}; make it smaller")
            if self._held() + size > limits.total:
                self._forget()
            if self._held() + size > limits.total:
                raise TooMuch(
                    f"all photos together are larger than {_mega(limits.total)}; remove some first"
                )

    async def add(self, album: Album, name: str, role: Role, body: AsyncIterator[bytes]) -> Shot:
        """Saves a photo that comes in.

        Args:
          album: of the tab.
          name: of the file, as the browser says; folders and what no name can hold is left out.
          role: what it is given for.
          body: the file.

        Raises:
          TooMuch: a limit is reached.
        """
        name = clean(name)
        self.check_room(album, name, 0)
        id = secrets.token_hex(8)
        shot = Shot(id, name, role, self.folder / id, 0)
        shot.folder.mkdir(mode=0o700)
        try:
            with shot.file.open("wb") as file:
                async for part in body:
                    shot.bytes += len(part)
                    self.check_room(album, name, shot.bytes)
                    _write(file, part, name)
            with self._lock:
                self.check_room(album, name, shot.bytes)
                album.shots[id] = shot
        except BaseException:
            shutil.rmtree(shot.folder, ignore_errors=True)
            raise
        return shot

    def remove(self, album: Album, shot: Shot) -> None:
        """Deletes a photo and everything made of it."""
        with self._lock:
            album.shots.pop(shot.id, None)
            album.results.pop(shot.id, None)
            for key in [key for key in album.previews if key[0] == shot.id]:
                album.previews.pop(key)[0].cancel()
        if shot.looking:
            shot.looking.cancel()
        shutil.rmtree(shot.folder, ignore_errors=True)

    def close_album(self, album: Album) -> None:
        """Forgets a tab."""
        for job in album.jobs:
            job.cancel()
        for shot in list(album.shots.values()):
            self.remove(album, shot)
        with self._lock:
            self.albums.pop(album.id, None)

    def _held(self) -> int:
        return sum(shot.bytes for one in self.albums.values() for shot in one.shots.values())

    def _forget(self) -> None:
        """Closes the tabs that nobody has looked at for long and nothing is done for."""
        now = time.monotonic()
        for album in list(self.albums.values()):
            idle = now - album.seen > self.limits.forgotten
            if idle and all(job.over for job in album.jobs):
                self.close_album(album)


def _write(file: BinaryIO, part: bytes, name: str) -> None:
    try:
        file.write(part)
        file.flush()
    except OSError as error:
        raise TooMuch(f"{name} cannot be kept ({error.strerror}); make room on the disk") from error


def clean(name: str) -> str:
    """The name of a file that may be saved under it: no folders, no control characters, not too long."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    text = "".join(
        "_" if c in '<>:"|?*' else c for c in unicodedata.normalize("NFC", last) if c.isprintable()
    ).strip(" .")
    stem, dot, suffix = text.rpartition(".")
    if not dot:
        stem, suffix = text, ""
    stem, suffix = stem[: _LONGEST - len(suffix[:10])], suffix[:10]
    if stem.upper() in _RESERVED:
        stem = f"_{stem}"
    return f"{stem}{dot}{suffix}" if stem else "photo"


def _mega(size: int) -> str:
    return f"{size / 2**30:.3g} GB" if size >= 2**30 else f"{size / 2**20:.3g} MB"


def _sweep() -> None:
    """Deletes the folders of servers that were killed before they could: nobody holds their lock."""
    if sys.platform == "win32":  # which has no such locks
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / "alive").open("rb+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
