"""`tipim models calibrate`: thresholds from a folder of people, kept where every command looks for them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ports import zoo
from tests.photos.test_cli import refused
from tipim_jax.errors import UserError
from tipim_jax.photos import calibration, verify
from tipim_jax.photos.demo import demo_photos


@pytest.fixture
def people(tmp_path):
    """The demo photos, a folder a person, and a picture without a face."""
    for path in demo_photos():
        person = tmp_path / "people" / path.stem.split("_")[0]
        person.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, person / path.name)
    return tmp_path / "people"


@pytest.mark.parametrize("person", [[0, 0, 1, 2], [2, 1, 0, 2, 1, 2, 0, 2], [0, 1, 0, 1, 0]])
def test_pairs_are_all_genuine_and_as_many_different_impostors(person):
    person = np.array(person)
    genuine, impostor = calibration.pairs(person, seed=3)
    first, second = np.triu_indices(len(person), 1)
    everyone = {
        frozenset(pair) for pair in zip(first, second) if person[pair[0]] == person[pair[1]]
    }
    assert {frozenset(pair) for pair in genuine} == everyone
    assert (
        len({frozenset(pair) for pair in impostor})
        == len(impostor)
        == len(genuine)
        == len(everyone)
    )
    assert (person[impostor[:, 0]] != person[impostor[:, 1]]).all()
    again = calibration.pairs(person, seed=3)
    np.testing.assert_array_equal(again[1], impostor)


def test_every_impostor_pair_can_be_drawn():
    person = np.array([1, 0, 0, 2])
    drawn = {frozenset(pair) for seed in range(60) for pair in calibration.pairs(person, seed)[1]}
    assert drawn == {frozenset(pair) for pair in ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))}


@pytest.mark.parametrize("person", [[0, 1, 2], [0, 0], [0, 0, 0, 0, 1]])
def test_too_few_people_are_refused(person):
    with pytest.raises(UserError, match="not enough to calibrate; give a folder of more people"):
        calibration.pairs(np.array(person), seed=0)


def test_a_threshold_is_measured_and_used(bare_tipim, people, tmp_path):
    Image.new("RGB", (200, 200)).save(people / "macron" / "dark.png")
    shipped = zoo.thresholds("sface")
    code, out, err = bare_tipim("models", "calibrate", people, "--models=sface")
    assert code == 0
    assert "2 pairs of strangers are too few for a false accept rate of 1e-3" in err
    assert "photos without a face: 1, " in err
    path = tmp_path / "models" / "sface" / "calibration.json"
    assert str(path) in out
    figures = json.loads(path.read_text())
    assert figures["accuracy"] == 1  # the demo's people are told apart
    assert figures["protocol"] == "people: 2 genuine and 2 impostor pairs, seed 0"
    assert zoo.thresholds("sface") == figures != shipped
    assert verify.load("sface").threshold == figures["far_1e-3"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--models=nosuch"], r"there is no model 'nosuch'; known: sface"),
        (["--seed=-1"], r"--seed must be 0 or more, not -1"),
        (["--models=frfeat"], r"run `tipim models fetch frfeat`"),
    ],
)
def test_bad_options_of_calibrate(tipim, tmp_path, arguments, message):
    refused(tipim("models", "calibrate", tmp_path, *arguments), message)


def test_a_folder_to_calibrate_with(tipim, tmp_path):
    missing = tmp_path / "missing"
    refused(tipim("models", "calibrate", missing, "--models=sface"), "missing is not a folder")
