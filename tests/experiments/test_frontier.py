"""Protections of whole photos as files, the lines made of what judges say of them, and the flags."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from experiments import frontier
from experiments.data import dataset
from experiments.judging import lines
from experiments.judging.judges import SAME_PHOTO
from experiments.judging.rows import SAVED, Row
from experiments.protection import saved, specs
from experiments.protection.degradations import JOURNEYS
from experiments.reporting import bootstrap
from ports.networks import yunet
from tipim_jax.errors import UserError
from tipim_jax.photos import engine, pending, protect
from tipim_jax.photos.compilation import Program
from tipim_jax.photos.demo import SAME_PERSON, demo_photos
from tipim_jax.photos.faces import find
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.folders import Job
from tipim_jax.photos.presets import PRESETS
from tipim_jax.photos.saving import protect_photos
from tipim_jax.photos.targets import Targets

TARGETS = Targets(("t",), {"sface": np.ones((1, 128), np.float32)})


@pytest.fixture
def photos() -> dataset.Labelled:
    paths = [path for path in demo_photos() if path.name in SAME_PERSON[0]]
    return dataset.Labelled(tuple(paths), ("a", "a"))


@pytest.fixture
def masked(monkeypatch) -> list[int]:
    """An attack that takes no time: five levels, lighter or darker by face; the sizes of its batches."""
    batches = []

    def protected(made, program, faces, *others):
        batches.append(len(faces))
        signs = [1 if face.canvas.mean() > 100 else -1 for face in faces]
        masks = np.ones((len(faces), 160, 160, 3), np.float32)
        masks *= 5 * np.reshape(signs, (-1, 1, 1, 1))
        return engine.Masks(masks, np.zeros(len(faces), int), 0.0)

    program = Program(2, lambda *arguments: None, 0.0)
    fake = SimpleNamespace(
        settings=PRESETS["medium"],
        target_names=("t",),
        capacity=2,
        full=lambda: program,
        alone=lambda faces, photos: False,
    )
    monkeypatch.setattr(engine, "build", lambda *arguments: fake)
    monkeypatch.setattr(pending, "attack_faces", protected)
    return batches


def test_a_preset_leaves_the_bytes_of_tipim_protect(photos, masked, run_in, tmp_path):
    name = specs.named("medium")
    files = saved.protected(run_in(tmp_path / "run"), name, photos, ["x" * 64, "y" * 64], TARGETS)
    models = protect.Models(partial(find, yunet.load()), engine.build(), [])
    jobs = [Job(path, Path(path.name)) for path in photos.paths]
    results = list(protect_photos(models, jobs, tmp_path / "out"))
    for file, result in zip(files, results, strict=True):
        assert file.read_bytes() == result.output.read_bytes()
    assert masked == [2, 2]


def test_files_that_are_there_are_not_made_again(photos, masked, run_in, tmp_path):
    make = partial(saved.protected, run_in(tmp_path), specs.named("medium"))
    first = make(photos, ["x" * 64, "y" * 64], TARGETS)
    whole = [file.read_bytes() for file in first]
    first[1].unlink()
    assert make(photos, ["x" * 64, "y" * 64], TARGETS) == first
    assert masked == [2, 1]
    assert [file.read_bytes() for file in first] == whole
    make(photos, ["x" * 64, "y" * 64], TARGETS)
    assert masked == [2, 1]
    # another photo of the same name is another file
    assert make(photos, ["x" * 64, "z" * 64], TARGETS)[1] != first[1]


def test_a_control_is_pasted_where_the_face_is(photos, run_in, tmp_path):
    make = partial(saved.protected, run_in(tmp_path), photos=photos, targets=TARGETS)
    digests = ["x" * 64, "y" * 64]
    before = [read_photo(path).pixels for path in photos.paths]
    noisy, plain = (
        [read_photo(file).pixels for file in make(specs.named(name), digests=digests)]
        for name in ("noise:epsilon=12", "unprotected")
    )
    for photo, with_noise, without in zip(before, noisy, plain, strict=True):
        change = np.abs(with_noise.astype(int) - without)
        assert change.max() > 8
        assert np.mean(change > 3) < 0.7  # the rest of the photo is as it was
        assert np.abs(without.astype(int) - photo).mean() < 2
    with pytest.raises(UserError, match="leave out _best"):
        make(specs.named("sface/mim_best"), digests=digests)


def row(text: str, hidden: dict[str, list[int]], ssim: list[float]) -> Row:
    judged = np.array(list(hidden.values()), float)
    axes = ("judge", "photo")
    values = {SAME_PHOTO: (axes, judged), "linked": (axes, 1 - judged)}
    looked = {"face SSIM": ("photo", ssim), "face PSNR": ("photo", np.full(len(ssim), 30.0))}
    groups = {"album": xr.Dataset(values, {"judge": list(hidden)})}
    return Row(specs.named(text), [], {SAVED: groups}, {"album": xr.Dataset(looked)}, {SAVED: 0.0})


def test_mean_and_worst_over_the_judges():
    one = row("medium", {"p": [1, 1, 1, 0], "q": [1, 0, 0, 0]}, [0.9, 0.9, 0.8, np.nan])
    (line,) = lines.overall(one, 0)
    assert (line[SAME_PHOTO], line[f"{SAME_PHOTO} worst"]) == (0.5, 0.25)
    assert (line["linked"], line["linked worst"]) == (0.5, 0.75)  # more links are worse
    assert line["photos"] == 4
    (short,) = lines.shares([line], [SAME_PHOTO, "Rank-1-UT"])
    assert short[SAME_PHOTO].startswith("50.0 [")
    assert short[SAME_PHOTO].endswith("/ 25.0")
    assert "Rank-1-UT" not in short
    (look,) = lines.looks(one, 0)
    assert look["face SSIM"] == pytest.approx(2.6 / 3)  # of the photos that have the part
    assert {x["judge"]: x[SAME_PHOTO] for x in lines.by_judge(one, 0)} == {"p": 0.75, "q": 0.25}
    assert lines.main_figure(one, 0).startswith("medium: same photo hidden 0.50, worst 0.25; ")


def test_what_a_journey_takes_away():
    one = row("medium", {"p": [1, 1, 1, 0], "q": [1, 0, 0, 0]}, [0.9] * 4)
    worn = row("medium", {"p": [1, 1, 0, 0], "q": [0, 0, 0, 0]}, [0.9] * 4)
    one = one._replace(judged={**one.judged, "blur 1": worn.judged[SAVED]})
    (line,) = lines.overall(one, 0, "blur 1")
    assert line[lines.LOST] == line[f"{lines.LOST} high"] - 0.25 == 0.25  # 4/8 − 2/8
    (short,) = lines.shares([line], [SAME_PHOTO, lines.LOST])
    assert short[SAME_PHOTO].endswith("/ 0.0")
    assert short[lines.LOST] == "25.0 [0.0, 50.0]"


def test_rows_are_compared_by_judges_that_neither_has_seen():
    first = row("medium", {"p": [1, 1], "q": [1, 0]}, [0.9, 0.7])
    second = row("low", {"q": [0, 0], "r": [1, 1]}, [0.8, 0.8])
    (line,) = lines.compared(first, second, 0)
    assert line[SAME_PHOTO] == 0.5
    assert line["face SSIM"] == pytest.approx(0)
    with pytest.raises(UserError, match="no judge is a surrogate of neither medium nor low"):
        lines.compared(first, row("low", {"r": [1, 1]}, [0.8, 0.8]), 0)


def test_the_worst_of_means_has_an_interval():
    rng = np.random.default_rng(0)
    values = rng.random((3, 400)) < [[0.9], [0.5], [0.7]]
    worst = bootstrap.worst(values)
    assert worst == bootstrap.interval(values[1])
    assert bootstrap.worst(values, np.max).mean == values[0].mean()


def test_flags():
    assert frontier.chosen_probes("100:200") == (100, 200)
    for text in ("100", "a:3", "-1:3", ":"):
        with pytest.raises(UserError, match="not FIRST:COUNT"):
            frontier.chosen_probes(text)
    with pytest.raises(UserError, match="medium@5: leave out @5"):
        frontier.named(["medium@5"], ["dlib"], quick=False)
    with pytest.raises(UserError, match="sface/mim_best: leave out _best"):
        frontier.named(["sface/mim_best"], ["dlib"], quick=False)
    assert list(frontier.named(["sface/low"], ["sface", "dlib"], quick=True)) == ["sface/low"]
    with pytest.raises(UserError, match="medium: all who judge are surrogates of it"):
        frontier.named(["medium"], ["sface", "dlib"], quick=False)
    assert frontier.journeys([]) == []
    assert frontier.journeys(["all"]) == list(JOURNEYS)
    assert frontier.journeys(["crop", "JPEG 75"]) == ["crop", "JPEG 75"]
    with pytest.raises(UserError, match="--after=jpeg is no journey; use all, or JPEG 75"):
        frontier.journeys(["jpeg"])
