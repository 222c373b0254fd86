"""Protocols drawn from any folder of photos, with a seed, and fixed by file name and SHA-256."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import dataset
from experiments.data.people import People
from experiments.reporting import results
from tipim_jax.errors import UserError


def identification(
    people: People, probes: int, targets: int, distractors: int, seed: int
) -> dict[str, Any]:
    """The split of the paper's protocol; a `UserError` where there are too few people with two photos."""
    rng = np.random.default_rng(seed)
    several = [name for name, photos in people.items() if len(photos) > 1]
    if len(several) < probes + targets or len(people) < probes + targets + distractors:
        raise UserError(
            f"{probes} probes, {targets} targets and {distractors} strangers do not come out of "
            f"{len(people)} people, {len(several)} with several photos; ask for fewer"
        )
    chosen = [str(name) for name in rng.permutation(several)[: probes + targets]]
    rest = [name for name in people if name not in chosen]
    strangers = sorted(str(name) for name in rng.permutation(rest)[:distractors])
    single = {name: str(rng.choice(list(people[name]))) for name in chosen}
    others = {n: [photo for photo in people[n] if photo != single[n]] for n in chosen}
    protected, aims = sorted(chosen[:probes]), sorted(chosen[probes:])
    return {
        "probes": {name: single[name] for name in protected},
        "gallery": {name: others[name] for name in protected},
        "target_images": {name: single[name] for name in aims},
        "target_gallery": {name: others[name] for name in aims},
        "distractors": {name: list(people[name]) for name in strangers},
    }


def verification(
    people: People, probes: int, targets: int, pairs: Sequence[str], seed: int
) -> dict[str, Any]:
    """The photos of a verification protocol, by path below the folder; targets are `pairs` AIM:TEST, or drawn.

    Raises:
      UserError: there are too few photos, nobody to aim at, or a pair is none.
    """
    rng = np.random.default_rng(seed)
    aims = {}
    for pair in pairs:
        aim, _, test = pair.partition(":")
        if not (aim and test):
            raise UserError(f"{pair!r} among the --target_pairs is not AIM:TEST, two photos")
        aims[Path(aim).stem] = {"aim": aim, "test": test}
    if not pairs:
        several = [name for name, photos in people.items() if name and len(photos) > 1]
        for name in sorted(str(n) for n in rng.permutation(several)[:targets]):
            aim, test = rng.choice(list(people[name]), 2, replace=False)
            aims[name] = {"aim": f"{name}/{aim}", "test": f"{name}/{test}"}
    taken = {path for aim in aims.values() for path in aim.values()} | set(aims)
    left = [
        (str(Path(name) / photo), [str(Path(name) / p) for p in photos if name and p != photo])
        for name, photos in people.items()
        if name not in taken
        # one photo of each person; all of a flat folder
        for photo in ([str(rng.choice(list(photos)))] if name else photos)
        if photo not in taken
    ]
    if not aims or len(left) < probes:
        raise UserError(
            f"{probes} photos and {targets} targets do not come out of this folder of {len(people)} "
            "people; ask for fewer, and name the --target_pairs of a flat folder"
        )
    # Who has another photo first: the obfuscation variant needs it.
    order = sorted(rng.permutation(len(left)), key=lambda i: not left[i][1])[:probes]
    drawn = [left[i] for i in sorted(order)]
    return {
        "photos": [photo for photo, _ in drawn],
        "others": {photo: str(rng.choice(others)) for photo, others in drawn if others},
        "targets": aims,
    }


def paths_of(manifest: Mapping[str, Any]) -> list[str]:
    """Every photo that a manifest of either kind names, relative to the folder."""
    if "photos" in manifest:
        tests = [path for aim in manifest["targets"].values() for path in aim.values()]
        return [*manifest["photos"], *manifest.get("others", {}).values(), *tests]
    return [
        f"{name}/{photo}"
        for part in ("probes", "gallery", "target_images", "target_gallery", "distractors")
        for name, photos in manifest[part].items()
        for photo in ([photos] if part in dataset.SINGLE else photos)
    ]


def hashed(manifest: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """The manifest with the SHA-256 of every photo."""
    return {**manifest, "hashes": {p: dataset.digest(root / p) for p in paths_of(manifest)}}


def based(base: Path, people: People) -> dict[str, Any]:
    """The split of another manifest, strangers given by name spelt out.

    Raises:
      UserError: it is no manifest, or names strangers who are not among `people`.
    """
    with dataset.entries_of(base) as manifest:
        strangers = manifest.get("distractors")
        absent = []
        if isinstance(strangers, list):
            absent = [name for name in strangers if name not in people]
            manifest["distractors"] = {name: list(people.get(name, ())) for name in strangers}
        paths_of(manifest)
    if absent:
        raise UserError(
            f"{len(absent)} people of {base.name} are not in this folder, {absent[0]} first; "
            "check --data_dir"
        )
    return manifest


def write(manifest: Mapping[str, Any], root: Path, out: Path) -> None:
    """Writes a manifest with its hashes and says what it holds; its photos must be below `root`."""
    dataset.check(out, root, [root / path for path in paths_of(manifest)], {})
    complete = hashed(manifest, root)
    results.write(out, json.dumps(complete, indent=1) + "\n")
    print(f"wrote {out}: {', '.join(f'{len(part)} {name}' for name, part in complete.items())}")
