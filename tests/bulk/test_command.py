"""`tipim bulk`: what it refuses, its exit codes, and the smallest honest run of it."""

import csv
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bulk import world
from tipim_jax import cli
from tipim_jax.bulk import job, ledger, storage

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bulk(tmp_path, monkeypatch, capsys):
    """Runs the command on the networks of `world`: arguments -> (exit code, stdout, stderr)."""
    signals = [signal.SIGTERM, signal.SIGINT]
    handlers = [signal.getsignal(number) for number in signals]
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    config = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setattr(job, "load_models", lambda options, **_: world.models())
    monkeypatch.setenv("TIPIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        models = ["--surrogates=sface", "--judges=sface", "--batch_size=4"]
        code = cli.main(["bulk", *models, f"--workdir={tmp_path / 'work'}", *arguments])
        return code, *capsys.readouterr()

    yield run
    for name, value in config.items():
        jax.config.update(name, value)
    for number, handler in zip(signals, handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def photos(tmp_path):
    """A folder of ten photos."""
    world.write_photos(tmp_path / "in", 10)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--steps=0"], "steps is 0; give at least 1"),
        (["--shard_size=0"], "shard_size is 0; give at least 1"),
        (["--quality=0"], "quality is 0; give a number from 1 to 100"),
        (["--format=jxl"], "format 'jxl' is unknown; choose one of"),
        (["--judges=nobody"], "there is no model 'nobody'; known:"),
        (["--surrogates=nobody"], "there is no model 'nobody'; known:"),
        (["--targets=no.npz"], "no.npz is no file; bulk takes targets that"),
        (["--input=nowhere"], "nowhere does not exist"),
        (["--input=nowhere.csv"], "nowhere.csv does not exist"),
        (["--input=nowhere.array_record"], "nowhere.array_record matches no file"),
        (["--input=in/0/00000.png"], "in/0/00000.png is a file; give a folder"),
        (["--input="], "--input and --out are needed; or try --quick"),
        (["--error_budget=2"], "error_budget is 2; give a share from 0 to 1"),
        (["--read_threads=0"], "read_threads is 0; give at least 1"),
    ],
)
def test_refusals(bulk, photos, tmp_path, arguments, problem):
    code, out, err = bulk("--input=in", "--out=out", *arguments)
    assert code == 2
    assert problem in err
    assert err.startswith("tipim: ")
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("input", "out"),
    [
        ("in", "in"),
        ("in", "in/protected"),
        ("in", "linked/protected"),
        ("in/0", "in"),
        ("in/records.array_record", "in"),
        ("in/*.array_record", "in"),
        ("tfds:in#train", "in/out"),
        ("list.csv", "in"),
        ("list.csv", "."),
    ],
)
def test_outputs_lie_apart_from_inputs(bulk, photos, tmp_path, input, out):
    (tmp_path / "linked").symlink_to(photos)
    (photos / "records.array_record").write_bytes(b"")
    (tmp_path / "list.csv").write_text("0/00000.png\n")
    before = world.files(tmp_path)
    code, _, err = bulk(f"--input={input}", f"--out={out}", "--input_root=in")
    assert code == 2
    assert re.search(r"--out .* and --input .* must lie apart, or photos would be .*; choose", err)
    assert err.count("\n") == 1
    assert {k: v for k, v in world.files(tmp_path).items() if k in before} == before
    assert not list(tmp_path.rglob("job.json"))


def test_a_list_may_not_name_what_is_in_the_output(bulk, photos, tmp_path):
    (tmp_path / "list.csv").write_text("in/0/00000.png\nout/photos/a.png\n")
    code, _, err = bulk("--input=list.csv", "--out=out")
    assert code == 2
    assert "out/photos/a.png lies in --out" in err
    (tmp_path / "list.csv").write_text("in/0/00000.png\n")
    code, out, err = bulk("--input=list.csv", "--out=other")
    assert code == 0, err
    assert "1 of 1 photos saved" in out


def test_a_manifest_is_read_and_named(bulk, photos, tmp_path):
    pq.write_table(pa.table({"path": ["0/00000.png"]}), tmp_path / "list.parquet")
    code, _, err = bulk("--input=list.parquet", "--input_root=in", "--out=out")
    assert code == 2
    assert "list.parquet has the columns 'path'; name the one that holds the paths 'photo'" in err


def test_the_error_budget_has_an_exit_code(bulk, photos, tmp_path):
    (photos / "0" / "empty.png").write_bytes(b"")
    (photos / "0" / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    code, _, err = bulk("--input=in", "--out=out", "--error_budget=0")
    assert code == 1
    assert "more than the 0 that --error_budget allows this process" in err
    assert f"{tmp_path / 'work' / 'quarantine-0-of-1.csv'} has the reasons" in err
    code, out, err = bulk("--input=in", "--out=out", "--error_budget=0.2")
    assert code == 0, err
    assert "9 of 12 photos saved" in out
    assert "photos quarantined: 2" in out
    rows = list(csv.reader((tmp_path / "out" / "quarantine.csv").read_text().splitlines()))
    assert [row[0] for row in rows[1:]] == ["0/dangling.jpg", "0/empty.png"]
    assert rows[1][1] == "0/dangling.jpg cannot be read (No such file or directory)"


def test_what_is_left_aside_is_said_and_no_face_is_no_failure(bulk, photos, tmp_path):
    (photos / "film.mp4").write_bytes(b"")
    code, out, _ = bulk("--input=in", "--out=out", "--error_budget=0")
    assert code == 0
    assert (
        "Not protected, since they are no photos: 1 of the input's files; not_protected.csv names them."
        in out
    )
    assert "Judged only by the recognisers it was made on (sface)" in out
    last = out.splitlines()[-1]
    assert re.match(
        r"9 of 10 photos saved, \d+ of 10 faces protected, photos without a face: 1, done; \d", last
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["other_files"] == 1
    assert summary["independent_judges"] == []
    code, out, _ = bulk("--input=in", "--out=out")
    assert (code, out) == (0, "Every photo of this process is done already.\n")
    code, _, err = bulk("--input=in", "--out=out", "--judges=sface,dlib")
    assert code == 2
    assert "holds the results of a job with other judges" in err
    code, _, err = bulk("--input=in", "--out=out", "--seed=1")
    assert code == 2
    assert "holds the results of a job with other settings" in err


def test_results_that_cannot_be_written_are_no_fault_of_the_program(
    bulk, photos, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ledger.Ledger, "stage", full)
    code, _, err = bulk("--input=in", "--out=out")
    assert code == 2
    assert err == (
        f"tipim: {tmp_path / 'out'} cannot be written: the disk is full; make room and run it again\n"
    )
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "load_models", lambda options, **_: world.models())
    code, out, _ = bulk("--input=in", "--out=out")
    assert code == 0
    assert "9 of 10 photos saved" in out
    assert not (tmp_path / "out" / ".staging").exists()


def test_faces_of_independent_judges(bulk, photos):
    code, out, _ = bulk("--input=in", "--out=out", "--judges=sface,dlib")
    assert code == 0
    assert "Judged at FAR 1e-3 on the saved files by sface, dlib; protected: none" in out


def test_a_second_file_system_is_another_place(tmp_path):
    here, there = storage.folder_at(tmp_path), storage.folder_at("memory://" + str(tmp_path))
    assert storage.is_within(here, here)
    assert storage.is_within(storage.folder_at(tmp_path / "a"), here)
    assert not storage.is_within(storage.folder_at(f"{tmp_path}a"), here)
    assert not storage.is_within(there, here)
    assert storage.is_within(storage.folder_at("memory://a/b"), storage.folder_at("memory://a"))


def test_extra_that_is_missing_is_named(bulk, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "grain" else found(name)
    )
    code, _, err = bulk("--quick")
    assert code == 2
    assert err == (
        'tipim: grain missing for `tipim bulk`; run `pip install "tipim-jax[models,bulk]"`\n'
    )


@pytest.mark.slow
def test_quick(cache, tmp_path):
    """The demo photos by a real recogniser, in a process that joins a cluster of one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    arguments = [
        f"--workdir={tmp_path / 'work'}",
        f"--coordinator_address=localhost:{port}",
        "--num_processes=1",
        "--process_id=0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tipim_jax.cli", "bulk", "--quick", *arguments],
        cwd=ROOT,
        env={**os.environ, "TIPIM_CACHE": str(cache), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.match(
        r"7 of 7 photos saved, \d of 7 faces protected, done; \d+\.\d+ photos/s",
        done.stdout.splitlines()[-1],
    )
    assert json.loads((tmp_path / "work" / "out" / "summary.json").read_text())["saved"] == 7
    shutil.rmtree(tmp_path / "work")
