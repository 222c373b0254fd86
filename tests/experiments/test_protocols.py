"""Protocols drawn from a folder, fixed by hash, and carried through ArrayRecord."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from experiments.data import dataset, identity_folder, protocols
from experiments.data.people import people_of
from experiments.judging import matching
from tipim_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own, as its flags are those of every launch.
LAUNCHES = """
import sys
from absl import flags
from experiments import make_protocol
from tipim_jax.errors import UserError
for line in sys.stdin:
    for flag in ("base", "kind", "num_probes", "num_targets", "num_distractors"):
        flags.FLAGS[flag].unparse()
    flags.FLAGS(["make_protocol", *line.split()])
    try:
        make_protocol.main([])
    except UserError as error:
        print(f"error: {error}")
"""


def launched(*lines: str) -> list[str]:
    """What make_protocol says with each of these command lines, its last line each."""
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHES],
        input="\n".join(lines),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


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
    manifest = protocols.identification(people_of(folder), **SMALL | changes)
    protocols.write(manifest, folder, out)
    return json.loads(out.read_text())


def test_an_identification_protocol(folder, tmp_path):
    manifest = made(folder, tmp_path / "a.json")
    again = made(folder, tmp_path / "b.json")
    assert manifest == again != made(folder, tmp_path / "c.json", seed=1)
    protocol = dataset.read_protocol(tmp_path / "a.json", folder)
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
    unpacked = dataset.photo_folder(packed, tmp_path / "cache")
    carried = dataset.read_protocol(tmp_path / "a.json", unpacked)
    assert carried.gallery.identities == protocol.gallery.identities
    assert dataset.photo_folder(packed, tmp_path / "cache") == unpacked
    assert dataset.photo_folder(folder, tmp_path / "cache") == folder
    assert "tensorflow" not in sys.modules


class Numbered(tfds.core.GeneratorBasedBuilder):
    """Like TFDS's own `lfw`: labelled photos without file names."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def __init__(self, *, photos: dict[str, Path], **options):
        self._photos = photos
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(), "label": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager) -> dict:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator:
        for key, path in self._photos.items():
            yield key, {"image": str(path), "label": path.parent.name}


def test_a_protocol_of_a_dataset_without_file_names(folder, tmp_path):
    photos = {str(path.relative_to(folder)): path for path in folder.glob("*/*")}
    builder = Numbered(photos=photos, data_dir=str(tmp_path / "tfds"), file_format="array_record")
    builder.download_and_prepare()
    prepared, cache, out = builder.data_dir, tmp_path / "cache", tmp_path / "made.json"
    (said,) = launched(
        f"--data_dir={prepared} --cache={cache} --out={out} "
        "--num_probes=3 --num_targets=2 --num_distractors=3"
    )
    assert said.startswith(f"wrote {out}: 3 probes")
    read = dataset.read_protocol(
        out, dataset.photo_folder(Path(prepared), tmp_path / "another cache")
    )
    assert all(
        path.name.startswith(f"{person}_000")
        for path, person in zip(read.gallery.paths, read.gallery.identities, strict=True)
    )
    digests = {dataset.digest(path) for path in photos.values()}
    assert {dataset.digest(path) for path in (read.probes + read.gallery).paths} <= digests


def test_a_dataset_that_cannot_be_read_is_refused(folder, tmp_path):
    packed = identity_folder.pack(folder, tmp_path / "packed")
    info = packed / "dataset_info.json"
    written = info.read_text()
    info.write_text(written.replace("array_record", "tfrecord"))
    with pytest.raises(
        UserError, match=r"in TFRECORD, .* prepare it with file_format=array_record$"
    ):
        dataset.photo_folder(packed, tmp_path / "cache")
    for damaged in ("{}", "no JSON"):
        info.write_text(damaged)
        with pytest.raises(UserError, match="is not a dataset that TFDS can read"):
            dataset.photo_folder(packed, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_photos_below_folders_of_a_person(tmp_path):
    root = tmp_path / "people"
    names = [
        f"00{person}/{view}/0{photo}.png"
        for person in range(5)
        for view in ("frontal", "profile")
        for photo in (1, 2)
    ]
    for shade, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (shade, 0, 0)).save(root / name)
    (root / "000/frontal/notes.txt").touch()
    people = people_of(root)
    assert list(people) == ["000", "001", "002", "003", "004"]
    assert people["000"] == ["frontal/01.png", "frontal/02.png", "profile/01.png", "profile/02.png"]

    out = tmp_path / "made.json"
    protocols.write(protocols.identification(people, 2, 1, 2, 0), root, out)
    read = dataset.read_protocol(out, root)
    used = (read.probes + read.gallery + read.targets).paths
    assert {str(path.relative_to(root)) for path in used} == set(names)
    assert set(read.gallery.identities) == set(people)
    packed = identity_folder.pack(root, tmp_path / "packed")
    carried = dataset.read_protocol(out, dataset.photo_folder(packed, tmp_path / "cache"))
    assert carried.gallery.identities == read.gallery.identities

    protocols.write(protocols.verification(people, 2, 2, [], 0), root, tmp_path / "pairs.json")
    manifest = matching.read(tmp_path / "pairs.json", root)
    for photo, other in manifest.others.items():
        assert photo.relative_to(root).parts[0] == other.relative_to(root).parts[0]

    # A gallery of strangers, all in one folder elsewhere.
    protocols.write(protocols.identification(people, 2, 1, 0, 0), root, out)
    for shade, name in enumerate(("5/a.png", "5/b.png", "6/a.png")):
        (tmp_path / "gallery" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (0, shade, 1)).save(tmp_path / "gallery" / name)
    (root / "Gallery").symlink_to(tmp_path / "gallery")
    people = people_of(root)
    with pytest.raises(
        UserError, match=r"1 people of a\.json are not in this folder, nobody first"
    ):
        protocols.based(_with(out, tmp_path / "a.json", distractors=["nobody"]), people)
    given = _with(out, tmp_path / "b.json", distractors=["Gallery"])
    protocols.write(protocols.based(given, people), root, tmp_path / "with_gallery.json")
    grown = dataset.read_protocol(tmp_path / "with_gallery.json", root)
    assert grown.gallery.identities.count("Gallery") == 3


def _with(manifest: Path, out: Path, **changes) -> Path:
    """A copy of a manifest, fields changed or, if None, left out."""
    entries = json.loads(manifest.read_text()) | changes
    out.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    return out


def test_bad_input_of_make_protocol_is_one_sentence(folder, tmp_path):
    made(folder, tmp_path / "made.json")
    drawn = protocols.verification(people_of(folder), 3, 2, [], 0)
    protocols.write(drawn, folder, tmp_path / "pairs.json")
    plain = _with(tmp_path / "pairs.json", tmp_path / "plain.json", others=None, hashes=None)
    cut = _with(tmp_path / "made.json", tmp_path / "cut.json", gallery=None)
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("no JSON")
    gone = _with(tmp_path / "pairs.json", tmp_path / "gone.json", photos=["p1/none.png"])
    small = "--num_probes=3 --num_targets=2 --num_distractors=3"
    out = tmp_path / "out.json"
    here = f"--data_dir={folder} --out={out}"
    said = launched(
        f"{here} --base={plain}",
        f"{here} --base={cut}",
        f"{here} --base={tmp_path / 'list.json'}",
        f"{here} --base={tmp_path / 'text.json'}",
        f"{here} --base={tmp_path / 'absent.json'}",
        f"{here} --base={gone}",
        f"--data_dir={folder} --out={tmp_path / 'text.json' / 'out.json'} {small}",
        f"--data_dir={tmp_path / 'absent'} --out={out} {small}",
        f"--data_dir={folder} --out={out} --kind=verification --target_pairs=p1/0.png",
    )
    assert said[0].startswith(f"wrote {out}: 3 photos, 2 targets")
    expected = [
        r"cut.json is not a protocol \(it has no field 'gallery'\)",
        r"list.json is not a protocol",
        r"text.json is not a protocol",
        r"absent.json is not a protocol \(.*No such file",
        r"1 photos of out.json are not below .*; check --data_dir$",
        r"text.json/out.json cannot be written \(.+\)$",
        r"absent is no folder; give --data_dir a folder of photos$",
        r"'p1/0.png' .*AIM:TEST",
    ]
    assert len(said) == 1 + len(expected)
    for line, pattern in zip(said[1:], expected, strict=True):
        assert re.match(f"error: .*{pattern}", line), line


def test_photos_are_fixed_by_hash(folder, tmp_path):
    made(folder, tmp_path / "a.json")
    other = tmp_path / "other"
    for path in folder.glob("*/*"):
        (other / path.parent.name).mkdir(parents=True, exist_ok=True)
        (other / path.parent.name / path.name).write_bytes(path.read_bytes())
    protocol = dataset.read_protocol(tmp_path / "a.json", other)
    changed = protocol.gallery.paths[0]
    changed.write_bytes(changed.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"^1 photos below .* are not those .*make a new manifest"):
        dataset.read_protocol(tmp_path / "a.json", other)
    changed.unlink()
    with pytest.raises(UserError, match=r"1 photos of a.json are not below .* check --data_dir"):
        dataset.read_protocol(tmp_path / "a.json", other)


def test_hashes_are_added_to_a_split_that_has_none(folder, tmp_path):
    manifest = made(folder, tmp_path / "a.json")
    plain = {key: value for key, value in manifest.items() if key != "hashes"}
    plain["distractors"] = list(plain["distractors"])
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    ours, theirs = (
        dataset.read_protocol(tmp_path / name, folder) for name in ("a.json", "plain.json")
    )
    assert ours._replace(name="") == theirs._replace(name="")
    based = protocols.based(tmp_path / "plain.json", people_of(folder))
    assert protocols.hashed(based, folder) == manifest


def test_a_verification_protocol(folder, tmp_path):
    manifest = protocols.verification(people_of(folder), 4, 2, [], 0)
    aims = manifest["targets"]
    assert all(a["aim"] != a["test"] and a["aim"].startswith(f"{n}/") for n, a in aims.items())
    people = [Path(photo).parent.name for photo in manifest["photos"]]
    assert len(set(people)) == 4
    assert not set(people) & set(aims)
    for photo, other in manifest["others"].items():
        assert photo != other
        assert Path(photo).parent == Path(other).parent
    assert len(manifest["others"]) == 4  # people with several photos come first

    people = people_of(folder / "p7")
    manifest = protocols.verification(people, 2, 4, ["0.png:1.png"], 0)
    assert sorted(manifest["photos"]) == ["2.png", "3.png"]
    assert manifest["targets"] == {"0": {"aim": "0.png", "test": "1.png"}}


def test_too_small_a_folder_is_refused(folder, tmp_path):
    people = people_of(folder)
    with pytest.raises(
        UserError, match="8 probes, 10 targets and 5 strangers do not come out of 9 p"
    ):
        protocols.identification(people, 8, 10, 5, 0)
    with pytest.raises(UserError, match="9 photos and 4 targets do not come out"):
        protocols.verification(people, 9, 4, [], 0)
    with pytest.raises(UserError, match="name the --target_pairs"):
        protocols.verification(people_of(folder / "p7"), 2, 4, [], 0)
    (tmp_path / "nobody").mkdir()
    with pytest.raises(UserError, match="holds no photos"):
        people_of(tmp_path)


def test_the_protocol_of_the_research_data(research_data):
    protocol = dataset.read_protocol(
        research_data / "lfw/protocol.json", research_data / "lfw/photos"
    )
    assert len(protocol.probes.paths) == 500
    assert len(protocol.targets.paths) == 10
    assert len(protocol.gallery.paths) == 1904
