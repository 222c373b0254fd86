"""Who is protected and who judges: a protocol's probes, albums of photos, and what every judge knows."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import dataset
from experiments.judging.judges import Judge, Known, Threshold, threshold
from experiments.judging.sightings import Sighting, embeddings, sightings
from tipim_jax.errors import UserError
from tipim_jax.photos.folders import photos_below

PROBES = "probes"


class Album(NamedTuple):
    """A folder of photos to look at: its name, and the photos, of people that no gallery knows."""

    name: str
    photos: dataset.Labelled

    @property
    def digest(self) -> str:
        """Changes with any photo."""
        content = repr([dataset.digest(path) for path in self.photos.paths])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def albums(folders: Sequence[Path]) -> list[Album]:
    """The photos of folders and below them; a `UserError` if one holds none, or two have the same name."""
    made: list[Album] = []
    for folder in folders:
        paths = tuple(sorted(photos_below(folder))) if folder.is_dir() else ()
        if not paths:
            raise UserError(f"{folder} is no folder with photos; check --albums")
        name = folder.resolve().name
        if name in (PROBES, *(album.name for album in made)):
            raise UserError(f"--albums: two are called {name}; rename {folder}")
        made.append(Album(name, dataset.labelled([(p, str(p)) for p in paths])))
    return made


class Scene(NamedTuple):
    """Everything that rows are measured with."""

    judges: Sequence[Judge]  # the recognisers
    # thresholds, known, before: of each judge, by its name; `before` [N,D] are the subjects as they
    # were
    thresholds: Mapping[str, Threshold]
    known: Mapping[str, Known]
    before: Mapping[str, np.ndarray]
    # [N] the photos that are protected: the probes, then their people's other photos, then albums
    subjects: Sequence[Sighting]
    # the subjects that figures are about: `PROBES` and albums, those with photos
    groups: Mapping[str, slice]
    linked: slice  # the probes and their people's other photos; empty if nobody has any
    missing: Sequence[tuple[str, str]]  # (photo, why) of photos that show nobody

    @property
    def photos(self) -> dataset.Labelled:
        """The photos that are protected."""
        return dataset.labelled([(one.path, one.identity) for one in self.subjects])


def part(protocol: dataset.Protocol, first: int, count: int) -> dataset.Labelled:
    """So many of a protocol's probes, from number `first` on (0 is the first)."""
    if first + count > len(protocol.probes.paths):
        raise UserError(
            f"{protocol.name} has {len(protocol.probes.paths)} probes, so that there are no {count} from "
            f"number {first} on"
        )
    return protocol.probes.at(range(first, first + count))


def others(protocol: dataset.Protocol, probes: dataset.Labelled, most: int) -> dataset.Labelled:
    """Up to `most` photos of every probe's person out of the gallery."""
    owned: dict[str, list[Path]] = {}
    for path, identity in zip(*protocol.gallery):
        owned.setdefault(identity, []).append(path)
    return dataset.labelled([(p, i) for i in probes.identities for p in owned.get(i, [])[:most]])


def scene(
    protocol: dataset.Protocol,
    judges: Sequence[Judge],
    probes: dataset.Labelled,
    again: dataset.Labelled,
    albums: Sequence[Album],
    cache: Path,
) -> Scene:
    """Finds and embeds everybody, and calibrates the judges on every pair of the protocol's people.

    `again` are other photos of the people of the probes, protected as well, for links; there may be none.
    """
    parts = [sightings(photos, cache) for photos in (probes, again, *(a.photos for a in albums))]
    ends = np.cumsum([len(one.seen) for one in parts])
    ranges = [slice(int(end) - len(one.seen), int(end)) for one, end in zip(parts, ends)]
    names = [PROBES, "", *(one.name for one in albums)]
    subjects = [subject for one in parts for subject in one.seen]
    gallery = sightings(protocol.gallery, cache)
    people = sightings(protocol.probes + protocol.gallery, cache)
    targets = [str(name) for name in protocol.targets.identities]

    thresholds, known, before = {}, {}, {}
    for judge in judges:
        found = threshold(embeddings(judge, people.seen, cache), people.identities)
        own = embeddings(judge, gallery.seen, cache)
        thresholds[judge.name] = found
        known[judge.name] = Known(found.cosine, own, gallery.identities, targets)
        before[judge.name] = embeddings(judge, subjects, cache)
    return Scene(
        judges,
        thresholds,
        known,
        before,
        subjects,
        {n: r for n, r in zip(names, ranges) if n and r.start < r.stop},
        slice(0, ranges[1].stop) if ranges[1].start < ranges[1].stop else slice(0),
        list(dict.fromkeys([m for one in (*parts, people) for m in one.missing])),
    )
