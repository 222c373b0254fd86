"""What launches refuse reaches the user as `UserError`; nothing else in them does."""

import ast
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import experiments
from experiments.data import dataset, protocols
from experiments.judging import matching
from experiments.launching import launch
from experiments.protection import specs
from experiments.recordings import recording
from experiments.reporting import results
from tipim_jax.errors import UserError

EXPERIMENTS = [
    path
    for path in sorted(Path(dataset.__file__).parents[1].rglob("*.py"))
    if path.name != "launch.py"
]
# Faults of whoever calls, which keep their traceback: (file, what it says).
FAULTS = {
    ("identity_folder.py", "give root, the identity folder, to build this dataset"),
}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_launches_refuse_in_one_way(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        raised = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.func
        name = raised.id if isinstance(raised, ast.Name) else ""
        if name in ("ValueError", "SystemExit", "ImportError"):
            text = ast.unparse(node)
            assert any(path.name == file and said in text for file, said in FAULTS), text


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"{}", b'{"hashes": 3}', b"no JSON"])
def test_a_manifest_that_is_none(content, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(content)
    for read in (
        dataset.read_protocol,
        matching.read,
        lambda path, root: protocols.based(path, {}),
    ):
        with pytest.raises(UserError, match=r"is not a (verification )?protocol"):
            read(manifest, tmp_path)


def test_hashes_are_a_table(tmp_path):
    photos = {"probes": {"a": "1.png"}, "target_images": {"b": "1.png"}}
    strangers = {"gallery": {}, "target_gallery": {}, "distractors": {"c": ["1.png"]}}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({**photos, **strangers, "hashes": ["1.png"]}))
    with pytest.raises(UserError, match="is not a protocol"):
        dataset.read_protocol(manifest, tmp_path)


def test_a_recording_that_was_cut_short(tmp_path):
    path = tmp_path / "recording.nc"
    recording.save(path, xr.Dataset({"x": ("image", np.ones(300))}))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[10:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a recording"):
            recording.load(path)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("epsilon=0", "epsilon is 0; give more than 0"),
        ("epsilon=nan", "epsilon is nan; give more than 0"),
        ("alpha=-1", "alpha is -1; give more than 0"),
        ("steps=0", "steps is 0; give more than 0"),
        ("gamma=-1", "gamma is -1; give 0 or more"),
        ("decay=inf", "decay is inf; give 0 or more"),
        ("reduce=mean", "'mean' is none of max, sum, min"),
    ],
)
def test_settings_out_of_range(settings, complaint):
    with pytest.raises(UserError, match=complaint):
        specs.named(f"sface/tip_im:{settings}")


def test_launches_say_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tabulate" else 1)
    with pytest.raises(
        UserError, match=r"need tabulate; run `pip install \"tipim-jax\[experiments\]\"`"
    ):
        importlib.reload(experiments)


def test_a_fault_of_the_program_keeps_its_traceback(capsys, monkeypatch):
    """Only what a user gave ends in one sentence; XLA tells of wrong shapes by ValueErrors too."""
    monkeypatch.setattr(launch.app, "run", lambda main: main(["launch"]))

    def refuses(_: list[str]) -> None:
        raise UserError("give --data_dir")

    def fails(_: list[str]) -> None:
        raise ValueError("shapes (3,) and (4,) do not fit")

    launch.run(refuses)
    assert capsys.readouterr().err == "error: give --data_dir\n"
    with pytest.raises(ValueError, match="do not fit"):
        launch.run(fails)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        results.prepare(str(tmp_path / "file" / "work"), {})
