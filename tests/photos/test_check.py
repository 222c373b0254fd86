"""Who is found in a gallery, before and after, and what `tipim check` says of it."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.photos import album as albums
from tipim_jax.commands import check as command
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.core.types import l2_normalise
from tipim_jax.errors import UserError
from tipim_jax.photos import gallery as galleries
from tipim_jax.photos import originals
from tipim_jax.photos.check import Candidate, FaceSearch, Search, check, look_up
from tipim_jax.photos.faces import Located, align
from tipim_jax.photos.gallery import read_gallery
from tipim_jax.photos.verify import Verifier

# People are colours. Cosines: red and pink 0.92, pink and grey 0.89, green or blue and teal 0.74.
RED, PINK, GREEN, BLUE = (250, 10, 10), (250, 90, 90), (10, 250, 10), (10, 10, 250)
TEAL, GREY, BLACK = (10, 200, 200), (120, 120, 120), (0, 0, 0)


def find(pixels):
    """A face in every square of the photo's height that is not black, the first the largest."""
    height, width = pixels.shape[:2]
    faces = []
    for left in range(0, width - height + 1, height):
        if pixels[:, left : left + height].max() > 60:
            landmarks = CANVAS_LANDMARKS * height / 160 + [left, 0]
            box = (float(left), 0.0, height - len(faces), height - len(faces))
            faces.append(align(pixels, landmarks, tuple(map(float, box))))
    return faces


def judge(name="eye", threshold=0.9) -> Verifier:
    """One that knows people by the mean colour of the middle of their face."""

    def embed(params, canvases):
        return jax.vmap(lambda c: l2_normalise(c[60:100, 60:100].mean((0, 1))))(canvases)

    return Verifier(name, embed, (), threshold)


def photo(*colours, height=60) -> np.ndarray:
    return np.concatenate([np.full((height, height, 3), c, np.uint8) for c in colours], axis=1)


def save(path: Path, *colours, height=60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(*colours, height=height)).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Red and Pink have folders, Red two photos of which one shows Green as well; the others are loose."""
    root = tmp_path / "gallery"
    save(root / "Red" / "1.png", RED, GREEN)
    save(root / "Red" / "deep" / "2.png", RED)
    save(root / "Pink" / "1.png", PINK)
    save(root / "green.png", GREEN)
    save(root / "both.png", TEAL, BLUE)
    save(root / "nobody.png", BLACK)
    save(root / "small.png", BLUE, height=15)
    (root / "broken.jpg").write_text("no photo")
    (root / "notes.txt").write_text("no photo")
    return root


@pytest.fixture
def known(folder):
    return read_gallery(folder, find, [judge()])


def test_a_gallery_is_a_folder_for_each_person_or_photos_that_stand_for_themselves(folder):
    seen = []
    known = read_gallery(folder, find, [judge()], each=lambda done, of: seen.append((done, of)))
    assert known.people == ("Pink", "Red", "both.png face 1", "both.png face 2", "green.png")
    assert [known.people[i] for i in known.person] == [
        *("Pink", "Red", "Red", "both.png face 1", "both.png face 2", "green.png")
    ]
    assert known.embeddings["eye"].shape == (6, 3)
    assert known.paths[1] == (folder / "Red" / "1.png").resolve()
    names = {path.name: why for path, why in known.skipped}
    assert names.keys() == {"nobody.png", "small.png", "broken.jpg"}
    assert "shows no face that is large enough" in names["small.png"]
    assert seen == [(i, 8) for i in range(1, 9)]


def test_few_faces_of_a_gallery_are_in_memory_at_a_time(folder, monkeypatch):
    together = read_gallery(folder, find, [judge()])
    monkeypatch.setattr(galleries, "_AT_ONCE", 2)
    embed, counts = galleries.embed_canvases, []

    def counted(verifier, canvases):
        counts.append(len(canvases))
        return embed(verifier, canvases)

    monkeypatch.setattr(galleries, "embed_canvases", counted)
    apart = read_gallery(folder, find, [judge()])
    assert counts == [2, 2, 2]
    np.testing.assert_array_equal(apart.embeddings["eye"], together.embeddings["eye"])


def test_galleries_of_nobody(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a folder; give a folder of photos of"):
        read_gallery(tmp_path / "nowhere", find, [judge()])
    with pytest.raises(UserError, match=r"holds no photo with a face to compare with"):
        read_gallery(tmp_path, find, [judge()])


def test_people_rank_once_by_their_nearest_photo(known):
    (one,) = look_up(photo(PINK), None, known, find, [judge()]).faces
    search = one.after["eye"]
    assert [c.name for c in search.nearest[:3]] == ["Pink", "Red", "both.png face 1"]
    assert [c.rank for c in search.nearest[:3]] == [1, 2, 3]
    assert len(search.nearest) == 5
    assert search.nearest[0].cosine == pytest.approx(1, abs=1e-4)
    assert one.found == {"eye": search.nearest[0]}
    assert (one.person, one.before, one.lost) == ("", {}, False)


def test_without_an_original_whoever_is_found_counts(known):
    result = look_up(photo(GREEN, GREY), None, known, find, [judge()])
    assert [str(face.face) for face in result.faces] == ["face 1 (left)", "face 2 (right)"]
    assert [[hit.name for hit in face.found.values()] for face in result.faces] == [
        ["green.png"],
        [],
    ]
    assert result.found
    assert not look_up(photo(GREY), None, known, find, [judge()]).found


def test_with_an_original_only_the_person_counts(known):
    result = look_up(photo(BLUE, PINK), photo(RED, PINK), known, find, [judge()])
    red, pink = result.faces
    assert (red.person, pink.person) == ("Red", "Pink")
    assert red.found_before["eye"].cosine == pytest.approx(1, abs=1e-3)
    assert red.after["eye"].nearest[0].name == "both.png face 2"
    assert red.after["eye"].person.name == "Red"
    assert red.after["eye"].person.rank > 1
    assert red.after["eye"].person.cosine < 0.9
    assert red.found == {}
    assert pink.found["eye"].name == "Pink"
    assert result.found


def test_the_person_is_found_at_any_of_five_ranks_above_the_threshold(known):
    (one,) = look_up(photo(PINK), photo(RED), known, find, [judge()]).faces
    assert one.found["eye"] == Candidate("Red", 2, one.found["eye"].cosine)
    (one,) = look_up(photo(PINK), photo(RED), known, find, [judge(threshold=0.95)]).faces
    assert one.found == {}
    far = Candidate("Red", 6, 0.8)
    near = tuple(Candidate(str(i), i, 0.9) for i in range(1, 6))
    assert Search(near, far, 0.7).hit() is None
    assert Search(near, far, 0.7).hit(anyone=True) == near[0]
    assert Search(near, far._replace(rank=5), 0.7).hit() == far._replace(rank=5)


def test_most_recognisers_decide_who_it_is_and_one_is_enough_to_find(known):
    def twisted(params, canvases):
        return judge().embed(params, canvases)[:, ::-1]

    others = [judge("one"), judge("two"), judge("odd")._replace(embed=twisted)]
    gallery = known._replace(
        embeddings={name: known.embeddings["eye"] for name in ("one", "two", "odd")}
    )
    (one,) = look_up(photo(BLUE), photo(RED), gallery, find, others).faces
    assert one.person == "Red"  # to "odd" it was blue
    assert one.found_before.keys() == {"one", "two"}
    assert one.found.keys() == {"odd"}


def test_whom_nobody_knew_before_cannot_be_found_after(known):
    result = look_up(photo(RED), photo(GREY), known, find, [judge(threshold=0.95)])
    (one,) = result.faces
    assert (one.person, one.found, one.found_before) == ("", {}, {})
    assert one.after["eye"].nearest[0].name == "Red"
    assert not result.found


def test_a_photo_is_not_compared_with_itself_but_with_its_original(folder, known):
    path = folder / "green.png"
    result = look_up(path, None, known, find, [judge()])
    assert [c.name for c in result.faces[0].after["eye"].nearest] != []
    assert "green.png" not in [c.name for c in result.faces[0].after["eye"].nearest]
    assert result.notes == ("it is in the gallery itself, and is not compared with itself",)
    copy = save(folder.parent / "copy.png", GREEN)
    (one,) = look_up(copy, path, known, find, [judge()]).faces
    assert (one.person, one.found["eye"].rank) == ("green.png", 1)


def test_faces_are_matched_by_place_whatever_the_size_and_looked_up_where_they_were(known):
    result = look_up(photo(BLACK, PINK, height=90), photo(RED, PINK), known, find, [judge()])
    assert [(one.person, one.lost) for one in result.faces] == [("Red", True), ("Pink", False)]
    assert result.faces[1].found["eye"].rank == 1


def test_a_photo_of_another_shape_is_no_original(known):
    result = look_up(photo(RED), photo(RED, PINK), known, find, [judge()])
    assert result.faces == ()
    assert (
        result.error == "photo and its original differ in shape; give the photo that it was made of"
    )


def test_small_faces_and_none(known):
    small = look_up(photo(RED, height=15), None, known, find, [judge()])
    assert small.faces == ()
    assert small.notes == ("face 1 (centre): left out, smaller than 20 pixels",)
    assert look_up(photo(BLACK), None, known, find, [judge()]).notes == ("no face was found",)


def test_one_bad_photo_stops_nobody(folder, tmp_path):
    images = [tmp_path / "nowhere.png", photo(RED)]
    bad, good = check(images, folder, find=find, judges=[judge()])
    assert (bad.faces, bad.error) == ((), f"{images[0]} does not exist")
    assert good.found
    again = check(images[1:], folder, originals=[photo(GREEN)], find=find, judges=[judge()])
    assert (again[0].faces[0].found, again[0].found) == ({}, False)


@pytest.fixture
def tipim_check(folder, bare_tipim, monkeypatch):
    """`tipim check` with recognisers of colours."""
    judges = [judge("eye"), judge("lens", 0.95)]
    monkeypatch.setattr(command, "finder", lambda: find)
    monkeypatch.setattr(command, "verifiers", lambda names: [j for j in judges if j.name in names])
    monkeypatch.setattr(command, "ready", lambda given: judges if given is None else given)

    def run(*arguments):
        return bare_tipim("check", *arguments, "--gallery", folder)

    return run


def test_found_without_an_original(tipim_check, tmp_path):
    path = save(tmp_path / "a.png", PINK, GREY)
    code, out, err = tipim_check(path, "--models=eye")
    assert code == 1
    assert err.startswith("tipim: 3 photos of the gallery gave no face: ")
    lines = out.splitlines()
    assert lines[0] == f"{path}, face 1 (left): found as Pink by 1 of 1 recogniser."
    assert lines[1] == f"{path}, face 2 (right): nobody is found above a threshold."
    assert lines[-1] == "Found: 1 of 2 faces, in a gallery of 5 people (5 photos)."
    heading = next(line for line in lines if line.startswith("photo "))
    assert heading.split("  ")[-1] == "ranks 2 to 5 above it"


def test_before_and_after(tipim_check, tmp_path):
    before = save(tmp_path / "before" / "a.png", RED, GREEN)
    after = save(tmp_path / "after" / "a.jpg", PINK, BLUE)
    for given in (before, before.parent):
        code, out, _ = tipim_check(after, "--before", given)
        first, second, *rest = out.splitlines()
        assert code == 1
        assert first == (
            f"{after}, face 1 (left): still found as Red by 1 of 2 recognisers: eye at rank 2 "
            "(before, by 2 of 2 recognisers)."
        )
        assert second == (
            f"{after}, face 2 (right): no longer found as green.png (before, by 2 of 2 recognisers)."
        )
        assert rest[-1] == "Found: 1 of 2 faces, in a gallery of 5 people (5 photos)."
        row = next(line for line in rest if line.startswith(f"{after}     1  eye"))
        assert "Red        1.000 (1)" in row
    code, out, _ = tipim_check(after, "--before", before, "--models=lens")
    assert (code, "no longer found as Red" in out) == (0, True)


def test_the_report_of_the_protected_photos_names_the_originals(tipim_check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in" / "a.png", RED)
    save(tmp_path / "out" / "a.png", GREEN)
    save(tmp_path / "out" / "tipim-pictures" / "a.png-face1.png", RED)
    entry = {"photos": [{"source": "in/a.png", "output": "out/a.png"}]}
    (tmp_path / "out" / "report.json").write_text(json.dumps(entry))
    code, out, _ = tipim_check("out")
    assert code == 0
    assert out.startswith("out/a.png, face 1 (centre): no longer found as Red (before, by 2 of 2")
    assert "face1.png" not in out
    shutil.rmtree(tmp_path / "in")
    code, out, _ = tipim_check("out")
    assert code == 1
    assert "out/a.png: its original, in/a.png, is not there any more; give it with --before." in out


def test_what_could_not_be_looked_up_has_an_exit_code_of_its_own(tipim_check, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no photo")
    nobody = save(tmp_path / "nobody.png", BLACK)
    found = save(tmp_path / "red.png", RED)
    assert tipim_check(nobody).code == 0
    code, out, err = tipim_check(nobody, text)
    assert code == 2
    assert f"tipim: {text} is not a" in err
    assert f"{nobody}: no face was found." in out
    assert tipim_check(nobody, text, found).code == 1


def test_usage(tipim_check, bare_tipim, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    one, two = save(tmp_path / "1.png", RED), save(tmp_path / "2.png", RED)
    for arguments, message in (
        (
            (one, "--before", tmp_path / "nowhere"),
            "nowhere does not exist; --before takes a photo or",
        ),
        ((one, two, "--before", one), "1.png is one photo; with several photos, give --before a"),
        ((tmp_path / "empty",), "empty holds no photo"),
    ):
        code, out, err = tipim_check(*arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    code, _, err = tipim_check(one, "--before", tmp_path / "empty")
    assert code == 2
    assert (
        f"{tmp_path}/empty holds no original of {one}; give the photo itself with --before" in err
    )
    code, out, err = bare_tipim("check", one)
    assert (code, out) == (2, "")
    assert "required: --gallery" in err


def test_chance_hits_are_spoken_of_in_a_large_gallery(known):
    many = known._replace(people=tuple(f"person {i}" for i in range(250)))
    result = look_up(photo(RED), None, known, find, [judge()])
    text = command.described([result], many)
    assert "of 250 people, 0.2 for every face and recogniser." in text
    assert "by chance" not in command.described([result], known)


def test_control_characters_of_names_are_not_printed(known):
    face = Located(1, "centre", find(photo(RED))[0])
    search = {"eye": Search((Candidate("e\x1b[2Jvil\n", 1, 0.9),), None, 0.7)}
    result = look_up(photo(RED), None, known, find, [judge()])
    text = command.described(
        [result._replace(faces=(FaceSearch(face, "", {}, search, False),))], known
    )
    assert "\x1b" not in text
    assert "vil\n" not in text


def test_originals_by_name(tmp_path):
    root = tmp_path / "in"
    (root / "c").mkdir(parents=True)
    for name in ("a.png", "sub/a.JPG", "sub/b.heic", "c.heic", "c.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    for output, original in (
        ("a.png", "a.png"),
        ("sub/a.png", "sub/a.JPG"),
        ("sub/b.heic.jpg", "sub/b.heic"),
        ("c.jpg", "c.heic"),
    ):
        assert originals.by_name(tmp_path / "out" / output, root) == root / original
    for photo in (tmp_path / "out" / "d.png", root / "sub" / "b.heic"):
        with pytest.raises(UserError, match="holds no original of"):
            originals.by_name(photo, root)


def test_originals_by_report(tmp_path, monkeypatch):
    out, source = tmp_path / "out", tmp_path / "in" / "sub" / "a.heic"
    for path in (source, out / "sub" / "a.png", out / "b.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    report = {"photos": [{"source": "in/sub/a.heic", "output": "out/sub/a.png"}, {"output": None}]}
    for name, text in (
        ("report.json", json.dumps(report)),
        ("report-2.json", "{"),
        ("report-3.json", "[]"),
    ):
        (out / name).write_text(text)
    # from wherever the command is run now, and with absolute paths
    monkeypatch.chdir(source.parent)
    assert originals.by_report(Path("../../out/sub/a.png")) == source
    assert originals.by_report(out / "b.png") is None
    report["photos"] = [{"source": str(source), "output": str(out / "sub" / "a.png")}]
    (out / "report.json").write_text(json.dumps(report) + " ")
    assert originals.by_report(out / "sub" / "a.png") == source
    moved = out.rename(tmp_path / "moved")
    assert originals.by_report(moved / "sub" / "a.png") == source


def test_the_album(tipim, album, tmp_path):
    for name in ("macron_2025", "sunak", "obama"):
        (tmp_path / "gallery" / name).mkdir(parents=True)
        albums.face(f"{name}.jpg").save(tmp_path / "gallery" / name / "1.png")
    code, out, err = tipim("check", album.protected / "two.png", "--gallery", tmp_path / "gallery")
    assert err == ""
    first, second = out.splitlines()[:2]
    assert "face 1 (left): " in first
    assert " as macron_2025 " in first
    assert " as sunak " in second
    assert "before, by 2 of 2 recognisers" in first
    assert code == int("still found" in first + second)
