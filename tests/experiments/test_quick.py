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
    "identification": (r"mim: Rank-1-UT [01]\.\d+ on dlib", "identification.md"),
    "naturalness": (r"γ 3: PSNR \d+\.\d+ dB", "naturalness.csv"),
    "targets": (r"2 targets: Rank-1-T [01]\.\d+", "rank-T.md"),
    "survival": (r"after blur 1: Rank-1-UT [01]\.\d+", "summary.md"),
    "opom": (r"one mask per person: Rank-1-UT [01]\.\d+ on dlib", "rank-UT.md"),
    "verification": (r"impersonation, whole: PSR [01]\.\d+ at FAR 0\.01", "average.md"),
    "virtual_targets": (r"sface: largest cosine between targets 0\.\d+", "virtual_targets.csv"),
    "dynamics": (r"sface/tip_im: Rank-1-UT [01]\.\d+ on dlib", "report.html"),
    "dynamics_study": (r"switching: \d rows over 2 images", "switching/report.html"),
    "bulk_protect": (r"7 of 7 photos protected, done; \d+\.\d+ photos/s", "out/summary.json"),
    "bulk_measure": (r"bulk reaches \d\.\d+ of the attack alone", "capacity.md"),
    "convert_weights": (r"written to .*random_weights", "random_weights/card.json"),
}


NO_CACHE = ("bulk_measure", "bulk_protect", "convert_weights", "make_protocol")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """Aligned faces and compiled programs, for all runs of a session."""
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("name", RUNS)
def test_quick(name: str, tmp_path: Path, shared: Path):
    figure, result = RUNS[name]
    arguments = [f"--workdir={tmp_path / 'work'}", "--quick"]
    if name not in NO_CACHE:
        arguments.append(f"--cache={shared / 'faces'}")
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *arguments],
        cwd=ROOT,
        env={
            "JAX_COMPILATION_CACHE_DIR": str(shared / "programs"),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # more is compiled than computed
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
            **os.environ,
            "TIPIM_MODELS": str(tmp_path / "models"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(figure, done.stdout.strip().splitlines()[-1])
    assert (tmp_path / "work" / result).is_file()
