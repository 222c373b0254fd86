"""`tipim doctor`: what is installed, what can be used here, and what is kept on disk."""

import argparse
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jax
from packaging.requirements import Requirement

from ports import packages, store, zoo
from tipim_jax.commands import Commands
from tipim_jax.commands.progress import show
from tipim_jax.errors import UserError
from tipim_jax.photos import programs
from tipim_jax.photos.table import aligned

READY, NOT_READY = 0, 1  # exit codes
_READY = "Photos can be protected here: tipim protect PHOTO… --out FOLDER"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    parser = commands.add_parser(
        "doctor",
        help="show whether photos can be protected here, and what is missing",
        description="Shows versions, extras, devices, recognisers and caches. Exit code 0: photos can be "
        "protected here; 1: something that this needs is missing, and the last line says what.",
    )
    parser.add_argument(
        "--clean", action="store_true", help="remove the compiled programs; models stay"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the report, or cleans, and returns the exit code."""
    if options.clean:
        folder = store.cache() / programs.FOLDER
        files, size = programs.clean(folder)
        show(f"removed {files} files of compiled programs ({in_words(size)}) from {folder}")
        return READY
    devices, problems = _devices()
    for part in (_versions(), _extras(), devices, _recognisers(), _caches()):
        show("\n".join(part) + "\n")
    problems += _missing()
    show("\n".join(problems) if problems else _READY)
    return NOT_READY if problems else READY


def in_words(size: int) -> str:
    """A number of bytes for people: `312 bytes`, `4.1 kB`, `1.3 GB`."""
    number, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB"):
        if number < 999.95:
            break
        number, unit = number / 1000, larger
    return f"{size} bytes" if unit == "bytes" else f"{number:.1f} {unit}"


def unmet(extra: str) -> list[str]:
    """The requirements of an extra that are absent here, or here in another version."""
    problems = []
    for requirement in _requirements():
        if not requirement.marker or not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(requirement.name)
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    return problems


def _requirements() -> Iterator[Requirement]:
    return map(Requirement, metadata.requires("tipim-jax") or ())


def _versions() -> list[str]:
    rows = [
        ("package", "version"),
        ("tipim-jax", metadata.version("tipim-jax")),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((name, metadata.version(name)) for name in PACKAGES),
    ]
    return aligned(rows)


def _extras() -> list[str]:
    rows = [("extra", "state")]
    for extra in metadata.metadata("tipim-jax").get_all("Provides-Extra") or ():
        problems = unmet(extra)
        state = f'no: {", ".join(problems)}; `pip install "tipim-jax[{extra}]"`'
        rows.append((extra, state if problems else "installed"))
    return aligned(rows)


def _devices() -> tuple[list[str], list[str]]:
    """The table of devices, and what is wrong with them."""
    try:
        found = jax.devices()
    except (
        RuntimeError
    ) as error:  # a plugin without its device, or a platform that is not installed
        return ["no device can be used"], [f"JAX finds no device: {str(error).splitlines()[0]}"]
    rows = [("device", "platform", "kind")]
    return aligned([*rows, *((str(d.id), d.platform, d.device_kind) for d in found)]), []


def _recognisers() -> list[str]:
    rows = [("recogniser", "does", "here")]
    for card in zoo.available():
        here = f"no: {card.missing}" if card.missing else "yes"
        does = "makes masks and judges" if card.surrogate else "judges"
        rows.append((card.name, does, here))
    return aligned(rows)


def _caches() -> list[str]:
    own = store.cache() / programs.FOLDER
    places = [("models", store.directory()), ("compiled programs", own)]
    told = programs.folder()
    if told is not None and told != own:
        places.append(("compiled programs, in JAX's folder", told))
    rows = [("kept on disk", "size", "place")]
    rows += [(what, in_words(_size(place)), str(place)) for what, place in places]
    return aligned(rows, right=(1,))


def _size(folder: Path) -> int:
    """Bytes of all files below a folder; those that go meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _missing() -> list[str]:
    """What protecting a photo with the defaults needs and is not here."""
    problems = []
    try:
        packages.locate(packages.YUNET)
    except UserError as error:
        problems.append(f"The face detector is missing: {error}")
    for card in zoo.available():
        if card.surrogate and card.missing:
            problems.append(f"The recogniser {card.name} is missing: {card.missing}")
    return problems
