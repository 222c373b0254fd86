"""YuNet finds what OpenCV's own implementation finds, whatever the padding, size and batch."""

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from skimage import data

from ports import packages
from ports.networks import yunet


@pytest.fixture(scope="module")
def params():
    return yunet.load()


@pytest.fixture(scope="module")
def reference():
    """OpenCV's detector on an RGB photo: rows of box (x, y, w, h), landmarks, score."""
    path = str(packages.locate(packages.YUNET))
    detector = cv2.FaceDetectorYN.create(path, "", (320, 320), 0.6, 0.3, 5000)

    def detect(photo):
        detector.setInputSize((photo.shape[1], photo.shape[0]))
        _, faces = detector.detect(np.ascontiguousarray(photo[..., ::-1]))
        return np.zeros((0, 15), np.float32) if faces is None else faces

    return detect


@pytest.fixture(scope="module")
def group():
    """A photo of nine faces of different sizes, made of one: [480,600,3] uint8."""
    astronaut = Image.fromarray(data.astronaut()[:300, 80:380])
    rng = np.random.default_rng(0)
    photo = rng.integers(90, 110, (480, 600, 3), dtype=np.uint8)
    for i, side in enumerate((60, 80, 100, 120, 140, 160, 180, 200, 200)):
        row, column = divmod(i, 3)
        tile = np.asarray(astronaut.resize((side, side)))
        photo[160 * row :, 200 * column :][:side, :side] = tile[: 480 - 160 * row]
    return photo


def _padded(photo, side):
    images = np.zeros((1, side, side, 3), np.uint8)
    images[0, : photo.shape[0], : photo.shape[1]] = photo
    return images, np.array([photo.shape[:2]], np.int32)


def _only(faces, valid, i=0):
    return yunet.Faces(*(np.asarray(a)[i][np.asarray(valid)[i]] for a in faces))


def _detect(params, photo, side):
    return _only(*yunet.detect(params, *_padded(photo, side), score=0.6))


def _assert_parity(faces, rows, tolerance=1e-3):
    assert len(faces.scores) == len(rows)
    boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
    np.testing.assert_allclose(faces.boxes, boxes, atol=tolerance)
    np.testing.assert_allclose(faces.landmarks.reshape(-1, 10), rows[:, 4:14], atol=tolerance)
    np.testing.assert_allclose(faces.scores, rows[:, 14], atol=1e-5)


def test_astronaut_and_group_match_opencv(params, reference, group):
    for photo, count in ((data.astronaut(), 1), (group, 9)):
        found = _detect(params, photo, 640)
        assert len(found.scores) == count
        _assert_parity(found, reference(photo))


def test_lfw_photos_match_opencv(params, reference, research_data):
    paths = sorted((research_data / "lfw" / "photos").glob("*/*.jpg"))[::40][:60]
    for path in paths:
        photo = np.asarray(Image.open(path).convert("RGB"))
        found = _detect(params, photo, 320)
        assert len(found.scores) > 0
        _assert_parity(found, reference(photo))


def test_neither_padding_nor_its_content_nor_the_batch_matters(params, group):
    small = group[:300, :250]
    images, sizes = _padded(small, 640)
    garbage = np.full_like(images, 255)
    garbage[0, :300, :250] = small
    batch = np.concatenate([images, garbage, _padded(group, 640)[0]])
    faces, valid = yunet.detect(params, batch, np.array([*sizes, *sizes, group.shape[:2]]))
    alone = _detect(params, small, 320)
    assert len(alone.scores) > 0
    for i in (0, 1):
        for got, expected in zip(_only(faces, valid, i), alone, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-3)
    assert len(_only(faces, valid, 2).scores) == 9


def test_limit_keeps_the_best(params, group):
    all_faces = _detect(params, group, 640)
    faces, valid = yunet.detect(params, *_padded(group, 640), limit=3)
    assert valid.all()
    # Programs of different output shapes may round differently.
    np.testing.assert_allclose(faces.scores[0], all_faces.scores[:3], rtol=1e-6)
    np.testing.assert_allclose(faces.boxes[0], all_faces.boxes[:3], rtol=1e-4)


def test_suppression_is_greedy_and_keeps_separate_boxes():
    boxes = np.array(
        [[0, 0, 10, 10], [1, 0, 11, 10], [8, 0, 18, 10], [50, 50, 60, 60], [0, 0, 9, 9]], "f4"
    )
    scores = np.array([0.7, 0.9, 0.8, 0.65, 0.3], "f4")
    candidates = yunet.Faces(jnp.asarray(boxes), jnp.zeros((5, 5, 2)), jnp.asarray(scores))
    faces, valid = yunet.suppress(candidates, score=0.6, overlap=0.3, limit=4)
    np.testing.assert_array_equal(valid, [True, True, True, False])
    np.testing.assert_array_equal(faces.scores, np.array([0.9, 0.8, 0.65, 0], "f4"))
    np.testing.assert_array_equal(faces.boxes[3], 0)


def test_another_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="do not fit this network"):
        yunet.load(packages.locate(packages.SFACE))
