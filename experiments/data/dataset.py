"""Photos of people for experiments: manifests, and aligned canvases and embeddings cached by content."""

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments.data.people import photos_of
from ports.networks import yunet
from tipim_jax.errors import UserError
from tipim_jax.photos.demo import SAME_PERSON, demo_photos
from tipim_jax.photos.faces import version
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.portrait import main_face
from tipim_jax.photos.verify import Verifier, embed_canvases

SINGLE = ("probes", "target_images")  # parts of a manifest with one photo a person


class Labelled(NamedTuple):
    """Photos with the identity that each shows: paths [N], identities [N]."""

    paths: tuple[Path, ...]
    identities: tuple[str, ...]

    def __add__(self, other: "Labelled") -> "Labelled":  # type: ignore[override]
        return Labelled(self.paths + other.paths, self.identities + other.identities)

    def at(self, indices: Iterable[int]) -> "Labelled":
        """Those at indices [n]."""
        return labelled([(self.paths[i], self.identities[i]) for i in indices])


def labelled(pairs: Sequence[tuple[Path, str]]) -> Labelled:
    """Photos and whom each shows, N pairs."""
    return Labelled(tuple(path for path, _ in pairs), tuple(person for _, person in pairs))


class Protocol(NamedTuple):
    """The paper's identification protocol."""

    name: str  # for reports
    probes: Labelled  # one photo of each protected identity
    gallery: Labelled  # the other photos of those, of the targets, and of strangers
    targets: Labelled  # one photo of each target identity, none of them in the gallery

    @property
    def digest(self) -> str:
        """Changes with any photo, or whom it is said to show."""
        parts = [
            [(identity, digest(path)) for path, identity in zip(*part)]
            for part in (self.probes, self.gallery, self.targets)
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


NO_PHOTOS = Protocol("none", Labelled((), ()), Labelled((), ()), Labelled((), ()))


@contextmanager
def entries_of(manifest: Path, kind: str = "protocol") -> Iterator[dict[str, Any]]:
    """The entries of a manifest; whatever about them is not as it should be is a `UserError`."""
    try:
        yield json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        why = f"it has no field {error}" if isinstance(error, KeyError) else repr(error)
        raise UserError(f"{manifest} is not a {kind} ({why})") from error


def read_protocol(manifest: Path, data_dir: Path) -> Protocol:
    """Reads a manifest of an identity folder (`person/photo`).

    The manifest is JSON: `probes` and `target_images` {person: photo}, `gallery`, `target_gallery` and
    `distractors` {person: [photo]}; `distractors` may be a list of people, of whom every photo, also in
    folders below theirs, is in the gallery. `hashes` {"person/photo": SHA-256}, if given, must hold for
    every photo.

    Raises:
      UserError: the manifest cannot be read, or photos it names are missing or not those it was made of.
    """
    with entries_of(manifest) as entries:
        probes, targets = (
            _photos(data_dir, {who: [photo] for who, photo in entries[part].items()})
            for part in SINGLE
        )
        strangers = entries["distractors"]
        if isinstance(strangers, list):
            strangers = {person: photos_of(data_dir / person) for person in strangers}
        gallery = _photos(data_dir, entries["gallery"])
        gallery += _photos(data_dir, entries["target_gallery"]) + _photos(data_dir, strangers)
        hashes = dict(entries.get("hashes", {}))
    for part, photos in (("probes", probes), ("gallery", gallery), ("target_images", targets)):
        if not photos.paths:
            raise UserError(f"{manifest} is not a protocol (its {part} are empty)")
    check(manifest, data_dir, (probes + gallery + targets).paths, hashes)
    return Protocol(manifest.stem, probes, gallery, targets)


def check(
    manifest: Path, data_dir: Path, photos: Sequence[Path], hashes: Mapping[str, str]
) -> None:
    """Raises a `UserError` unless the photos of a manifest are there, and those it was made of."""
    missing = [str(path) for path in photos if not path.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} photos of {manifest.name} are not below {data_dir}, {missing[0]} first; "
            "check --data_dir"
        )
    changed = [
        path
        for path in photos
        if hashes and hashes.get(str(path.relative_to(data_dir))) != digest(path)
    ]
    if changed:
        raise UserError(
            f"{len(changed)} photos below {data_dir} are not those that {manifest.name} was made of, "
            f"{changed[0]} first; use the same photos or make a new manifest"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def photo_folder(data_dir: Path, cache: Path) -> Path:
    """The identity folder at `data_dir`; a dataset prepared by TFDS is unpacked below `cache` first."""
    if not (data_dir / "dataset_info.json").is_file():
        return data_dir
    from experiments.data import identity_folder  # TFDS takes a second to import

    unpacked = cache / "unpacked" / digest(data_dir / "dataset_info.json")[:16]
    if not unpacked.is_dir():
        identity_folder.unpack(data_dir, unpacked)
    return unpacked


def built_in_protocol() -> Protocol:
    """A miniature of the protocol on the demo photos: two probes, each known by another photo."""
    paths = {path.name: path for path in demo_photos()}
    probes, others = zip(*SAME_PERSON)
    strangers = sorted(paths.keys() - {*probes, *others})

    def named(names: Iterable[str]) -> Labelled:
        return labelled([(paths[name], name.split("_")[0]) for name in names])

    return Protocol("demo", named(probes), named([*others, *strangers]), named(strangers))


def demo_people(folder: Path) -> Path:
    """The demo photos as an identity folder, `person/photo`."""
    for path in demo_photos():
        person = folder / path.stem.split("_")[0]
        person.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, person / path.name)
    return folder


def _photos(data_dir: Path, people: Mapping[str, Sequence[str]]) -> Labelled:
    return labelled(
        [(data_dir / who / name, who) for who, names in people.items() for name in names]
    )


def spaced(count: int, total: int) -> np.ndarray:
    """Indices of `count` of `total` items, evenly spaced; of all if there are no more."""
    count = min(count, total)
    return np.unique(np.arange(count) * total // count)


def thinned(protocol: Protocol, probes: int) -> Protocol:
    """The protocol with so many probes, evenly spaced; the gallery stays whole."""
    total = len(protocol.probes.paths)
    return protocol._replace(probes=protocol.probes.at(spaced(probes, total)))


class Faces(NamedTuple):
    """The aligned face of each photo that shows one."""

    paths: tuple[Path, ...]  # [N]
    canvases: np.ndarray  # [N,160,160,3] uint8
    identities: np.ndarray  # [N]
    digests: tuple[str, ...]  # [N] SHA-256 of the files
    missing: tuple[tuple[str, str], ...]  # photos without a face, and why; they are in no result

    def at(self, indices: np.ndarray) -> "Faces":
        """Those at indices [n]."""
        paths, digests = (tuple(some[i] for i in indices) for some in (self.paths, self.digests))
        return Faces(paths, self.canvases[indices], self.identities[indices], digests, self.missing)


def aligned(pixels: np.ndarray) -> np.ndarray:
    """The main face [160,160,3] of a portrait [H,W,3].

    Raises:
      PhotoError: there is none.
    """
    return main_face(detector(), pixels).canvas


@cache
def detector() -> Any:
    """Parameters of the project's detector."""
    return yunet.load()


class Kept(NamedTuple):
    """An array for each photo that gives one, with its file's SHA-256; and (photo, why) for the others."""

    photos: Labelled
    digests: tuple[str, ...]
    arrays: tuple[np.ndarray, ...]
    missing: tuple[tuple[str, str], ...]


def kept_by_content(
    photos: Labelled, folder: Path, make: Callable[[np.ndarray], np.ndarray]
) -> Kept:
    """What `make` takes from the pixels [H,W,3] of each photo, kept in a folder by the content of its file.

    It raises `PhotoError` where a photo has none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found, missing = {}, []
    for i, path in enumerate(tqdm(photos.paths, desc=folder.name, unit="photo", disable=None)):
        content = digest(path)
        stored = folder / f"{content}.npy"
        try:
            if not stored.exists():
                write(stored, make(read_photo(path).pixels))
            found[i] = (content, np.load(stored))
        except PhotoError as error:
            missing.append((str(path), str(error)))
    digests, arrays = zip(*found.values()) if found else ((), ())
    return Kept(photos.at(found), digests, arrays, tuple(missing))


def faces(
    photos: Labelled,
    cache: Path,
    kind: str = "canvases",
    canvas: Callable[[np.ndarray], np.ndarray] = aligned,
) -> Faces:
    """The canvas of every photo, kept in `cache` by content and `tipim_jax.photos.faces.version`.

    `kind` is the folder of these canvases there; `canvas` takes pixels [H,W,3] to [160,160,3], or raises a
    `PhotoError` that says why there is none.

    Raises:
      UserError: no photo has one.
    """

    def made(pixels: np.ndarray) -> np.ndarray:
        return np.rint(canvas(pixels)).astype(np.uint8)

    kept = kept_by_content(photos, cache / f"{kind}-{version()}", made)
    if not kept.arrays:
        first = f", {kept.missing[0][0]} first ({kept.missing[0][1]})" if kept.missing else ""
        raise UserError(f"none of {len(photos.paths)} photos shows a face{first}")
    identities = np.array(kept.photos.identities)
    return Faces(kept.photos.paths, np.stack(kept.arrays), identities, kept.digests, kept.missing)


def embeddings(verifier: Verifier, found: Faces, cache: Path) -> np.ndarray:
    """[N,D] embeddings of faces, kept in `cache` by the content of canvas and model."""
    weights = hashlib.sha256()  # a name may be registered anew
    for leaf in jax.tree.leaves(verifier.params):
        weights.update(np.asarray(leaf).tobytes())
    folder = cache / "embeddings" / f"{verifier.name}-{weights.hexdigest()[:12]}"
    keys = [hashlib.sha256(canvas.tobytes()).hexdigest() for canvas in found.canvases]
    return kept_by_key(
        folder, keys, 64, lambda part: embed_canvases(verifier, found.canvases[part])
    )


def kept_by_key(
    folder: Path, keys: Sequence[str], size: int, make: Callable[[list[int]], np.ndarray]
) -> np.ndarray:
    """[N,...] arrays kept in a folder by keys [N]; those that are not there are made, `size` at once."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{key}.npy" for key in keys]
    new = [i for i, file in enumerate(files) if not file.exists()]
    for start in tqdm(range(0, len(new), size), desc=folder.name, disable=None):
        part = new[start : start + size]
        for i, array in zip(part, make(part), strict=True):
            write(files[i], array)
    return np.stack([np.load(file) for file in files])


def write(path: Path, array: np.ndarray) -> None:
    """Writes an array so that an interrupted run leaves no half a file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomically(path, buffer.getvalue(), overwrite=True)
