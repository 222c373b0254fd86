"""Watched attacks: what their names ask for is done, and the target that is recorded is the one aimed at."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.judging import ranking
from experiments.protection import runs, specs
from experiments.recordings import recorder, surface
from experiments.recordings.recorder import Watch
from tests.experiments.conftest import embed
from tipim_jax.errors import UserError


@pytest.fixture
def seen_by(bench, run_in, tmp_path, monkeypatch):
    """(name of a protection, probes that watch) -> the watched attack on the bench's six photos."""
    params = {judge.name: judge.params for judge in bench.judges}
    monkeypatch.setattr(recorder, "on_canvas", lambda name: (embed, params[name]))

    def watch(text: str, *probes: str) -> recorder.Watched:
        name = specs.named(text)
        work = run_in(tmp_path / name.folder)
        return recorder.watched(work, bench, Watch(name, probes, ("tiny", "other"), 1), name.folder)

    return watch


def nearest(bench: ranking.Bench, count: int | None = None) -> np.ndarray:
    judge = bench.judges[0]
    clean = np.asarray(judge.embed(judge.params, jnp.asarray(bench.probes.canvases, jnp.float32)))
    return np.argmax(clean @ bench.target_embeddings["tiny"][:count].T, axis=1)


def test_the_one_target_of_a_photo_is_recorded(bench, seen_by):
    seen = seen_by("tiny/mim:steps=3", "identity", "similarity")
    expected = nearest(bench)
    assert set(expected) == {0, 1}
    np.testing.assert_array_equal(seen.targets, expected)
    np.testing.assert_array_equal(seen.recording["target"], expected[:, None] + [[0, 0, 0]])
    assert seen.recording["similarity_target"].shape[-1] == 1
    assert seen.recording["targets"].values.tolist() == ["nearest"]


def test_a_search_records_its_own_choice(seen_by):
    seen = seen_by("tiny/tip_im:steps=3:search=exhaustive", "identity")
    np.testing.assert_array_equal(seen.targets, seen.recording["target"][:, -1])
    assert seen.recording["targets"].values.tolist() == ["s", "t"]


def test_the_surface_is_cut_towards_the_target_of_the_photo(bench, seen_by):
    """Without the probe that records targets; with the first target for all it would not be."""
    seen = seen_by("tiny/mim:steps=3", "movement")
    across, along, margins = surface.surface(seen, ["tiny"], 4, points=15)["tiny"]
    np.testing.assert_allclose((along[2], along[10], across[7]), (0, 1, 0))
    judge, aims = bench.judges[0], nearest(bench)[:4]
    assert set(aims) == {0, 1}
    clean, made = (
        np.asarray(judge.embed(judge.params, jnp.asarray(images[:4], jnp.float32)))
        for images in (bench.probes.canvases, seen.canvases)
    )
    way = bench.target_embeddings["tiny"][aims] - clean
    for place, embedded in ((2, clean), (10, made)):
        expected = np.mean(np.sum(embedded * way, axis=1))
        np.testing.assert_allclose(margins[place, 7], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "probes", "targets", "parts"),
    [("", 6, 2, 3), (":targets=1", 6, 1, 3), (":batch=3", 6, 2, 2), ("@4", 4, 2, 2)],
)
def test_options_of_a_method(options, probes, targets, parts, seen_by, tmp_path):
    name = f"tiny/tip_im:steps=2:search=exhaustive{options}"
    seen = seen_by(name, "identity")
    assert len(seen.canvases) == seen.recording.sizes["image"] == probes
    assert seen.recording["gain"].shape == (probes, 2, targets)
    assert seen.recording.sizes["targets"] == targets
    cells = list((tmp_path / specs.named(name).folder).glob("cells/**/0*.npz"))
    assert len(cells) == parts


def test_virtual_targets_are_aimed_at(seen_by, monkeypatch):
    virtual = {"tiny": np.eye(8, dtype=np.float32)[:3]}
    monkeypatch.setattr(runs, "built_in", lambda: runs.Targets(("1", "2", "3"), virtual))
    with pytest.raises(UserError, match="no embeddings by other; give --witnesses out of tiny"):
        seen_by("tiny/tip_im:steps=2:virtual=1", "identity")


def test_watching_takes_one_target_a_photo(run_in, tmp_path):
    with pytest.raises(UserError, match="leave out _best"):
        run_in(tmp_path).named(["tiny/mim_best"])
