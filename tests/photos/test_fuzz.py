"""Whatever a file holds, it ends in a photo or in one sentence, soon, and within bounded memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photos import fuzz

SENTENCES = (
    "x is damaged or cut short; copy it again from where it came from",
    "x is empty (0 bytes)",
    "x is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo, whatever its name",
    "x is an animation; protect the file with `tipim protect`, or save one picture as PNG",
    "x does not fit into memory; make it smaller",
)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 150), pytest.param(150, 1050, marks=pytest.mark.slow)]
)
def test_damaged_and_hostile_files(first, count):
    done = subprocess.run(
        [sys.executable, "-m", "tests.photos.fuzz", str(first), str(count)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report = json.loads(done.stdout)
    outcomes = report["outcomes"]
    assert len(outcomes) >= count
    assert report["slowest"] < fuzz.SLOWEST
    assert outcomes.count("photo") > count / 10
    for told in set(outcomes) - {"photo", *SENTENCES}:
        assert told.startswith(("x ", "the photo ", "JPEG ", "BMP "))
        assert told.count("\n") == 0
        assert told.endswith(("make it smaller", "; choose format png", "save it as RGB", "JPEG"))


def test_every_kind_is_good_before_it_is_damaged():
    assert {fuzz.outcome(data) for data in fuzz.seeds()} == {"photo"}
