"""Photos of every kind, protected from end to end: what changes, by how much, and what does not."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.photos import album as albums
from tests.photos.conftest import EPSILON, QUICK
from tipim_jax.analysis import metrics
from tipim_jax.core.geometry import CANVAS_SIZE, invert
from tipim_jax.photos import colour
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.crops import apply
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.finish import _region


@pytest.fixture
def pair(album):
    """`pair(name)`: a photo of the album, and what became of it."""
    return lambda name: (read_photo(album.folder / name), read_photo(album.protected / name))


def change(before, after) -> np.ndarray:
    return after.pixels.astype(int) - before.pixels


def on_canvas(faces, shape) -> np.ndarray:
    """[H,W] whether a pixel lies on the canvas of one of the faces."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    points = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    inside = [apply(invert(face.matrix), points) for face in faces]
    hits = [((p >= 0) & (p <= CANVAS_SIZE - 1)).all(1) for p in inside]
    return np.any(hits, axis=0).reshape(shape[:2])


def test_good_photos_are_done_and_bad_ones_told_in_one_line_each(album):
    code, out, err = album.outcome
    lines = err.splitlines()
    assert code == 1
    assert len(lines) == len(albums.BAD) + 1
    assert all(line.startswith("tipim: ") for line in lines)
    assert f"tipim: {album.folder / 'nowhere.jpg'} does not exist" in lines
    for name, message in albums.BAD.items():
        (line,) = [line for line in lines if str(album.folder / name) in line]
        assert re.search(message, line), line
    for name, reason in albums.FACELESS.items():
        assert f"{name}: {reason}; nothing saved\n" in out
    photos = len(albums.GOOD) + len(albums.FACELESS) + len(lines)
    assert f"{photos} photos, 10 faces; " in out
    assert f"3 photos without a face to protect; {len(lines)} photos not done; " in out
    assert "Traceback" not in out + err


def test_the_tree_is_mirrored_and_nothing_else_is_left(album):
    written = {path.relative_to(album.protected) for path in album.protected.rglob("*.*")}
    pictures = {path for path in written if path.parts[0] == "tipim-pictures"}
    assert {path.as_posix() for path in written - pictures} == {
        *albums.GOOD,
        ".tipim",
        ".tipim/journal.jsonl",
        "report.json",
        "report.html",
    }
    assert {path.as_posix() for path in pictures} == {
        *(f"tipim-pictures/{name}-face1.png" for name in albums.GOOD),
        "tipim-pictures/two.png-face2.png",
    }


@pytest.mark.parametrize("name", [*albums.LOSSLESS, "two.png"])
def test_the_cap_holds_and_only_faces_change(album, pair, detector, name):
    before, after = pair(name)
    moved = change(before, after)
    faces = find_faces.find(detector, before.pixels)
    assert 0 < np.abs(moved).max() <= EPSILON
    assert not moved[~on_canvas(faces, moved.shape)].any()
    assert after.mode == before.mode
    assert after.samples.dtype == before.samples.dtype
    if "A" in before.mode:
        np.testing.assert_array_equal(after.samples[..., -1], before.samples[..., -1])


@pytest.mark.parametrize("name", ["sub/grey.png", "sub/deep/grey16.tif"])
def test_grey_stays_grey(pair, name):
    before, after = pair(name)
    moved = change(before, after)
    assert after.axis is colour.GREY
    np.testing.assert_array_equal(moved, np.repeat(moved[..., :1], 3, axis=2))


def test_ink_moves_within_the_cap(pair):
    before, after = pair("ink.tif")
    assert 0 < np.abs(change(before, after)).max() <= EPSILON
    np.testing.assert_array_equal(before.samples[..., 3], after.samples[..., 3])


def test_a_turned_photo_is_saved_upright_without_its_metadata(album, pair):
    before, after = pair("turned.jpg")
    assert before.pixels.shape == after.pixels.shape
    assert b"Camera" not in (album.protected / "turned.jpg").read_bytes()
    with Image.open(album.protected / "turned.jpg") as image:
        assert image.size == before.pixels.shape[1::-1]


def test_the_same_pixels_get_the_same_mask_whatever_the_file(pair):
    (_, png), (_, webp) = pair("plain.png"), pair("sub/same.webp")
    np.testing.assert_array_equal(png.pixels, webp.pixels)


def test_the_bytes_depend_on_nothing_but_photo_and_seed(album, tipim, two_targets, tmp_path, pair):
    out = tmp_path / "out"
    photos = [album.folder / name for name in ("two.png", "plain.png")]
    arguments = ["--out", out, "--largest_only", "--targets", two_targets, *QUICK]
    arguments.append("--require=none")
    code, told, err = tipim("protect", *photos, *arguments)
    assert (code, err) == (0, "")
    assert "2 photos, 3 faces; " in told
    assert "two.png, face 2: left alone: not chosen" in told
    assert "1 face left alone" in told
    for name in ("plain.png",):  # in the album beside others, and in another order
        assert (out / name).read_bytes() == (album.protected / name).read_bytes()
    before, both = pair("two.png")
    largest = read_photo(out / "two.png")
    left = np.arange(before.pixels.shape[1]) < 190
    np.testing.assert_array_equal(largest.pixels[:, left], both.pixels[:, left])
    assert not change(before, largest)[:, ~left].any()
    assert change(before, both)[:, ~left].any()

    kept = {path: path.read_bytes() for path in out.glob("*.png")}
    code, told, err = tipim("protect", *photos, *arguments)
    assert (code, err) == (0, "")
    assert "2 photos done earlier" in told
    assert {path: path.read_bytes() for path in out.glob("*.png")} == kept


def test_report(album):
    report = json.loads((album.protected / "report.json").read_text())
    assert set(report) == {
        *("schema", "settings", "surrogates", "versions", "timings", "summary", "photos"),
        *("judged_by_surrogates_alone", "unreached", "others"),
    }
    assert report["judged_by_surrogates_alone"] is False
    assert report["others"] == [str(album.folder / "notes.txt")]
    assert 0 < report["summary"]["change"] <= 255
    assert report["schema"] == 2
    assert report["surrogates"] == ["sface"]
    assert report["settings"]["epsilon"] == EPSILON
    assert report["settings"]["steps"] == 2
    assert {"tipim-jax", "jax", "numpy"} <= set(report["versions"])
    assert report["timings"].keys() == {"total", "compile", "attack"}
    assert report["summary"]["photos"] == len(report["photos"])
    photos = {photo["source"]: photo for photo in report["photos"]}
    for name in albums.GOOD:
        photo = photos[str(album.folder / name)]
        assert photo.keys() == {
            *("source", "output", "error", "faceless", "change", "notes", "faces")
        }
        if name in albums.LOSSLESS:
            assert 0 < photo["change"] <= EPSILON
            assert photo["change"] == max(face["change"] for face in photo["faces"])
        assert photo["output"] == str(album.protected / name)
        assert photo["error"] == ""
        for face in photo["faces"]:
            assert 25 < face["psnr"] < 60
            assert 0.5 < face["ssim"] < 1
            assert face["target"] in ("virtual 1", "virtual 2")
            assert face["recognisers"].keys() == {"sface", "dlib"}
            for recogniser, match in face["recognisers"].items():
                assert match["before"] > match["threshold"] > 0
                assert match["after"] < match["before"]
                assert match["protected"] == (match["after"] <= match["threshold"])
                assert match["surrogate"] == (recogniser == "sface")
    for name in albums.BAD:
        photo = photos[str(album.folder / name)]
        assert photo["output"] is None
        assert photo["error"]
    for name, reason in albums.FACELESS.items():
        photo = photos[str(album.folder / name)]
        assert (photo["output"], photo["error"], photo["faceless"]) == (None, "", reason)
    (small,) = photos[str(album.folder / "bad/small.png")]["faces"]
    assert small["skipped"] == "smaller than 20 pixels"
    page = (album.protected / "report.html").read_text()
    assert page.count("<figure ") == 9
    assert page.count('src="data:image/jpeg;base64,') == 3 * 9
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("box", [(-30, 4, 33, 40), (97, -39, 60, 41), (10, 10, 20, 20)])
def test_quality_is_measured_for_faces_at_the_edge(box):
    before = np.full((80, 100, 3), 100, np.uint8)
    region = before[_region(before.shape, box)]
    assert metrics.psnr(region, region + np.uint8(2)) == pytest.approx(10 * np.log10(255**2 / 4))
    assert 0.9 < metrics.ssim(region, region + np.uint8(2)) < 1
