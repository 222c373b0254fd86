"""Targets: made from photos, saved whole or not at all, and read back."""

import numpy as np
import pytest

from tests.photos import album as albums
from tests.photos.conftest import QUICK
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos import targets, verify
from tipim_jax.photos.targets import Targets

PEOPLE = ("macron_2014.jpg", "sunak.jpg", "obama.jpg")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Three people: one with two photos in a folder of their own, the first of them damaged."""
    folder = tmp_path_factory.mktemp("people")
    for name in PEOPLE[:2]:
        albums.face(name).save(folder / f"{name[:-4]}.png")
    (folder / "obama").mkdir()
    (folder / "obama" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    albums.face("obama.jpg").save(folder / "obama" / "b.png")
    albums.small_face().save(folder / "small.png")
    return folder


@pytest.fixture
def sface(prepared):
    return prepared[1][2]("sface")


def test_built_in_targets_are_ten_that_no_recogniser_takes_for_one_another():
    shipped = targets.built_in()
    assert len(shipped.names) == 10
    assert set(shipped.embeddings) == {"sface", "dlib"}
    for name, rows in shipped.embeddings.items():
        assert rows.shape == (10, 128)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
        mean, largest = targets.likeness(rows)
        assert mean < largest < verify.zoo.thresholds(name)["far_1e-3"]


def test_joined_targets_compare_as_the_weighted_mean_of_the_cosines():
    shipped = targets.built_in()
    joined = shipped.joined(["sface", "dlib"], [1.0, 4.0])
    cosines = [rows @ rows.T for rows in (shipped.embeddings["sface"], shipped.embeddings["dlib"])]
    np.testing.assert_allclose(joined @ joined.T, 0.2 * cosines[0] + 0.8 * cosines[1], atol=1e-5)


def test_saved_targets_come_back_under_the_very_name(tmp_path):
    rng = np.random.default_rng(0)
    made = Targets(("a", "b"), {"sface": rng.standard_normal((2, 128)).astype(np.float32)})
    targets.save(made, tmp_path / "deep" / "mine")
    again = targets.load(tmp_path / "deep" / "mine")
    assert again.names == made.names
    np.testing.assert_array_equal(again.embeddings["sface"], made.embeddings["sface"])
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mine"]
    with pytest.raises(ValueError, match="exists already"):
        targets.save(made, tmp_path / "deep" / "mine")


def test_every_photo_with_a_face_is_a_target(people, detector, sface):
    made = targets.from_photos(people, detector, [sface])
    assert made.names == ("macron_2014", "b", "sunak")
    assert made.embeddings["sface"].shape == (3, 128)
    assert targets.likeness(made.embeddings["sface"])[1] < sface.threshold


def test_targets_that_are_one_person_are_named_in_groups(monkeypatch):
    monkeypatch.setattr(targets, "_ROWS", 2)
    # angles in a plane: a, b and c are near one another in a chain, d and e are, f is alone
    angles = np.radians([0, 50, 100, 180, 220, 280])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    made = Targets(tuple("abcdef"), {"sface": rows})  # above 0.376 are angles below 67.9°
    assert targets.one_person(made) == [("a", "b", "c"), ("d", "e", "f")]
    alone = Targets(("a", "b"), {"sface": rows[[0, 2]]})
    assert targets.one_person(alone) == []
    assert targets.warning(alone) == ""


def test_more_than_half_of_the_recognisers_with_a_threshold_say_so():
    same, other = np.tile([1.0, 0.0], (2, 1)), np.eye(2)
    for embeddings, found in (
        ({"sface": same, "dlib": same}, True),
        ({"sface": same, "dlib": other}, False),
        ({"sface": same, "dlib": same, "expo": other}, True),
        ({"sface": same, "no such model": other}, True),
        ({"no such model": same}, False),
    ):
        made = Targets(("a", "b"), embeddings)
        assert bool(targets.one_person(made)) == found
        expected = "some targets are one person to most recognisers; keep one of each: a = b"
        assert targets.warning(made) == (expected if found else "")


def test_of_many_the_first_are_named():
    count = 9
    text = targets.warning(Targets(tuple(map(str, range(count))), {"sface": np.ones((count, 1))}))
    assert text.endswith(": 0 = 1 = 2 = 3 = 4 = 4 more")
    names = tuple(f"{i}{c}" for i in range(7) for c in "ab")
    text = targets.warning(Targets(names, {"sface": np.repeat(np.eye(7), 2, axis=0)}))
    assert text.endswith(": 0a = 0b; 1a = 1b; 2a = 2b; 3a = 3b; 4a = 4b; 2 more")


def test_the_built_in_targets_are_no_one_person_and_two_photos_of_one_are(
    detector, sface, tmp_path
):
    assert targets.warning(targets.built_in()) == ""
    for name in ("macron_2014", "macron_2025", "sunak"):
        albums.face(f"{name}.jpg").save(tmp_path / f"{name}.png")
    made = targets.from_photos(tmp_path, detector, [sface])
    assert targets.one_person(made) == [("macron_2014", "macron_2025")]


def test_faces_that_are_a_target_are_told(people, detector, sface):
    made = targets.from_photos(people, detector, [sface])
    faces = {
        number: find_faces.find(detector, np.asarray(albums.face(name)))[0]
        for number, name in {1: "macron_2025.jpg", 2: "collins.jpg", 5: "obama.jpg"}.items()
    }
    notes = targets.shown_by(made, faces, [sface])
    assert [note[:6] for note in notes] == ["face 1", "face 5"]
    assert "one of the targets (macron_2014); give others with --targets" in notes[0]
    stranger = sface._replace(name="dlib")
    assert targets.shown_by(made, faces, [stranger]) == []
    assert targets.shown_by(made, {}, [sface]) == []


def test_protect_warns_of_targets_that_are_one_person_or_the_person_protected(tipim, tmp_path):
    for name in ("macron_2014", "macron_2025"):
        path = tmp_path / "targets" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        albums.face(f"{name}.jpg").save(path)
    albums.face().save(tmp_path / "photo.png")
    arguments = ["--out", tmp_path / "out", "--targets", tmp_path / "targets", *QUICK]
    _, out, err = tipim("protect", tmp_path / "photo.png", *arguments)
    assert err == (
        "tipim: some targets are one person to most recognisers; keep one of each: "
        "macron_2014 = macron_2025\n"
    )
    assert (
        "face 1 is to most recognisers one of the targets (macron_2014, macron_2025); give others with "
        "--targets" in out
    )


def test_make_targets_warns_of_blends_of_the_same_people(tipim, people, tmp_path):
    # of three people there are three pairs
    arguments = ["--count=4", "--blend=2", "--models=sface"]
    code, _, err = tipim("make-targets", people, "--out", tmp_path / "made.npz", *arguments)
    assert code == 0
    assert err.startswith("tipim: some targets are one person to most recognisers; keep one of ")
    assert " = virtual " in err
    assert err.count("\n") == 1


def test_make_targets(tipim, people, tmp_path):
    path = tmp_path / "made.npz"
    arguments = ["--count=2", "--blend=2", "--models=sface"]
    code, out, err = tipim("make-targets", people, "--out", path, *arguments)
    assert (code, err) == (0, "")
    assert out.splitlines()[2].startswith("sface ")
    assert out.endswith(f"wrote 2 virtual identities to {path}\n")
    made = targets.load(path)
    assert made.names == ("virtual 1", "virtual 2")
    assert made.embeddings["sface"].shape == (2, 128)

    before = path.read_bytes()
    code, out, err = tipim("make-targets", people, "--out", path, *arguments)
    assert (code, out, err) == (2, "", f"tipim: {path} exists already; choose another name\n")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("folder", "options", "message"),
    [
        ("nowhere", [], r"nowhere is not a folder; give a folder of photos"),
        ("people", ["--count=0"], r"count and blend must be at least 1, not 0 and 5"),
        (
            "people",
            ["--blend=4"],
            r"people shows 3 people, fewer than the 4 of a blend; add photos",
        ),
        ("people", ["--models=arcface"], r"there is no model 'arcface'; known: sface, dlib"),
        ("empty", [], r"empty shows 0 people, fewer than the 5"),
        ("people", ["--count=many"], r"argument --count: invalid int value: 'many'"),
    ],
)
def test_bad_input_gets_one_line(tipim, people, tmp_path, folder, options, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "people").symlink_to(people)
    path = tmp_path / "made.npz"
    extra = [] if "--models=arcface" in options else ["--models=sface"]
    code, out, err = tipim("make-targets", tmp_path / folder, "--out", path, *options, *extra)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not path.exists()
