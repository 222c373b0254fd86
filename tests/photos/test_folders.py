"""Which photos are found, and where each goes."""

import os
from pathlib import Path

import numpy as np
import pytest

from tipim_jax.photos.folders import discover, output_names, prepare_output, unoccupied
from tipim_jax.photos.photo import PhotoError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def outputs(found) -> list[str]:
    return [job.output.as_posix() for job in found.jobs]


def test_one_folder_is_mirrored_in_order(tmp_path):
    photos = tree(
        tmp_path / "in", "b.JPG", "a.png", "sub/deep/c.webp", "sub/d.heic", "notes.txt", ".e.jpg",
        ".cache/f.jpg",
    )  # fmt: skip
    found = discover([photos], tmp_path / "out")
    assert outputs(found) == ["a.png", "b.JPG", "sub/d.heic", "sub/deep/c.webp"]
    assert [job.source for job in found.jobs] == [photos / name for name in outputs(found)]
    assert found.others == [photos / "notes.txt"]
    assert found.problems == []


def test_pictures_that_an_earlier_run_wrote_are_no_photos(tmp_path):
    made = tree(tmp_path / "in", "a.png", "pictures/a.png", "tipim-pictures/a.png-face1.png")
    assert outputs(discover([made], tmp_path / "out")) == ["a.png", "pictures/a.png"]


def test_several_folders_keep_their_names_and_files_come_as_given(tmp_path):
    one = tree(tmp_path / "one", "a.jpg")
    two = tree(tmp_path / "two", "a.jpg", "sub/b.jpg")
    tree(tmp_path, "photo.strange")
    found = discover([two, tmp_path / "photo.strange", one], tmp_path / "out")
    assert outputs(found) == ["two/a.jpg", "two/sub/b.jpg", "photo.strange", "one/a.jpg"]


def test_what_is_named_twice_is_done_once(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "b.jpg")
    found = discover([photos / "b.jpg", photos, photos], tmp_path / "out")
    assert outputs(found) == ["b.jpg", "a.jpg"]
    assert found.problems == []


def test_a_link_to_nowhere_is_one_photo_that_cannot_be_read(tmp_path):
    (tmp_path / "in").mkdir()
    link = tmp_path / "in" / "a.jpg"
    link.symlink_to(tmp_path / "nowhere.jpg")
    for inputs in ([tmp_path / "in", link], [link, tmp_path / "in"]):
        found = discover(inputs, tmp_path / "out")
        assert ([job.source for job in found.jobs], found.problems) == ([link], [])


def test_the_output_folder_inside_an_input_is_left_aside(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "protected/old.jpg", "sub/b.jpg")
    assert outputs(discover([photos], photos / "protected")) == ["a.jpg", "sub/b.jpg"]
    assert outputs(discover([photos], photos / "sub" / ".." / "protected")) == [
        "a.jpg",
        "sub/b.jpg",
    ]


def test_bad_inputs_are_problems_and_the_others_are_done(tmp_path):
    good = tree(tmp_path / "in", "a.jpg")
    (tmp_path / "empty").mkdir()
    text = tree(tmp_path / "text", "readme.txt")
    found = discover([tmp_path / "none", tmp_path / "empty", text, good], tmp_path / "out")
    assert outputs(found) == ["in/a.jpg"]
    messages = [message for _, message in found.problems]
    assert messages[0].endswith("none does not exist")
    assert "empty holds no photo (JPEG," in messages[1]
    assert "text holds no photo" in messages[2]
    with pytest.raises(PhotoError, match="no photo or folder is given"):
        discover([], tmp_path / "out")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs a folder it may not read"
)
def test_an_unreadable_folder_is_a_problem(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "locked/b.jpg")
    (photos / "locked").chmod(0)
    found = discover([photos], tmp_path / "out")
    (photos / "locked").chmod(0o700)
    assert "cannot be read (Permission denied)" in found.problems[0][1]


def test_of_equal_names_the_first_is_kept_and_the_others_are_numbered(tmp_path):
    tree(tmp_path, "x/a.jpg", "y/a.jpg", "z/a-2.jpg", "z/a.JPG")
    files = [tmp_path / name for name in ("x/a.jpg", "y/a.jpg", "z/a-2.jpg", "z/a.JPG")]
    found = discover(files, tmp_path / "out")
    assert outputs(found) == ["a.jpg", "a-3.jpg", "a-2.jpg", "a-4.JPG"]
    assert found.problems == []
    notes = [job.note for job in found.jobs]
    assert notes[0] == notes[2] == ""
    assert notes[1] == "saved as a-3.jpg, since another photo has its name"


def test_folders_of_one_name_are_kept_apart(tmp_path):
    one = tree(tmp_path / "2019" / "holiday", "a.jpg", "b.jpg")
    two = tree(tmp_path / "2020" / "holiday", "a.jpg")
    found = discover([one, two, one], tmp_path / "out")
    assert outputs(found) == ["holiday/a.jpg", "holiday/b.jpg", "holiday-2/a.jpg"]
    assert [job.note for job in found.jobs] == ["", "", ""]


NAMES = [
    (["a", "a.jpg"], None, ["a", "a.jpg"]),
    (["a", "a.jpg"], "jpg", ["a-2.jpg", "a.jpg"]),
    (["b/a.jpg", "c/a.jpg"], None, ["b/a.jpg", "c/a.jpg"]),
    (["a.jpg", "a.jpg", "a.jpg"], None, ["a.jpg", "a-2.jpg", "a-3.jpg"]),
    (["a.jpg", "A.JPG"], None, ["a.jpg", "A-2.JPG"]),
    (["e\u0301.png", "\u00e9.png"], None, ["e\u0301.png", "\u00e9-2.png"]),
    (["a.heic", "b.heic"], "png", ["a.png", "b.png"]),
    (["a.heic", "a.tif"], "png", ["a.heic.png", "a.tif.png"]),
    (["a.heic", "a.heic.png", "a.png"], "png", ["a.heic-2.png", "a.heic.png", "a.png"]),
    ([], None, []),
]


@pytest.mark.parametrize(("names", "format", "expected"), NAMES)
def test_names_of_outputs(names, format, expected):
    assert output_names(names, format) == expected


def test_no_two_photos_go_to_one_place():
    rng = np.random.default_rng(0)
    parts = ["a", "A", "a-2", "a-3", "b"]
    suffixes = ["", ".jpg", ".JPG", ".png", ".heic", ".heic.png"]
    for format in (None, "png", "jpg"):
        for _ in range(50):
            names = [
                f"{rng.choice(['x', 'X', 'y'])}/{rng.choice(parts)}{rng.choice(suffixes)}"
                for _ in range(60)
            ]
            given = output_names(names, format)
            assert len({name.lower() for name in given}) == len(names)
            assert given == output_names(names, format)


def test_a_format_sets_the_suffix(tmp_path):
    photos = tree(tmp_path / "in", "a.jpeg", "b.heic", "b.tif", "c.png", "c.bmp", "d.JPG")
    found = discover([photos], tmp_path / "out", format="png")
    assert outputs(found) == [
        "a.png", "b.heic.png", "b.tif.png", "c.bmp.png", "c.png", "d.png"
    ]  # fmt: skip
    gifs = tree(tmp_path / "gifs", "a.gif", "b.gif", "b.png")
    assert outputs(discover([gifs], tmp_path / "out")) == ["a.png", "b.gif.png", "b.png"]
    jpg = discover([photos], tmp_path / "out", format="jpeg")
    assert outputs(jpg)[0] == "a.jpeg"
    assert outputs(jpg)[-1] == "d.JPG"
    with pytest.raises(PhotoError, match="only read"):
        discover([photos], tmp_path / "out", format="gif")


def test_inputs_are_never_outputs(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "sub/b.jpg")
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos], photos)
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos / "a.jpg"], photos)
    other = tree(tmp_path / "other", "c.jpg")
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos, other], tmp_path)


def test_existing_outputs_are_known_before_any_work(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "b.jpg")
    out = tree(tmp_path / "out", "a.jpg")
    jobs = discover([photos], out).jobs
    free, problems = unoccupied(jobs, out)
    assert free == jobs[1:]
    ((source, text),) = problems
    assert source == photos / "a.jpg"
    assert "exists already" in text


def test_the_output_folder_is_made_and_tried(tmp_path):
    assert prepare_output(tmp_path / "deep" / "er").is_dir()
    assert list((tmp_path / "deep" / "er").iterdir()) == []
    file = tree(tmp_path, "file") / "file"
    with pytest.raises(PhotoError, match=r"cannot be written to \(it is a file\)"):
        prepare_output(file)
    with pytest.raises(PhotoError, match="cannot be written to"):
        prepare_output(file / "below")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs a folder it may not write"
)
def test_a_locked_output_folder_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PhotoError, match="Permission denied"):
        prepare_output(tmp_path / "locked")
