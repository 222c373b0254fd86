"""The region of a face follows its landmarks and ends inside its outline."""

import numpy as np
import pytest

from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE
from tipim_jax.photos.region import face_region


def turned(share):
    """A head turned to the image's right, as landmarks show it."""
    points = CANVAS_LANDMARKS.copy()
    points[2, 0] += share * (points[1, 0] - points[0, 0]) / 2
    return points


def test_of_a_frontal_face():
    region = face_region(CANVAS_LANDMARKS)
    assert region.shape == (CANVAS_SIZE, CANVAS_SIZE, 1)
    assert region.dtype == np.float32
    assert region.min() == 0
    assert 0.9 < region.max() <= 1
    assert 0.2 < np.mean(region > 0) < 0.4
    for border in (region[:24], region[-4:], region[:, :24], region[:, -24:]):
        assert border.max() == 0
    np.testing.assert_allclose(region, region[:, ::-1], atol=0.25)
    left, right, nose, *_ = CANVAS_LANDMARKS.round().astype(int)
    mouth = CANVAS_LANDMARKS[3:].mean(axis=0).round().astype(int)
    for x, y in (left, right, mouth):
        assert region[y, x, 0] < 0.5
    assert region[nose[1], nose[0], 0] > 0.8


@pytest.mark.parametrize("share", [0.5, -0.5, 1.0])
def test_ends_sooner_on_the_side_that_a_head_turns_to(share):
    frontal, region = (face_region(turned(s))[..., 0] > 0.01 for s in (0, share))
    middle = round(CANVAS_LANDMARKS[:, 0].mean())
    towards = np.s_[:, middle + 5 :] if share > 0 else np.s_[:, : middle - 5]
    away = np.s_[:, : middle - 5] if share > 0 else np.s_[:, middle + 5 :]
    assert region[towards].sum() < 0.85 * frontal[towards].sum()
    assert region[away].sum() >= frontal[away].sum()


def test_turns_with_the_face():
    angle = np.deg2rad(20)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = CANVAS_LANDMARKS.mean(axis=0)
    region = face_region((CANVAS_LANDMARKS - centre) @ rotation.T + centre)[..., 0]
    y, x = np.mgrid[:CANVAS_SIZE, :CANVAS_SIZE]
    weights = (region > 0.5).astype(float)
    offsets = np.stack([x, y], -1)[weights > 0] - np.array(
        [x[weights > 0].mean(), y[weights > 0].mean()]
    )
    _, vectors = np.linalg.eigh(offsets.T @ offsets)
    long_axis = vectors[:, -1] * np.sign(vectors[1, -1])
    assert np.degrees(np.arctan2(-long_axis[0], long_axis[1])) == pytest.approx(20, abs=3)


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), 80.0), CANVAS_LANDMARKS * 40])
def test_odd_landmarks_give_a_finite_region(points):
    region = face_region(points)
    assert np.isfinite(region).all()
    assert region.min() >= 0
    assert region.max() <= 1
