"""Rows of a run: what their names mean, that a stopped run goes on, and the lines made of them."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from experiments.data import dataset
from experiments.judging import ranking
from experiments.protection import cells, methods, runs, specs
from experiments.protection.methods import Setting
from experiments.reporting import bootstrap, results, tables
from tipim_jax.errors import UserError
from tipim_jax.photos import verify
from tipim_jax.photos.presets import PRESETS

ROWS = ("noise", "tiny/mim_best", "tiny/mt_dim@4", "tiny/tip_im:targets=1:diversity=none")


def everything(run, bench, rows=ROWS):
    made = [runs.measured(run, bench, name) for name in run.named(rows, every_target=True).values()]
    lines = [line for row in made for line in tables.lines(row, run.seed)]
    results.save(run.workdir, "lines", lines)
    return made


def contents(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def logged(run):
    return [line.split("\t")[0] for line in (run.workdir / cells.LOG).read_text().splitlines()]


def test_a_stopped_run_goes_on_and_leaves_the_same_bytes(bench, run_in, tmp_path, monkeypatch):
    whole, stopped = run_in(tmp_path / "whole"), run_in(tmp_path / "stopped")
    everything(whole, bench, ROWS[:2])

    calls, protect = [], methods.protect

    def killed(*arguments):
        calls.append(None)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return protect(*arguments)

    monkeypatch.setattr(methods, "protect", killed)
    with pytest.raises(KeyboardInterrupt):
        everything(stopped, bench, ROWS[:2])
    half = logged(stopped)
    assert 0 < len(half) < len(logged(whole))
    # A cell that was being written when the power went.
    (stopped.workdir / "cells/tiny/mim_best@6/.00004.npz.part").write_bytes(b"half")

    monkeypatch.setattr(methods, "protect", protect)
    everything(stopped, bench, ROWS[:2])
    assert logged(stopped)[: len(half)] == half
    assert logged(stopped) == logged(whole)  # every cell once, in order
    left = [contents(run.workdir) for run in (whole, stopped)]
    for files in left:
        files.pop(cells.LOG)
        files.pop("cells/tiny/mim_best@6/.00004.npz.part", None)
    assert left[0] == left[1]


def test_rows_are_what_their_names_say(bench, run_in, tmp_path):
    noise, best, mt_dim, one = (measured.row for measured in everything(run_in(tmp_path), bench))
    np.testing.assert_array_equal(noise.clean, bench.probes.canvases)
    assert best.canvases.shape == (6, 2, 160, 160, 3)  # one for each target
    np.testing.assert_array_equal(mt_dim.probes, [0, 1, 3, 4])
    assert one.canvases.shape == (6, 1, 160, 160, 3)
    for row in (best, mt_dim, one):
        change = row.canvases.astype(int) - row.clean[:, None]
        assert 0 < np.abs(change).max() <= 12
    # The first target alone, by another search: the same as the attack on it, but for momentum's views.
    assert not np.array_equal(best.canvases[:, 0], best.canvases[:, 1])


def test_nearest_is_one_of_the_targets(bench, run_in, tmp_path):
    run = run_in(tmp_path)
    best, nearest = (
        runs.protect(run, bench, name).canvases
        for name in run.named(["tiny/mim_best", "tiny/mim"], every_target=True).values()
    )
    targets = bench.target_embeddings["tiny"]
    judge = bench.judges[0]
    clean = np.asarray(judge.embed(judge.params, bench.probes.canvases.astype(np.float32)))
    chosen = np.argmin(np.sum((clean[:, None] - targets) ** 2, axis=-1), axis=1)
    assert len(set(chosen)) == 2
    np.testing.assert_array_equal(nearest[:, 0], best[np.arange(6), chosen])


def test_names():
    name = specs.named("ensemble/dim_best:gamma=2:batch=50:squared=0:targets=3@7")
    assert name.surrogates == ("mobilefacenet_casia", "sface", "dlib")
    assert (name.method, name.best, name.targets, name.batch, name.probes) == (
        "dim",
        True,
        3,
        50,
        7,
    )
    assert name.setting == Setting(gamma=2.0, squared=False)
    assert "@" not in name.folder
    assert ":" not in name.folder
    assert specs.named("a+b/tip_im", Setting(steps=3)).surrogates == ("a", "b")
    assert specs.named("medium").surrogates == ("sface", "dlib")
    changed = specs.named("sface/medium:level=8:steps=3")
    assert changed.settings(PRESETS) == PRESETS["medium"]._replace(level=8.0, steps=3)
    assert changed.setting == Setting()
    assert specs.named("unprotected@5").surrogates == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mediun", "'mediun' is no protection; use unprotected, noise"),
        ("sface/tipim", "unknown method 'tipim'"),
        ("sface/tip_im_best", "tip_im chooses among the targets itself"),
        ("sface/tip_im:gama=1", "'gama' is no setting; use targets, batch, virtual, epsilon"),
        ("sface/tip_im:gamma=x", "'x' is not a number"),
        ("sface/tip_im@all", "'all' is not a whole number"),
        ("sface/tip_im:virtual=yes", "'yes' is neither 0 nor 1"),
        ("sface/tip_im@0", "0 is too few; give 1 or more"),
        ("sface/tip_im:batch=0", "0 is too few; give 1 or more"),
        ("sface/tip_im:norm=l3", "'l3' is none of linf, l2"),
        ("sface/mim_untargeted_best", "mim_untargeted has no target; leave out _best"),
        ("medium:targets=3", "medium takes no targets=3, only virtual and settings"),
        ("medium:seed=3", "'seed' is no setting; use targets, batch, virtual, level"),
        ("medium:goal=vanish", "goal is 'vanish'; choose one of hide, become"),
        ("medium:level=x", "'x' is not a number"),
        ("noise:alpha=2", "noise takes no alpha=2, only epsilon"),
        ("blur_best", "blur takes no _best, only epsilon"),
    ],
)
def test_names_that_are_none(text, complaint):
    with pytest.raises(UserError, match=complaint):
        specs.named(text)


def found_by(hits):
    """Hits [P,V] of each recogniser, the same for every measure."""
    values = (("judge", "photo", "variant"), np.array(list(hits.values()), bool))
    return xr.Dataset(dict.fromkeys(ranking.MEASURES, values), {"judge": list(hits)})


def row(hits, probes, best=False, surrogates=("tiny",)):
    """A measured row of hits [P,V] that are the same for every measure, on two recognisers."""
    name = specs.named("tiny/mim_best" if best else "tiny/tip_im")._replace(surrogates=surrogates)
    found = found_by({"tiny": hits, "other": hits})
    quality = {"PSNR": np.full(len(hits), np.inf), "SSIM": np.ones(len(hits))}
    return runs.Measured(runs.Row(name, np.asarray(probes), hits, hits), found, quality)


def test_two_readings_of_a_protection_run_on_every_target():
    hits = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 1], [0, 0, 0]], bool)
    lines = tables.lines(row(hits, range(4), best=True), 0)
    shares = {line["protection"].split(", ")[1]: line["Rank-1-T"] for line in lines}
    assert shares == {"best per probe": 0.75, "best target": 0.5}
    assert {line["PSNR"] for line in lines} == {None}
    shape = tables.pivoted(lines, "UT")
    assert [list(line) for line in shape] == [
        ["protection", "probes", "PSNR", "SSIM", "tiny", "other"]
    ] * 2
    assert shape[1]["tiny"].startswith("50 [0, 100] / 50")
    assert [shape[1][r][-1] for r in ("tiny", "other")] == ["*", "0"]


def test_the_best_target_is_one_target_for_all_recognisers():
    name = specs.named("tiny/mim_best")
    by = {"tiny": [[1, 1, 0]], "other": [[0, 0, 1]], "third": [[0, 1, 1]]}
    found = found_by(by)
    quality = {"PSNR": np.ones(1), "SSIM": np.ones(1)}
    measured = runs.Measured(runs.Row(name, np.arange(1), by, by), found, quality)
    lines = [line for line in tables.lines(measured, 0) if "best target" in line["protection"]]
    assert {line["recogniser"]: line["Rank-1-T"] for line in lines} == {
        "tiny": 0,
        "other": 1,
        "third": 1,
    }
    differences = tables.compared(measured, measured, 0)
    readings = [f"tiny/mim_best, best {reading}" for reading in ("per probe", "target")]
    seen = dict.fromkeys((line["first"], line["second"]) for line in differences)
    assert list(seen) == list(itertools.product(readings, readings))


def test_rows_are_compared_on_the_probes_of_both():
    first = row(np.array([[1], [1], [0], [1]], bool), [0, 2, 4, 6])
    second = row(np.array([[0], [1], [0]], bool), [2, 6, 8])
    lines = {line["recogniser"]: line for line in tables.compared(first, second, 0)}
    assert list(lines) == ["tiny", "other", "all unseen"]
    assert {line["probes"] for line in lines.values()} == {2}
    assert lines["tiny"]["Rank-1-T"] == 0.5  # probe 2: 1 − 0, probe 6: 1 − 1
    assert lines["all unseen"] == {**lines["other"], "recogniser": "all unseen"}
    with pytest.raises(UserError, match="no probe in common"):
        tables.compared(first, row(np.ones((1, 1), bool), [1]), 0)


def test_intervals_are_those_of_the_bootstrap():
    values = np.random.default_rng(3).random(80) < 0.3
    found = bootstrap.interval(values, seed=1)
    share = values.mean()
    error = 1.96 * np.sqrt(share * (1 - share) / 80)  # of the normal approximation
    np.testing.assert_allclose(found, (share, share - error, share + error), atol=0.02)
    assert bootstrap.interval(values, seed=1) == found
    assert bootstrap.paired(values, values) == (0, 0, 0)
    assert bootstrap.interval(np.ones(5)) == (1, 1, 1)


def test_presets_go_through_the_photo(monkeypatch, tmp_path):
    """The mask is pasted into the photo and the photo cropped anew: on the face little of it is lost."""
    mask = np.full((2, 160, 160, 3), 5.0, np.float32)
    engine = SimpleNamespace(full=lambda: None)
    monkeypatch.setattr(specs.engine, "build", lambda *arguments: engine)
    made = specs.engine.Masks(mask, np.zeros(2, int), 0.0)
    monkeypatch.setattr(specs.engine, "attack_faces", lambda *arguments: made)
    protocol = dataset.built_in_protocol()
    faces = dataset.faces(protocol.probes, tmp_path)
    subjects = specs.Subjects(faces, ("t",), {})
    make = specs.maker(specs.named("medium"), subjects, 2, 0)
    change = make(np.arange(2))[:, 0].astype(int) - faces.canvases
    np.testing.assert_allclose(np.median(change[:, 30:130, 30:130], axis=(1, 2, 3)), 5, atol=1)
    assert np.abs(change[:, 0]).max() <= 2  # it fades out at the border


def test_a_run_refuses_other_weights(run_in, tmp_path, monkeypatch):
    """What was made with a model is not mixed with what another one of its name would make."""
    run = run_in(tmp_path)
    run.named(["first/mim"])
    run.named(["first/mim", "second/mim"])
    monkeypatch.setattr(runs, "digest", lambda name: f"{name}, registered anew")
    with pytest.raises(UserError, match="another model that was called second"):
        run.named(["second/mim"])
    run._replace(workdir=tmp_path / "other").named(["second/mim"])


def test_a_model_is_known_by_its_card(monkeypatch):
    digest, card = runs.digest("sface"), runs.zoo.find("sface")
    assert runs.digest("sface") == digest != runs.digest("dlib")
    for changed in (card._replace(origin="other weights"), card._replace(scale=2.0)):
        monkeypatch.setattr(runs.zoo, "find", lambda _, changed=changed: changed)
        assert runs.digest("sface") != digest


def test_a_run_refuses_rows_that_it_cannot_judge(run_in, tmp_path):
    run = run_in(tmp_path)
    assert list(run.named(["tiny/mim_best"], every_target=True)) == ["tiny/mim_best"]
    with pytest.raises(UserError, match="leave out _best"):
        run.named(["tiny/mim_best"])
    with pytest.raises(UserError, match="add absent to --models"):
        run._replace(models=["tiny"]).named(["absent+tiny/mim"])


def test_canvases_of_another_aligner_are_not_taken(monkeypatch, tmp_path):
    photos = dataset.built_in_protocol().probes
    first = dataset.faces(photos, tmp_path)
    for stored in tmp_path.rglob("*.npy"):
        np.save(stored, np.zeros((160, 160, 3), np.uint8))
    assert not dataset.faces(photos, tmp_path).canvases.any()  # they are taken from the cache
    monkeypatch.setattr(dataset, "version", lambda: "another")
    np.testing.assert_array_equal(dataset.faces(photos, tmp_path).canvases, first.canvases)


def test_embeddings_are_kept_by_what_was_embedded(tmp_path):
    canvases = np.random.default_rng(0).integers(0, 255, (2, 160, 160, 3), np.uint8)
    seen = []

    def embed(_, images):
        seen.append(len(images))
        return np.asarray(images).reshape(len(images), -1)[:, :4]

    verifier = verify.Verifier("tiny", embed, np.ones(1), 0.3)
    faces = dataset.Faces((Path("a"), Path("b")), canvases, np.array(["a", "b"]), ("x", "y"), ())
    dataset.embeddings(verifier, faces, tmp_path)
    dataset.embeddings(verifier, faces, tmp_path)
    assert len(seen) == 1
    other = faces._replace(canvases=canvases[::-1])  # of the same photos, aligned otherwise
    np.testing.assert_array_equal(
        dataset.embeddings(verifier, other, tmp_path)[0], canvases[1].ravel()[:4]
    )
    assert len(seen) == 1
