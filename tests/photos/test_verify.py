"""What recognisers say of two photos, and what `tipim verify` says when it cannot ask them."""

import numpy as np
import pytest

from ports import zoo
from tests.photos import album as albums
from tipim_jax.photos import verify


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("macron_2014.jpg", "macron_2025.jpg", "sunak.jpg"):
        albums.face(name).save(folder / name.replace(".jpg", ".png"))
    albums.small_face().save(folder / "small.png")
    albums.face().resize((60, 60)).rotate(90).crop((0, 0, 8, 8)).save(folder / "nobody.png")
    (folder / "text.jpg").write_text("no photo")
    return folder


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        ("macron_2014.png", "macron_2025.png", "same person"),
        ("macron_2014.png", "macron_2014.png", "same person"),
        ("macron_2014.png", "sunak.png", "different people"),
    ],
)
def test_two_photos(tipim, photos, a, b, verdict):
    code, out, err = tipim("verify", photos / a, photos / b)
    assert (code, err) == (0, "")
    heading, _, *rows = out.splitlines()
    assert heading.split() == ["recogniser", "cosine", "threshold", "verdict"]
    assert [row.split()[0] for row in rows] == ["sface", "dlib"]
    for row in rows:
        name, cosine, threshold, *said = row.split()
        assert " ".join(said) == verdict
        assert float(threshold) == pytest.approx(zoo.thresholds(name)["far_1e-3"], abs=1e-3)
        assert (float(cosine) > float(threshold)) == (verdict == "same person")
        if a == b:
            assert cosine == "1.000"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        ("", " is a folder, not a photo"),
        ("text.jpg", "text.jpg is not a JPEG, PNG, WebP, TIFF, BMP or HEIC photo"),
        ("nobody.png", "nobody.png shows no face; give a photo that does"),
        ("small.png", "small.png is smaller than 20 pixels; give a larger photo"),
    ],
)
def test_bad_photos_get_one_line(tipim, photos, name, message):
    for pair in ((name, "sunak.png"), ("sunak.png", name)):
        code, out, err = tipim("verify", *(photos / part for part in pair))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("tipim: ")
        assert message in err


def test_a_recogniser_without_a_threshold_cannot_judge(prepared, monkeypatch):
    monkeypatch.setattr(
        verify, "load", lambda name: prepared[1][2](name)._replace(threshold=np.nan)
    )
    with pytest.raises(ValueError, match=r"sface has no threshold yet; measure it with `python -m"):
        verify.verifiers(["sface"])


def test_embeddings_do_not_depend_on_how_many_are_made_at_once(prepared):
    sface = prepared[1][2]("sface")
    canvases = np.random.default_rng(0).uniform(0, 255, (6, 160, 160, 3)).astype(np.float32)
    together = verify.embed_canvases(sface, canvases)
    assert together.shape == (6, 128)
    for count in (1, 4, 5):
        np.testing.assert_array_equal(
            verify.embed_canvases(sface, canvases[:count]), together[:count]
        )
