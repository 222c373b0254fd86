"""Faces of all sizes are found in a photo of any size, each once."""

from functools import partial

import numpy as np
import pytest
from PIL import Image
from skimage import data

from ports import detection
from ports.networks import yunet
from tipim_jax.photos.demo import demo_photos


@pytest.fixture(scope="module")
def params():
    return yunet.load()


def test_landmarks_are_in_the_order_of_the_picture(params):
    (points,) = detection.find_faces(params, data.astronaut()).landmarks
    left_eye, right_eye, nose, left_mouth, right_mouth = points
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_channels_are_rgb(params):
    photo = data.astronaut()
    rgb = detection.find_faces(params, photo).scores[0]
    assert rgb > detection.find_faces(params, photo[..., ::-1].copy()).scores[0]


def test_a_photo_without_faces_gives_none(params):
    for photo in (np.zeros((100, 50, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)):
        faces = detection.find_faces(params, photo)
        assert faces.boxes.shape == (0, 4)
        assert faces.landmarks.shape == (0, 5, 2)
        assert faces.scores.shape == (0,)


def test_faces_of_all_sizes_are_found_in_a_large_photo(params):
    astronaut = Image.fromarray(data.astronaut()[:200, 150:300])  # a face of 90 pixels
    photo = np.full((2000, 3000, 3), 100, np.uint8)
    centres = []
    for x, height in ((50, 1900), (2000, 400), (2600, 120), (2800, 80)):
        tile = np.asarray(astronaut.resize((height * 3 // 4, height)))
        photo[20 : 20 + height, x : x + tile.shape[1]] = tile
        centres.append((x + 0.5 * tile.shape[1], 20 + 0.55 * height))
    faces = detection.find_faces(params, photo)
    assert len(faces.scores) == len(centres)
    for x, y in centres:
        low, high = faces.boxes[:, :2], faces.boxes[:, 2:]
        assert np.any(np.all((low < (x, y)) & (high > (x, y)), axis=1))


def test_a_face_that_fills_the_photo_is_one_face(params):
    tight = Image.fromarray(data.astronaut()[60:190, 170:280])
    for side in (130, 640, 1400):
        photo = np.asarray(tight.resize((side * 110 // 130, side)))
        faces = detection.find_faces(params, photo)
        assert len(faces.scores) == 1
        assert faces.scores[0] > 0.85


def test_reduced_photos_keep_their_coordinates(params):
    photo = Image.fromarray(data.astronaut()).resize((640, 640))
    (small,) = detection.find_faces(params, np.asarray(photo)).landmarks
    enlarged = np.asarray(photo.resize((1280, 1280), Image.Resampling.NEAREST))
    (large,) = detection.find_faces(params, enlarged).landmarks
    # the centres of two pixels are at 0 and 1, of the pixel that they become at 0.5
    np.testing.assert_allclose((large - 0.5) / 2, small, atol=1)


def test_the_second_photo_of_a_bucket_does_not_compile(params):
    photo = data.astronaut()
    detection.find_faces(params, photo)
    compiled = yunet.detect._cache_size()
    detection.find_faces(params, photo[:400, :500])
    detection.find_faces(params, photo[:330, :440], score=0.7)
    assert yunet.detect._cache_size() == compiled


@pytest.mark.parametrize(
    "photo", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3))]
)
def test_other_arrays_than_photos_are_refused(params, photo):
    with pytest.raises(ValueError, match="a photo must be"):
        detection.find_faces(params, photo)


def large_photo(params, faces, size=(6000, 4000)):
    """[4000,6000,3]: a person's face at (x, y) of its middle, so many pixels wide, on noise."""
    noise = np.random.default_rng(0).integers(90, 130, (size[1] // 8, size[0] // 8, 3), np.uint8)
    photo = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    with Image.open(demo_photos()[0]) as image:
        person = image.convert("RGB")
    ((left, top, right, bottom),) = detection.find_faces(params, np.asarray(person)).boxes
    for x, y, width in faces:
        scale = width / (right - left)
        tile = person.resize((round(person.width * scale), round(person.height * scale)))
        middle = ((left + right) / 2 * scale, (top + bottom) / 2 * scale)
        photo.paste(tile, (round(x - middle[0]), round(y - middle[1])))
    return np.asarray(photo)


def assert_found(faces, places):
    """Every place (x, y, width) is a face of about that width, and there is no other."""
    assert len(faces.scores) == len(places)
    for x, y, width in places:
        low, high = faces.boxes[:, :2], faces.boxes[:, 2:]
        at = np.flatnonzero(np.all((low < (x, y)) & (high > (x, y)), axis=1))
        assert len(at) == 1
        assert 0.75 < (high - low)[at[0], 0] / width < 1.3
        assert np.abs((low + high)[at[0]] / 2 - (x, y)).max() < 0.2 * width


def test_small_faces_are_found_in_24_megapixels(params):
    free = [(700, 600, 25), (5200, 3600, 40)]
    # Tiles end at 2133 and 4064 across and at 2133 down, and others begin at 1933, 3867 and 1867.
    at_edges = [(2133, 1000, 25), (1933, 3100, 40), (3867, 2133, 25), (4064, 1867, 40)]
    everywhere = [(1000, 2200, 900), *free, *at_edges]
    found = detection.find_faces(params, large_photo(params, everywhere))
    assert_found(found, everywhere)


def test_a_face_that_the_whole_photo_shows_is_the_one_of_that_look(params, monkeypatch):
    photo = large_photo(params, [(1200, 2000, 300), (4250, 2500, 150)])
    found = detection.find_faces(params, photo)
    monkeypatch.setattr(detection, "_look_in_tiles", lambda *_: detection.NOTHING)
    for got, expected in zip(found, detection.find_faces(params, photo), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert_found(found, [(1200, 2000, 300), (4250, 2500, 150)])


@pytest.mark.parametrize("size", [(2133, 1200), (1600, 1600), (500, 400)])
def test_a_photo_that_is_hardly_reduced_is_not_cut(params, monkeypatch, size):
    monkeypatch.setattr(detection, "_look_in_tiles", None)  # cannot be called
    assert_found(
        detection.find_faces(params, large_photo(params, [(200, 200, 40)], size)), [(200, 200, 40)]
    )


@pytest.mark.parametrize("length", [1, 1600, 1601, 3104, 3105, 12_000])
def test_tiles_cover_a_photo_and_overlap(length):
    starts = detection._starts(length)
    assert starts[0] == 0
    assert starts[-1] == max(length - detection.FINE, 0)
    assert all(0 < step <= detection.FINE - detection.OVERLAP for step in np.diff(starts))


@pytest.mark.parametrize("length", [801, 1087, 1088, 1450, 1451, 1599, 1600, 2133])
def test_the_finest_look_loses_no_face_and_pads_little(length):
    side = detection._fine_side(length)
    assert detection.TILED * length <= side <= length
    assert side in detection.BUCKETS or length < 1600
    assert side <= 1088 or length > 1450


def test_photos_without_faces_show_none_in_tiles(params):
    for name in ("coffee", "rocket", "chelsea", "coins"):
        image = Image.fromarray(getattr(data, name)()).convert("RGB")
        photo = np.asarray(image.resize((4000, 4000 * image.height // image.width)))
        detect = partial(yunet.detect, params)
        found = detection._look_in_tiles(detect, photo, detection.TILED_SCORE)
        assert len(found.scores) == 0
