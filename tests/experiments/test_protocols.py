"""Protocols drawn from a folder, fixed by hash, and carried through ArrayRecord."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import data, identity_folder, protocols


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Nine people of one to four tiny photos, no two the same."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for person in range(9):
        (root / f"p{person}").mkdir()
        for photo in range(1 + person % 4):
            pixels = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"p{person}" / f"{photo}.png")
    return root


SMALL = {"probes": 3, "targets": 2, "distractors": 3, "seed": 0}


def made(folder, out, **changes) -> dict:
    manifest = protocols.identification(protocols.people_of(folder), **SMALL | changes)
    protocols.write(manifest, folder, out)
    return json.loads(out.read_text())


def test_an_identification_protocol(folder, tmp_path):
    manifest = made(folder, tmp_path / "a.json")
    again = made(folder, tmp_path / "b.json")
    assert manifest == again != made(folder, tmp_path / "c.json", seed=1)
    protocol = data.read_protocol(tmp_path / "a.json", folder)
    assert (len(protocol.probes.paths), len(protocol.targets.paths)) == (3, 2)
    people = [set(part.identities) for part in (protocol.probes, protocol.targets)]
    assert not people[0] & people[1]
    gallery = set(protocol.gallery.identities)
    assert people[0] | people[1] < gallery
    assert len(gallery) == 8
    used = protocol.probes.paths + protocol.targets.paths + protocol.gallery.paths
    assert len(set(used)) == len(used) == len(manifest["hashes"])
    for person in gallery:  # every photo of everybody is somewhere
        assert {path for path in used if path.parent.name == person} == set(
            (folder / person).iterdir()
        )

    # The same protocol on the same photos out of ArrayRecord, without TensorFlow.
    packed = identity_folder.pack(folder, tmp_path / "packed")
    unpacked = data.photo_folder(packed, tmp_path / "cache")
    carried = data.read_protocol(tmp_path / "a.json", unpacked)
    assert carried.gallery.identities == protocol.gallery.identities
    assert data.photo_folder(packed, tmp_path / "cache") == unpacked
    assert data.photo_folder(folder, tmp_path / "cache") == folder
    assert "tensorflow" not in sys.modules


def test_photos_are_fixed_by_hash(folder, tmp_path):
    made(folder, tmp_path / "a.json")
    other = tmp_path / "other"
    for path in folder.glob("*/*"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        (other / path.parent.name / path.name).write_bytes(path.read_bytes())
    protocol = data.read_protocol(tmp_path / "a.json", other)
    changed = protocol.gallery.paths[0]
    changed.write_bytes(changed.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"^1 photos below .* are not those .*make a new manifest"):
        data.read_protocol(tmp_path / "a.json", other)
    changed.unlink()
    with pytest.raises(ValueError, match=r"1 photos of a.json are not below .* check --data_dir"):
        data.read_protocol(tmp_path / "a.json", other)


def test_hashes_are_added_to_a_split_that_has_none(folder, tmp_path):
    manifest = made(folder, tmp_path / "a.json")
    plain = {key: value for key, value in manifest.items() if key != "hashes"}
    plain["distractors"] = list(plain["distractors"])
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    ours, theirs = (
        data.read_protocol(tmp_path / name, folder) for name in ("a.json", "plain.json")
    )
    assert ours._replace(name="") == theirs._replace(name="")
    based = protocols.based(tmp_path / "plain.json", protocols.people_of(folder))
    assert protocols.hashed(based, folder) == manifest


def test_a_verification_protocol(folder, tmp_path):
    manifest = protocols.verification(protocols.people_of(folder), 4, 2, [], 0)
    aims = manifest["targets"]
    assert all(a["aim"] != a["test"] and a["aim"].startswith(f"{n}/") for n, a in aims.items())
    people = [Path(photo).parent.name for photo in manifest["photos"]]
    assert len(set(people)) == 4
    assert not set(people) & set(aims)
    for photo, other in manifest["others"].items():
        assert photo != other
        assert Path(photo).parent == Path(other).parent
    assert len(manifest["others"]) == 4  # people with several photos come first

    people = protocols.people_of(folder / "p7")
    manifest = protocols.verification(people, 2, 4, ["0.png:1.png"], 0)
    assert sorted(manifest["photos"]) == ["2.png", "3.png"]
    assert manifest["targets"] == {"0": {"aim": "0.png", "test": "1.png"}}


def test_too_small_a_folder_is_refused(folder, tmp_path):
    people = protocols.people_of(folder)
    with pytest.raises(
        ValueError, match="8 probes, 10 targets and 5 strangers do not come out of 9 p"
    ):
        protocols.identification(people, 8, 10, 5, 0)
    with pytest.raises(ValueError, match="9 photos and 4 targets do not come out"):
        protocols.verification(people, 9, 4, [], 0)
    with pytest.raises(ValueError, match="name the --target_pairs"):
        protocols.verification(protocols.people_of(folder / "p7"), 2, 4, [], 0)
    (tmp_path / "nobody").mkdir()
    with pytest.raises(ValueError, match="holds no photos"):
        protocols.people_of(tmp_path)


def test_the_protocol_of_the_research_data(research_data):
    protocol = data.read_protocol(research_data / "lfw/protocol.json", research_data / "lfw/photos")
    assert len(protocol.probes.paths) == 500
    assert len(protocol.targets.paths) == 10
    assert len(protocol.gallery.paths) == 1904
