"""The list of published checkpoints names networks that exist, and docs/checkpoints.md is that list."""

import re
from pathlib import Path

import pytest

from ports import published, random_weights, register
from ports.architectures import ARCHITECTURES
from ports.packages import sha256

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"


def test_every_entry_is_complete_and_convertible():
    for entry in published.CHECKPOINTS:
        assert entry.architecture in ARCHITECTURES
        assert entry.project
        assert entry.file
        assert entry.licence
        assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256)
    hashes = [entry.sha256 for entry in published.CHECKPOINTS if entry.sha256]
    assert len(set(hashes)) == len(hashes)


def test_the_page_is_the_list():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    header, _, *rows = table
    assert [tuple(header), *map(tuple, rows)] == published.rows()


def test_a_listed_file_is_known_again(tmp_path, monkeypatch: pytest.MonkeyPatch):
    checkpoint = tmp_path / "weights.npz"
    random_weights.checkpoint(checkpoint, "mobilefacenet_112x96_128")
    assert published.known(sha256(checkpoint)) is None
    listed = published.CHECKPOINTS[0]._replace(sha256=sha256(checkpoint))
    monkeypatch.setattr(published, "CHECKPOINTS", (listed,))
    done = register.register(checkpoint, "mine", root=tmp_path)
    assert listed.file in done.reason
    assert done.card.licence == listed.licence
