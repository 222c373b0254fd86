"""--quick of the experiments that need PyTorch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason='run `pip install -e ".[parity]"`')
pytestmark = pytest.mark.parity
ROOT = Path(__file__).resolve().parents[2]
RESULTS = {"layouts": "steps.md"}  # named after the launch otherwise
RUNS = {
    "benchmark": r"ours default \d+\.\d times faster than the released structure",
    "layouts": r"both passes at \d+% of the matrix-product rate",
    "port_speed": r"port / PyTorch: median \d+\.\d\d",
}


@pytest.mark.parametrize("name", RUNS)
def test_quick(name: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", f"--workdir={tmp_path}", "--quick"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(RUNS[name], done.stdout.strip().splitlines()[-1])
    assert (tmp_path / RESULTS.get(name, f"{name}.md")).is_file()
