"""Every experiment's --quick run: ends well, in one line with its main figure, and leaves results."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "make_protocol": (r"read back 5 gallery photos", "verification.json"),
    "calibrate": (r"accuracy of sface: [01]\.\d+", "calibration.json"),
    "identification": (r"low: Rank-1-UT [01]\.\d+ on dlib", "identification.md"),
    "virtual_targets": (r"sface: largest cosine between targets 0\.\d+", "virtual_targets.csv"),
    "convert_weights": (r"written to .*random_weights", "random_weights/card.json"),
}


@pytest.mark.parametrize("name", RUNS)
def test_quick(name: str, tmp_path: Path):
    figure, result = RUNS[name]
    arguments = [f"--workdir={tmp_path / 'work'}", "--quick"]
    if name not in ("convert_weights", "make_protocol"):
        arguments.append(f"--cache={tmp_path / 'cache'}")
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *arguments],
        cwd=ROOT,
        env={**os.environ, "TIPIM_MODELS": str(tmp_path / "models")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(figure, done.stdout.strip().splitlines()[-1])
    assert (tmp_path / "work" / result).is_file()
