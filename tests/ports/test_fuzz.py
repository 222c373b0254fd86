"""Whatever a weight file holds, it ends in arrays or in one sentence, soon, and within bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import fuzz

READABLE = (
    "refused, because it asks to run ",
    "not a readable PyTorch checkpoint (",
    "not a readable npz archive of plain arrays (",
    "not a readable archive (",
    "not a readable safetensors file (",
    "not a readable ONNX model (",
    "not a readable TensorFlow.js model (",
    "the TFLite model is damaged or unsupported (",
    "the dlib network is damaged or cut short (",
    "unknown weight format; known extensions are ",
)


@pytest.mark.parametrize(
    ("first", "count", "files"),
    [(0, 0, 300), (1, 150, 150), pytest.param(151, 1150, 1150, marks=pytest.mark.slow)],
)
def test_damaged_and_hostile_files(first, count, files):
    done = subprocess.run(
        [sys.executable, "-m", "tests.ports.fuzz", str(first), str(count)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    outcomes = report["outcomes"]
    assert len(outcomes) >= files
    assert report["slowest"] < fuzz.SLOWEST
    assert "arrays" in outcomes
    for told in {*outcomes} - {"arrays"}:
        assert told.startswith(READABLE)
        assert "\n" not in told
        assert len(told) < 500


def test_every_kind_is_good_before_it_is_damaged(tmp_path):
    kinds = {fuzz.outcome(tmp_path, seed.made(seed.data)) for seed in fuzz.seeds()}
    assert kinds == {"arrays"}
