"""Faces are followed through gaps and cuts, smoothly, and laid over each other to a fraction of a pixel."""

import numpy as np
import pytest

from tests.video import clips
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.photos.faces import align
from tipim_jax.photos.paste import paste
from tipim_jax.video import tracks
from tipim_jax.video.register import register, template
from tipim_jax.video.tracks import track


def followed(frames, find=clips.find, same=lambda a, b: False):
    return track(frames, find, same, lambda number: None)


def test_two_faces_are_two_tracks():
    found = followed(clips.patches(10, seeds=(1, 2)))
    assert [one.frames for one in found] == [range(10)] * 2
    assert {round(float(one.boxes[0, 0])) for one in found} == {4, 84}
    assert not found[0].small


def test_a_face_that_is_lost_for_a_while_is_the_same_and_one_that_is_gone_is_not():
    frames = clips.patches(40)
    lost = [frame if not 5 <= i < 12 else frame * 0 for i, frame in enumerate(frames)]
    (found,) = followed(lost)
    assert found.frames == range(40)
    exact = followed(frames)[0]
    np.testing.assert_allclose(found.landmarks[8], exact.landmarks[8], atol=1.5)
    gone = [frame if not 5 <= i < 25 else frame * 0 for i, frame in enumerate(frames)]
    assert sorted(one.first for one in followed(gone)) == [0, 25]


@pytest.mark.parametrize("same", [False, True])
def test_at_a_cut_recognisers_say_whether_it_is_still_the_same_person(same):
    frames = [*clips.patches(6, seeds=(1,)), *clips.patches(6, seeds=(3,))]
    asked = []

    def judge(a, b):
        asked.append((a, b))
        return same

    assert len(followed(frames, same=judge)) == (1 if same else 2)
    assert len(asked) == 1


def test_landmarks_are_smooth_and_follow_quick_movements():
    rng = np.random.default_rng(0)
    place = np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9.0])
    values = np.asarray(CANVAS_LANDMARKS) * 0.4 + 20
    seen = [values + [x, 0] + rng.normal(0, 0.3, (5, 2)) for x in place]
    numbers = iter(seen)

    def find(pixels):
        return [align(pixels, next(numbers), (20.0, 20.0, 60.0, 60.0))]

    (found,) = followed([clips.patches(1)[0]] * len(seen), find, lambda a, b: True)
    off = found.landmarks - (values + np.stack([place, place * 0], 1)[:, None])
    raw = np.array(seen) - (values + np.stack([place, place * 0], 1)[:, None])
    assert np.abs(np.diff(off[:8], axis=0)).mean() < 0.6 * np.abs(np.diff(raw[:8], axis=0)).mean()
    eyes = 0.4 * 35.3
    assert np.abs(found.landmarks - np.array(seen)).max() <= tracks.JITTER * eyes * 1.2
    # a straight movement is not shortened at its ends
    line = np.arange(12.0)[:, None] * [1.0, 2.0]
    np.testing.assert_allclose(tracks._smoothed(line), line, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_a_face_is_laid_over_itself(seed):
    rng = np.random.default_rng(seed)
    frames = list(clips.moving(12, name=clips.SUNAK))
    known = _face(frames[0])
    exact = _face(frames[9])
    moved = 1.5 * np.array([np.cos(seed), np.sin(seed)])
    turn = np.array([[1, rng.normal(0, 0.01)], [0, 1]])
    turn[1, 0] = -turn[0, 1]
    middle = exact.landmarks.mean(0)
    guess = align(frames[9], (exact.landmarks - middle) @ turn + middle + moved, exact.box)
    found = register(frames[9], guess.matrix, template(known))
    points = np.array([[40, 60, 1], [120, 60, 1], [80, 120, 1.0]]).T
    assert np.abs(found.matrix @ points - exact.matrix @ points).max() < 0.25
    assert np.abs(guess.matrix @ points - exact.matrix @ points).max() > 0.4
    # nothing is found in another picture
    noise = rng.integers(0, 255, frames[9].shape, np.uint8)
    nowhere = register(noise, guess.matrix, template(known))
    np.testing.assert_array_equal(nowhere.matrix, guess.matrix)
    assert (nowhere.alike, nowhere.bend.any()) == (0, False)


def test_a_mask_follows_a_face_that_turns():
    """Its middle moves and its sides stay: no shift, turn or size takes one picture to the other."""
    frame = next(clips.moving(1, (160, 160), clips.SUNAK))
    known = align(frame, np.array(CANVAS_LANDMARKS), (30.0, 20.0, 100.0, 120.0))
    half = np.linspace(-1, 1, 160)
    turned = half + 0.12 * (1 - half**2)  # where each column is now
    back = np.interp(half, turned, np.arange(160.0))
    rows = [[np.interp(back, np.arange(160), line) for line in row.T] for row in frame]
    place = register(np.array(rows).swapaxes(1, 2).astype(np.uint8), known.matrix, template(known))
    assert place.alike > 0.99
    for column in (50, 80, 110):
        mask = np.zeros((160, 160, 3), np.float32)
        mask[70:91, column - 3 : column + 4] = 8
        change = paste(np.zeros_like(frame), [place.laid(mask)], 8)[80, :, 0].astype(float)
        expected = 79.5 * (turned[column] + 1)
        assert abs(change @ np.arange(160) / change.sum() - expected) < 0.6


def _face(frame):
    """The face where the movement of the clip puts it: known exactly, as no detector knows it."""
    number = next(
        i for i, f in enumerate(clips.moving(12, name=clips.SUNAK)) if np.array_equal(f, frame)
    )
    landmarks = clips.placed(SUNAK_LANDMARKS, number, name=clips.SUNAK)
    return align(frame, landmarks, (0.0, 0.0, 60.0, 72.0))


# as YuNet sees them in the portrait
SUNAK_LANDMARKS = np.array([[212, 248], [303, 244], [259, 301], [221, 349], [297, 346.0]])
