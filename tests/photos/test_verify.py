"""What recognisers say of the faces of two photos, and what `tipim verify` says of it."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ports import zoo
from tests.photos import album as albums
from tipim_jax.commands.verify import described
from tipim_jax.core.geometry import ARCFACE_112
from tipim_jax.core.types import Recogniser, l2_normalise
from tipim_jax.errors import Notice, UserError
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos import verify
from tipim_jax.photos.faces import Face
from tipim_jax.photos.verify import Verifier


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("macron_2014.jpg", "macron_2025.jpg", "sunak.jpg"):
        albums.face(name).save(folder / name.replace(".jpg", ".png"))
    group = Image.new("RGB", (440, 300), "white")
    group.paste(albums.face("sunak.jpg"), (0, 0))
    group.paste(albums.face("macron_2014.jpg").resize((160, 190)), (260, 60))
    group.save(folder / "group.png")
    group.crop((250, 30, 440, 300)).save(folder / "cropped.png")
    albums.small_face().save(folder / "small.png")
    albums.face().resize((60, 60)).rotate(90).crop((0, 0, 8, 8)).save(folder / "nobody.png")
    (folder / "text.jpg").write_text("no photo")
    return folder


@pytest.mark.parametrize(
    ("a", "b", "code", "verdict"),
    [
        ("macron_2014.png", "macron_2025.png", 0, "same person"),
        ("macron_2014.png", "macron_2014.png", 0, "same person"),
        ("macron_2014.png", "sunak.png", 1, "different people"),
    ],
)
def test_two_portraits(tipim, photos, a, b, code, verdict):
    said, out, err = tipim("verify", photos / a, photos / b)
    assert (said, err) == (code, "")
    first, heading, _, *rows, _, last = out.splitlines()
    assert first == "A face 1 (centre) and B face 1 (centre):"
    assert heading.split() == ["recogniser", "cosine", "threshold", "verdict"]
    assert [row.split()[0] for row in rows] == ["sface", "dlib"]
    for row in rows:
        name, cosine, threshold, *told = row.split()
        assert " ".join(told) == verdict
        assert float(threshold) == pytest.approx(zoo.thresholds(name)["far_1e-3"], abs=1e-3)
        assert (float(cosine) > float(threshold)) == (verdict == "same person")
        if a == b:
            assert cosine == "1.000"
    if code == 0:
        pair = "A face 1 (centre) and B face 1 (centre)"
        assert last == f"Same person to 2 of 2 recognisers: {pair}."
    else:
        assert last == "Different people to all 2 recognisers."


def test_a_group_and_its_crop_have_a_person_in_common(tipim, photos):
    code, out, err = tipim("verify", photos / "group.png", photos / "cropped.png")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "A face 2 (right) and B face 1 (centre), the closest pair:"
    others = lines.index("A              B                sface   dlib  same person")
    assert lines[others + 2].startswith("face 1 (left)  face 1 (centre)  ")
    assert lines[others + 2].endswith("  0 of 2")
    assert lines[-1] == "Same person to 2 of 2 recognisers: A face 2 (right) and B face 1 (centre)."


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.jpg", "nowhere.jpg does not exist"),
        ("", " is a folder, not a photo"),
        ("text.jpg", "text.jpg is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo"),
        ("nobody.png", "nobody.png shows no face; give a photo that does"),
        ("small.png", "every face in {}/small.png is smaller than 20 pixels; give a larger photo"),
    ],
)
def test_bad_photos_get_one_line(tipim, photos, name, message):
    for pair in ((name, "sunak.png"), ("sunak.png", name)):
        code, out, err = tipim("verify", *(photos / part for part in pair))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("tipim: ")
        assert message.format(photos) in err


def test_without_a_recogniser_there_is_nobody_to_ask(tipim, photos, monkeypatch):
    monkeypatch.setattr(zoo, "available", lambda: [])
    code, out, err = tipim("verify", photos / "sunak.png", photos / "sunak.png")
    assert (code, out) == (2, "")
    assert err == (
        'tipim: no calibrated recogniser is here to ask; run `pip install "tipim-jax[models]"`\n'
    )


def judge(name: str, threshold: float) -> Verifier:
    """One that sees the mean colour of a face."""

    def embed(params, canvases):
        return jax.vmap(lambda canvas: l2_normalise(canvas.mean((0, 1))))(canvases)

    return Verifier(name, embed, (), threshold)


def coloured(*colours, size=50.0):
    """A finder of faces of these colours in a row, whatever the photo."""

    def find(pixels):
        return [
            Face((i * 100.0, 0.0, size, size), np.zeros((5, 2)), np.zeros((2, 3)), canvas)
            for i, canvas in enumerate(np.ones((160, 160, 3), np.float32) * c for c in colours)
        ]

    return find


RED, GREEN, BLUE, PINK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 160, 160)
PHOTO = np.zeros((100, 300, 3), np.uint8)


def test_pairs_are_ordered_by_votes_and_then_by_closeness():
    judges = [judge("strict", 0.9), judge("lax", 0.5)]
    faces = coloured(RED, PINK, BLUE)
    compared = verify.verify(PHOTO, PHOTO, find=faces, judges=judges)
    order = [(pair.a.number, pair.b.number) for pair in compared.pairs]
    assert sorted(order[:3]) == [(1, 1), (2, 2), (3, 3)]
    assert sorted(order[3:5]) == [(1, 2), (2, 1)]  # red and pink: 0.75
    assert [pair.votes for pair in compared.pairs] == [2, 2, 2, 1, 1, 0, 0, 0, 0]
    ranks = [pair.rank for pair in compared.pairs]
    assert ranks == sorted(ranks, reverse=True)


@pytest.mark.parametrize(
    ("thresholds", "same"), [((0.9,), False), ((0.7,), True), ((0.7, 0.9), False)]
)
def test_more_than_half_must_say_so(thresholds, same):
    judges = [judge(f"judge {i}", threshold) for i, threshold in enumerate(thresholds)]
    find = coloured(RED)
    pink = np.ones_like(PHOTO)
    faces = {0: find, 1: coloured(PINK)}
    compared = verify.verify(PHOTO, pink, find=lambda p: faces[int(p.max())](p), judges=judges)
    assert compared.same == same
    text = described(compared)
    assert text.splitlines()[-1].startswith("Same person" if same else "Different people")
    assert ("1 of 2 recognisers would pair" in text) == (len(thresholds) == 2)


def test_of_large_groups_the_closest_pairs_and_all_that_anyone_matches_are_listed():
    judges = [judge("one", 0.9)]
    compared = verify.verify(PHOTO, PHOTO, find=coloured(RED, GREEN, BLUE, PINK), judges=judges)
    text = described(compared)
    assert len(compared.pairs) == 16
    assert text.count("0 of 1") == 7
    assert "and 5 further pairs, different people to every one." in text
    verdict = text.splitlines()[-1]
    assert verdict.startswith("Same person to 1 of 1 recogniser: A face 1")
    assert verdict.endswith("; 3 further pairs too.")
    many = verify.verify(PHOTO, PHOTO, find=coloured(*[RED] * 4), judges=judges)
    assert described(many).count("1 of 1") == 16
    assert "different people" not in described(many)


def test_small_faces_are_named_and_left_out():
    def find(pixels):
        return [*coloured(RED)(pixels), *coloured(BLUE, size=19)(pixels)]

    compared = verify.verify(PHOTO, PHOTO, find=find, judges=[judge("one", 0.9)])
    assert len(compared.pairs) == 1
    assert len(compared.a) == len(compared.b) == 2
    text = described(compared)
    assert "smaller than 20 pixels: A face 2 (top left), B face 2 (top left)." in text


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0, 0, 10, 10), "top left"),
        ((100, 0, 100, 300), "centre"),
        ((290, 140, 60, 40), "right"),
        ((-20, 250, 10, 90), "bottom left"),
        ((140, 0, 20, 20), "top"),
    ],
)
def test_places(box, place):
    face = Face(tuple(map(float, box)), np.zeros((5, 2)), np.zeros((2, 3)), np.zeros((1, 1, 3)))
    (one,) = find_faces.located([face], (300, 300, 3))
    assert str(one) == f"face 1 ({place})"


def test_a_recogniser_without_a_threshold_cannot_judge(prepared, monkeypatch):
    monkeypatch.setattr(
        verify, "load", lambda name: prepared[1][2](name)._replace(threshold=np.nan)
    )
    with pytest.raises(
        ValueError, match=r"sface has no threshold yet; measure it with `tipim models cal"
    ):
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


def test_a_recogniser_loaded_again_is_not_compiled_again(caplog):
    canvases = np.zeros((4, 160, 160, 3), np.float32)
    with jax.log_compiles():
        first = verify.embed_canvases(verify.load("sface"), canvases)
        caplog.clear()
        again = verify.load("sface")
        np.testing.assert_array_equal(verify.embed_canvases(again, canvases), first)
    assert [record.message for record in caplog.records if "Compiling" in record.message] == []


def test_parameters_go_with_their_verifier():
    def embed(params, crop):
        return l2_normalise(params @ crop.mean((0, 1)))

    params = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    held = weakref.ref(params)
    toy = verify.from_recogniser(Recogniser("toy", embed, params, (112, 112), ARCFACE_112))
    assert verify.embed_canvases(toy, np.ones((1, 160, 160, 3), np.float32)).shape == (1, 5)
    del toy, params
    gc.collect()
    assert held() is None


def test_a_recogniser_that_cannot_be_loaded_is_left_out_unless_it_is_named(monkeypatch):
    def load(name):
        if name == "broken":
            raise UserError("its file is damaged; fetch it again")
        return Verifier(name, None, None, 0.5)

    monkeypatch.setattr(verify, "load", load)
    monkeypatch.setattr(verify, "calibrated", lambda: ["sound", "broken", "other"])
    with pytest.warns(Notice, match="^broken is not asked: its file is damaged; fetch it again$"):
        found = verify.verifiers()
    assert [one.name for one in found] == ["sound", "other"]
    with pytest.raises(UserError, match="damaged"):
        verify.verifiers(["sound", "broken"])
