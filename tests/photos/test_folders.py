"""Which photos are found, and where each goes."""

import os
from pathlib import Path

import pytest

from tipim_jax.photos.files import PhotoError
from tipim_jax.photos.folders import discover, prepare_output


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
    assert found.problems == []


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
    assert "empty holds no photo (.bmp," in messages[1]
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


def test_equal_outputs_are_refused_after_the_first(tmp_path):
    tree(tmp_path, "x/a.jpg", "y/a.jpg")
    found = discover([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"], tmp_path / "out")
    assert outputs(found) == ["a.jpg"]
    assert found.problems[0][0] == tmp_path / "y" / "a.jpg"
    assert "would both be saved as a.jpg" in found.problems[0][1]


def test_a_format_sets_the_suffix(tmp_path):
    photos = tree(tmp_path / "in", "a.jpeg", "b.heic", "b.tif", "c.png", "c.bmp", "d.JPG")
    found = discover([photos], tmp_path / "out", format="png")
    assert outputs(found) == [
        "a.png", "b.heic.png", "b.tif.png", "c.bmp.png", "c.png", "d.png"
    ]  # fmt: skip
    jpg = discover([photos], tmp_path / "out", format="jpeg")
    assert outputs(jpg)[0] == "a.jpeg"
    assert outputs(jpg)[-1] == "d.JPG"
    with pytest.raises(PhotoError, match="unknown"):
        discover([photos], tmp_path / "out", format="gif")


def test_inputs_are_never_outputs(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "sub/b.jpg")
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos], photos)
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos / "a.jpg"], photos, overwrite=True)
    other = tree(tmp_path / "other", "c.jpg")
    with pytest.raises(PhotoError, match="is one of the photos given"):
        discover([photos, other], tmp_path)


def test_existing_outputs_are_known_before_any_work(tmp_path):
    photos = tree(tmp_path / "in", "a.jpg", "b.jpg")
    out = tree(tmp_path / "out", "a.jpg")
    found = discover([photos], out)
    assert outputs(found) == ["b.jpg"]
    assert "exists already" in found.problems[0][1]
    assert outputs(discover([photos], out, overwrite=True)) == ["a.jpg", "b.jpg"]


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
