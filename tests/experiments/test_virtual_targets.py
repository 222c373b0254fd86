"""The look at virtual targets refuses what it cannot measure, before it computes."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import virtual_targets
from experiments.data import dataset
from experiments.launching import launch
from tipim_jax.errors import UserError
from tipim_jax.photos import targets


@pytest.fixture
def begun(monkeypatch, run_in, tmp_path):
    """(models, people of the photos) -> a launch that begins with these, whatever its flags."""

    def made(models: list[str] | None, people: str) -> None:
        photos = dataset.Labelled(tuple(map(Path, people)), tuple(people))
        protocol = dataset.Protocol("made", photos, dataset.Labelled((), ()), photos)
        run = run_in(tmp_path)._replace(protocol=protocol, models=models)
        monkeypatch.setattr(launch, "begin", lambda *_, **__: run)
        canvases = np.zeros((len(people), 160, 160, 3), np.uint8)
        found = dataset.Faces(photos.paths, canvases, np.array(list(people)), tuple(people), ())
        monkeypatch.setattr(dataset, "faces", lambda *_: found)

    return made


def no_work(*_):
    raise AssertionError("nothing is to be embedded")


def test_virtual_targets_of_the_models_asked_for(begun, monkeypatch, tmp_path):
    monkeypatch.setattr(virtual_targets, "_TARGETS", SimpleNamespace(value=None))
    monkeypatch.setattr(dataset, "embeddings", no_work)
    begun(["nosuch"], "ab")
    with pytest.raises(ValueError, match="the targets hold no embeddings of nosuch"):
        virtual_targets.main([])
    begun(["sface"], "aa")
    with pytest.raises(UserError, match="no stranger to compare a with"):
        virtual_targets.main([])
    narrow = targets.Targets(("virtual 1",), {"sface": np.ones((1, 3), np.float32)})
    targets.save(narrow, tmp_path / "narrow.npz")
    monkeypatch.setattr(
        virtual_targets, "_TARGETS", SimpleNamespace(value=str(tmp_path / "narrow.npz"))
    )
    begun(None, "ab")
    with pytest.raises(ValueError, match="embeddings of sface have 3 numbers instead of"):
        virtual_targets.main([])
    monkeypatch.setattr(virtual_targets, "_TARGETS", SimpleNamespace(value=None))
    monkeypatch.setattr(dataset, "embeddings", lambda judge, found, cache: np.eye(2, 128))
    begun(["sface"], "ab")
    virtual_targets.main([])
    assert len((tmp_path / "virtual_targets.csv").read_text().splitlines()) == 2
