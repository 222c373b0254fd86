"""A clip with the real detector, a real surrogate and a real judge, to the end."""

import json

import numpy as np
import pytest

from tests.photos.conftest import QUICK, bare_tipim, prepared, tipim, two_targets  # noqa: F401
from tests.video import clips
from tipim_jax.video import animations


@pytest.mark.slow
def test_a_portrait_under_a_moving_camera(tipim, two_targets, tmp_path):  # noqa: F811
    path, out = tmp_path / "moving.webp", tmp_path / "out"
    frames = list(clips.moving(6, name=clips.SUNAK))
    clips.animation(path, frames, [100] * 6, lossless=True)
    arguments = [*(a for a in QUICK if "batch_size" not in a), "--targets", two_targets]
    code, text, err = tipim("protect", path, "--out", out, *arguments)
    assert code in (0, 3), err  # two steps hide nobody
    (face,) = json.loads((out / "report.json").read_text())["photos"][0]["faces"]
    assert face["over_time"]["judged"] == 6
    assert face["recognisers"]["sface"]["after"] < face["recognisers"]["sface"]["before"]
    assert "0.0–0.5 s: " in text
    for before, after in zip(frames, animations.read(out / "moving.webp").frames(), strict=True):
        change = np.abs(after.pixels.astype(int) - before).max(2)
        rows, columns = (np.flatnonzero(change.any(axis)) for axis in (1, 0))
        (left, top), (right, bottom) = clips.placed(
            np.array([[120, 100], [400, 430]]), 0, name=clips.SUNAK
        ).astype(int)
        assert 0 < change.max() <= 10
        assert top - 20 < rows[0] < rows[-1] < bottom + 20
        assert left - 20 < columns[0] < columns[-1] < right + 20
