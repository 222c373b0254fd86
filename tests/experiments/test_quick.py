"""Every experiment's --quick run: ends well, in one line with its main figure, and leaves results."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.protection import cells

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "make_protocol": (r"read back 5 gallery photos", "verification.json"),
    "identification": (r"mim: Rank-1-UT [01]\.\d+ on dlib", "identification.md"),
    "naturalness": (r"γ 3: PSNR \d+\.\d+ dB", "naturalness.csv"),
    "targets": (r"2 targets: Rank-1-T [01]\.\d+", "rank-T.md"),
    "survival": (r"after blur 1: Rank-1-UT [01]\.\d+", "summary.md"),
    "opom": (r"one mask per person: Rank-1-UT [01]\.\d+ on dlib", "rank-UT.md"),
    "frontier": (r"sface/low: Rank-1-UT [01]\.\d+, .* PSNR \d+\.\d dB", "sheet.html"),
    "verification": (r"impersonation, whole: PSR [01]\.\d+ at FAR 0\.01", "average.md"),
    "virtual": (r"sface: largest cosine between targets 0\.\d+", "virtual_targets.csv"),
    "dynamics": (r"sface/tip_im: Rank-1-UT [01]\.\d+ on dlib", "report.html"),
    "switching": (r"switching: \d rows over 2 images", "switching/report.html"),
    "bulk_measure": (r"bulk reaches \d\.\d+ of the attack alone", "capacity.md"),
    "benchmark": (
        r"ours, default \d+\.\d times faster than JAX, released structure",
        "benchmark.md",
    ),
}


SHORT = ("make_protocol", "identification")  # one that attacks and one that does not
NO_CACHE = ("bulk_measure", "make_protocol")


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """Aligned faces, for all runs of a session."""
    return tmp_path_factory.mktemp("shared")


STUDIES = ("naturalness", "targets", "survival", "opom", "virtual")


def launched(name: str) -> list[str]:
    """The module and flags of a launch, of a study of identification, or of a question."""
    if name == "switching":
        return ["experiments.dynamics", f"--question={name}"]
    if name in STUDIES:
        return ["experiments.identification", f"--study={name}"]
    return [f"experiments.{name}"]


# Runs a launch that is killed once it has computed its second cell, before that is saved.
KILLED = """
import os, runpy, signal, sys
from experiments.protection import cells

def kept(workdir, name, make, whole=cells.kept):
    def last():
        arrays = make()
        if (workdir / cells.LOG).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return arrays
    return whole(workdir, name, last)

cells.kept = kept
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def started(
    name: str, folder: Path, shared: Path, kept: dict[str, str], *, killed: bool = False
) -> subprocess.Popen:
    """The launch with --quick, its results in `folder / "work"`."""
    arguments = [f"--workdir={folder / 'work'}", "--quick"]
    if name not in NO_CACHE:
        arguments.append(f"--cache={shared / 'faces'}")
    return subprocess.Popen(
        [sys.executable, *(["-c", KILLED] if killed else ["-m"]), *launched(name), *arguments],
        cwd=ROOT,
        env={
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # more is compiled than computed
            **kept,
            **os.environ,
            "TIPIM_MODELS": str(folder / "models"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "name", [n if n in SHORT else pytest.param(n, marks=pytest.mark.slow) for n in RUNS]
)
def test_quick(name: str, tmp_path: Path, shared: Path, kept_compilations):
    figure, result = RUNS[name]
    process = started(name, tmp_path, shared, kept_compilations)
    out, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    assert re.search(figure, out.strip().splitlines()[-1])
    assert (tmp_path / "work" / result).is_file()


def cells_of(folder: Path) -> list[str]:
    """The cells that the runs in a folder computed, in order."""
    log = folder / "work" / cells.LOG
    return [line.split("\t")[0] for line in log.read_text().splitlines()] if log.exists() else []


def results_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in (folder / "work").rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.name != cells.LOG and not path.name.endswith(".part")  # times, and what was cut off
    }


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, shared: Path, kept_compilations):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    out, err = started("identification", whole, shared, kept_compilations).communicate()
    assert results_of(whole), err[-2000:]

    process = started("identification", killed, shared, kept_compilations, killed=True)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    half = cells_of(killed)
    assert len(half) == 1 < len(cells_of(whole))

    again, _ = started("identification", killed, shared, kept_compilations).communicate()
    assert again.replace(str(killed), str(whole)) == out
    assert cells_of(killed)[: len(half)] == half
    assert sorted(cells_of(killed)) == sorted(cells_of(whole))  # each of them once
    assert results_of(killed) == results_of(whole)
