"""What Python users are shown: the examples of docstrings, README.md and docs/python.md run as they stand."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tipim_jax
from tipim_jax import Protector
from tipim_jax.photos import presets
from tipim_jax.photos.demo import demo_photos

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "docs/python.md"]
WITH_EXAMPLES = [
    "tipim_jax.api",
    "tipim_jax.core.attack",
    "tipim_jax.photos.check",
    "tipim_jax.photos.verify",
    "ports.zoo",
]
QUICK = {"surrogates": ["sface"], "judges": ["sface"], "steps": 2, "photos": 2}


@pytest.fixture(scope="module", autouse=True)
def kept_programs(cache, tmp_path_factory):
    """Programs of other tests and runs are found again; no model of the user is."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TIPIM_CACHE", str(cache))
        monkeypatch.setenv("TIPIM_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


@pytest.fixture(scope="module")
def protector():
    return Protector("low", **QUICK)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(importlib.import_module(module), verbose=False)
    assert tried
    assert not failed


@pytest.mark.parametrize("page", PAGES)
def test_examples_on_pages(page, tmp_path, monkeypatch, capsys):
    shutil.copy(demo_photos()[0], tmp_path / "portrait.jpg")
    monkeypatch.chdir(tmp_path)
    for name, preset in presets.PRESETS.items():  # as they stand, in fewer steps
        monkeypatch.setitem(presets.PRESETS, name, preset._replace(steps=2))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    assert (tmp_path / "protected.jpg").exists()


def test_every_name_is_there_and_documented():
    for name in tipim_jax.__all__:
        value = getattr(tipim_jax, name)
        assert name in dir(tipim_jax)
        assert name == "__version__" or value.__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tipim_jax.nonsense  # noqa: B018


def test_importing_imports_little():
    code = "import sys, tipim_jax; print([m for m in ('jax', 'numpy', 'PIL', 'flax') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


def test_pictures_of_every_kind_give_the_same(protector):
    path = demo_photos()[0]
    pixels = np.asarray(Image.open(path).convert("RGB"))
    given = {"path": str(path), "pillow": Image.open(path), "array": pixels}
    done = dict(zip(given, protector.map(given.values()), strict=True))
    assert [one.format for one in done.values()] == ["JPEG", "PNG", "PNG"]
    np.testing.assert_array_equal(done["pillow"].pixels, done["array"].pixels)
    assert done["path"].faces[0].box == done["array"].faces[0].box
    lossless = done["array"]
    face = lossless.faces[0]
    left, top, width, height = (int(value) for value in face.box)
    inside = (lossless.pixels.astype(int) - pixels)[top : top + height, left : left + width]
    assert face.mask is not None
    np.testing.assert_array_equal(face.mask[:height, :width], inside)
    assert inside.any()
    np.testing.assert_array_equal(np.asarray(lossless.image), lossless.pixels)


def test_a_grey_picture_stays_grey(protector):
    (done,) = protector.map([Image.open(demo_photos()[0]).convert("L")])
    assert done.image.mode == "L"
    assert done.faces


def test_one_bad_picture_stops_nobody(protector):
    bad = ["missing.jpg", np.zeros((4, 4), np.float32), 7, np.zeros((0, 3, 3), np.uint8)]
    *failed, good = protector.map([*bad, demo_photos()[0]])
    assert good.error is None
    for done, words in zip(
        failed, ["does not exist", "float32 is no", "cannot be a int", "0×3×3"], strict=True
    ):
        assert words in str(done.error)
        assert not done.protected
        for use in ("image", "pixels", "data"):
            with pytest.raises(tipim_jax.UserError, match=words):
                getattr(done, use)
        with pytest.raises(tipim_jax.UserError, match=words):
            done.save("never.png")
    with pytest.raises(tipim_jax.UserError, match="does not exist"):
        protector("missing.jpg")


def test_a_picture_without_a_face_comes_back(protector, tmp_path):
    plain = np.full((64, 64, 3), 200, np.uint8)
    done = protector(plain)
    assert done.faces == ()
    assert not done.protected
    assert "no face" in done.notes[0]
    np.testing.assert_array_equal(done.pixels, plain)
    with Image.open(done.save(tmp_path / "same.png")) as saved:
        np.testing.assert_array_equal(np.asarray(saved), plain)


def test_a_file_has_the_suffix_of_its_format_and_is_not_replaced(protector, tmp_path):
    done = protector(np.full((64, 64, 3), 200, np.uint8))
    with pytest.raises(tipim_jax.UserError, match=r"name it a\.png"):
        done.save(tmp_path / "a.jpg")
    done.save(tmp_path / "a.png")
    with pytest.raises(tipim_jax.UserError, match="exists already"):
        done.save(tmp_path / "a.png")
    done.save(tmp_path / "a.png", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": "mighty"}, "'mighty'; choose one of low"),
        ({"step": 3}, "step is no setting"),
        ({"steps": 0}, "give at least 1"),
        ({"quality": 0}, "quality"),
        ({"targets": "nowhere.npz"}, "does not exist"),
        ({"surrogates": ["nobody"]}, "nobody"),
    ],
)
def test_options_that_make_no_sense(options, words):
    with pytest.raises(tipim_jax.UserError, match=words):
        Protector(**(QUICK | options))


def test_pictures_of_every_kind_are_compared(tmp_path):
    path = Path(shutil.copy(demo_photos()[0], tmp_path))
    kinds = [path, Image.open(path), np.asarray(Image.open(path).convert("RGB"))]
    for picture in kinds:
        assert tipim_jax.verify(picture, path).same
        (found,) = tipim_jax.check([picture], path.parent)
        assert found.faces
        assert not found.error
    for wrong in (7, np.zeros((4, 4), np.float32)):
        with pytest.raises(tipim_jax.UserError, match="photo"):
            tipim_jax.verify(wrong, path)


def test_faces_that_are_left_alone_do_not_count(protector):
    photo = np.asarray(Image.open(demo_photos()[0]).convert("RGB"))
    twice = np.concatenate([photo, photo], axis=1)
    done = protector(twice, choose=lambda faces: [0])
    assert [face.skipped for face in done.faces] == ["", "not chosen"]
    assert done.faces[1].mask is None
    assert done.protected == done.faces[0].protected
    assert repr(done).endswith("of 1 faces protected>")
    assert not protector(photo, choose=lambda faces: []).protected
