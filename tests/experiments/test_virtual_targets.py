"""The look at virtual targets refuses what it cannot measure, before it computes."""

from pathlib import Path

import numpy as np
import pytest

from experiments.data import dataset
from experiments.protection.runs import Run
from experiments.studies import virtual
from tipim_jax.errors import UserError
from tipim_jax.photos import targets


@pytest.fixture
def begun(monkeypatch, run_in, tmp_path):
    """(models, people of the photos) -> a run on these."""

    def made(models: list[str] | None, people: str) -> Run:
        photos = dataset.Labelled(tuple(map(Path, people)), tuple(people))
        protocol = dataset.Protocol("made", photos, dataset.Labelled((), ()), photos)
        canvases = np.zeros((len(people), 160, 160, 3), np.uint8)
        found = dataset.Faces(photos.paths, canvases, np.array(list(people)), tuple(people), ())
        monkeypatch.setattr(dataset, "faces", lambda *_: found)
        return run_in(tmp_path)._replace(protocol=protocol, models=models)

    return made


def no_work(*_):
    raise AssertionError("nothing is to be embedded")


def test_virtual_targets_of_the_models_asked_for(begun, monkeypatch, tmp_path):
    monkeypatch.setattr(dataset, "embeddings", no_work)
    with pytest.raises(ValueError, match="the targets hold no embeddings of nosuch"):
        virtual.study(begun(["nosuch"], "ab"), None)
    with pytest.raises(UserError, match="no stranger to compare a with"):
        virtual.study(begun(["sface"], "aa"), None)
    narrow = targets.Targets(("virtual 1",), {"sface": np.ones((1, 3), np.float32)})
    targets.save(narrow, tmp_path / "narrow.npz")
    with pytest.raises(ValueError, match="embeddings of sface have 3 numbers instead of"):
        virtual.study(begun(None, "ab"), str(tmp_path / "narrow.npz"))
    monkeypatch.setattr(dataset, "embeddings", lambda judge, found, cache: np.eye(2, 128))
    virtual.study(begun(["sface"], "ab"), None)
    assert len((tmp_path / "virtual_targets.csv").read_text().splitlines()) == 2
