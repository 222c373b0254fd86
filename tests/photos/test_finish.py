"""The finisher: what is judged are the bytes that are written, and nothing is looked at without need."""

import io

import numpy as np
import pytest
from PIL import Image

from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos.decode import decode
from tipim_jax.photos.encode import encode
from tipim_jax.photos.faces import align
from tipim_jax.photos.finish import Encoding, finish, left_alone
from tipim_jax.photos.paste import FaceMask
from tipim_jax.photos.pending import PendingPhoto, detect

EPSILON = 6.0


def photo(format: str):
    pixels = np.random.default_rng(0).integers(30, 220, (200, 220, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return decode(buffer.getvalue())


class Finder:
    """Finds one face in the middle of whatever it sees, and counts how often it is asked."""

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def __call__(self, pixels):
        self.seen.append(pixels)
        return [align(pixels, np.asarray(CANVAS_LANDMARKS) + 20, (40.0, 40.0, 120.0, 120.0))]


def pending(find, format: str) -> PendingPhoto:
    waiting = detect(find, photo(format))
    assert not waiting.masked
    mask = np.random.default_rng(1).uniform(-2 * EPSILON, 2 * EPSILON, (160, 160, 3))
    waiting.masks[0] = FaceMask(mask.astype(np.float32), waiting.faces[0].matrix)
    waiting.targets[0] = "virtual 1"
    assert waiting.masked
    return waiting


@pytest.mark.parametrize(("format", "looks"), [("PNG", 1), ("BMP", 1), ("JPEG", 2), ("WEBP", 2)])
def test_the_file_is_looked_at_once_and_its_encoder_if_it_loses_something(
    format, looks, monkeypatch
):
    encoded = []

    def counted(photo, pixels, **encoding):
        encoded.append(pixels)
        return encode(photo, pixels, **encoding)

    monkeypatch.setattr("tipim_jax.photos.finish.encode", counted)
    find = Finder()
    waiting = pending(find, format)
    find.seen.clear()
    done = finish(waiting, EPSILON, Encoding(), find, [])
    assert len(find.seen) == len(encoded) == looks
    saved = decode(done.data)
    np.testing.assert_array_equal(find.seen[-1], saved.pixels)
    assert saved.format == format
    (face,) = done.faces
    assert face.target == "virtual 1"
    assert 20 < face.psnr < 60


def test_a_face_that_is_lost_is_said_and_judged_where_it_was():
    find = Finder()
    waiting = pending(find, "PNG")
    done = finish(waiting, EPSILON, Encoding(), lambda _: [], [])
    assert done.notes == ("face 1 is no longer detected; judged where it was before",)
    assert done.faces[0].box == waiting.faces[0].box


def test_small_faces_get_no_mask():
    def find(pixels):
        return [align(pixels, np.asarray(CANVAS_LANDMARKS) / 10, (4.0, 4.0, 12.0, 19.0))]

    waiting = detect(find, photo("PNG"))
    assert waiting.to_protect == []
    assert waiting.faceless == "every face is too small; nothing to protect"
    assert [face.skipped for face in left_alone(waiting)] == ["smaller than 20 pixels"]
    unchosen = detect(lambda pixels: find(pixels) * 2, photo("PNG"), lambda _: {1})
    assert unchosen.faceless == "every chosen face is too small; nothing to protect"
    assert [face.skipped for face in left_alone(unchosen)] == [
        "not chosen",
        "smaller than 20 pixels",
    ]
    assert detect(lambda _: [], photo("PNG")).faceless == "no face was found; nothing to protect"


def test_a_mask_that_is_not_finite_is_no_error_of_the_user():
    waiting = pending(Finder(), "PNG")
    waiting.masks[0].mask[3, 4] = np.nan
    with pytest.raises(ValueError, match="NaN") as caught:
        finish(waiting, EPSILON, Encoding(), Finder(), [])
    assert type(caught.value) is ValueError
