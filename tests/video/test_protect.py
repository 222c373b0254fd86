"""`tipim protect` with clips: masks that are carried, proof on the written file, resume, and plain errors."""

import json
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.photos import standin
from tests.video import clips
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.photo import PhotoError
from tipim_jax.video import animations, masks, proof
from tipim_jax.video.tracks import track

SECONDS = 16 * [100]


@pytest.fixture
def moving(tmp_path):
    """A folder with an animation of two faces and a photo of noise."""
    folder = tmp_path / "in"
    folder.mkdir()
    clips.animation(folder / "two.webp", clips.patches(16, seeds=(1, 2)), SECONDS, lossless=True)
    clips.animation(folder / "one.gif", clips.patches(16), SECONDS)
    return folder


def told(out):
    return {
        photo["source"].split("/")[-1]: photo
        for photo in json.loads((out / "report.json").read_text())["photos"]
    }


def test_clips_and_photos_of_a_folder(tipim, moving, tmp_path):
    out = tmp_path / "out"
    clips.portrait().save(moving / "photo.png")
    code, text, err = tipim("protect", moving, "--out", out, "--epsilon=12")
    assert (code, err) == (0, "")
    photos = told(out)
    assert photos.keys() == {"two.webp", "one.gif", "photo.png"}
    faces = photos["two.webp"]["faces"]
    assert len(faces) == 2
    for face in faces:
        assert face["over_time"] == {
            "first": 0.0, "last": 1.5, "judged": proof.SAMPLES, "hidden": proof.SAMPLES,
            "recognisers": {"small": proof.SAMPLES},
        }  # fmt: skip
        assert face["protected"]
        assert face["recognisers"]["small"]["before"] > 0.9
        assert 5 < face["change"] <= 12
    assert "Hidden from the recogniser in all 12 frames looked at" in text
    assert (out / "one.gif").read_bytes()[:4] == b"GIF8"
    page = (out / "report.html").read_text()
    assert page.count("<figure") == sum(len(photo["faces"]) for photo in photos.values())
    # every frame is changed, by one mask that moves with the face
    frames = [list(animations.read(folder / "two.webp").frames()) for folder in (moving, out)]
    changes = []
    for before, after in zip(*frames, strict=True):
        top = round(clips.find(before.pixels)[0].box[1])
        change = after.pixels.astype(int) - before.pixels
        changes.append(change[top : top + 72, 4:76])
    spread = np.std(changes)
    assert spread > 2
    assert np.abs(np.diff(changes, axis=0)).mean() < 0.4 * spread


def test_the_same_command_again_does_nothing_and_another_seed_is_refused(tipim, moving, tmp_path):
    out = tmp_path / "out"
    assert tipim("protect", moving, "--out", out).code == 0
    before = {path.name: path.read_bytes() for path in out.glob("[a-z]*.*")}
    code, text, err = tipim("protect", moving, "--out", out)
    assert (code, err) == (0, "")
    assert "2 photos done earlier" in text
    for name in ("two.webp", "one.gif"):
        assert (out / name).read_bytes() == before[name]
    code, _, err = tipim("protect", moving, "--out", out, "--seed=1")
    assert code == 2
    assert "protected with another seed" in err


def test_new_recognisers_judge_clips_that_are_done(tipim, moving, tmp_path, monkeypatch):
    out = tmp_path / "out"
    tipim("protect", moving, "--out", out)
    monkeypatch.setattr(standin, "thresholds", lambda: {"small": 2.0, "new": -2.0})
    code, text, _ = tipim("protect", moving, "--out", out)
    assert code == 3
    face = told(out)["two.webp"]["faces"][0]
    assert face["over_time"]["recognisers"] == {"small": 12, "new": 0}
    assert face["over_time"]["hidden"] == 0
    assert "hidden from all in 0 of 12 looked at" in text


def test_the_largest_face_only(tipim, moving, tmp_path):
    out = tmp_path / "out"
    tipim("protect", moving / "two.webp", "--out", out, "--largest_only")
    one, other = told(out)["two.webp"]["faces"]
    assert (one["skipped"], other["skipped"]) == ("", "not chosen")
    before, after = (next(animations.read(f / "two.webp").frames()).pixels for f in (moving, out))
    assert (before != after).any((0, 2)).nonzero()[0].min() >= 4
    assert len({(before != after)[:, :80].any(), (before != after)[:, 80:].any()}) == 2


def test_what_cannot_be_done_is_told_and_the_others_go_on(tipim, moving, tmp_path):
    out = tmp_path / "out"
    clips.animation(
        moving / "nobody.webp", [np.zeros((40, 40, 3), np.uint8) + i for i in (0, 9)], [50, 50]
    )
    (moving / "half.gif").write_bytes((moving / "one.gif").read_bytes()[:-4000])
    code, text, err = tipim("protect", moving, "--out", out)
    assert code == 1
    assert "nobody.webp: no face was found; nothing to protect; nothing saved" in text
    assert "half.gif is damaged or cut short" in err
    assert {path.name for path in out.iterdir()} >= {"one.gif", "two.webp"}
    assert not (out / "nobody.webp").exists()
    assert not list(out.rglob("*.part"))
    with pytest.raises(PhotoError, match=r"one.gif is an animation; protect the file with"):
        read_photo(moving / "one.gif")


def test_what_is_no_file_is_told_of_the_source(tipim, tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "gone.gif").symlink_to(tmp_path / "nowhere")
    code, _, err = tipim("protect", tmp_path / "pipe.mp4", "--out", tmp_path / "out")
    assert code == 2
    assert "pipe.mp4 is a pipe or a device, not a photo" in err
    code, _, err = tipim("protect", tmp_path / "gone.gif", "--out", tmp_path / "out")
    assert code == 2
    assert "gone.gif does not exist" in err


def test_films_without_the_extra(tipim, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.delitem(sys.modules, "tipim_jax.video.films", raising=False)
    monkeypatch.delattr("tipim_jax.video.films", raising=False)
    (tmp_path / "film.mp4").write_bytes(b"x")
    code, text, _ = tipim("protect", tmp_path / "film.mp4", "--out", tmp_path / "out")
    assert code == 2
    assert 'film.mp4: NOT protected: needs `pip install "tipim-jax[video]"`' in text
    with pytest.raises(PhotoError, match=r"film.mp4 is a film; protect it with `tipim protect`"):
        read_photo(tmp_path / "film.mp4")


def test_a_film_to_the_end(tipim, tmp_path):
    pytest.importorskip("av", reason='films need `pip install "tipim-jax[video]"`')
    path, out = tmp_path / "film.mp4", tmp_path / "out"
    clips.film(path, clips.patches(24, seeds=(1, 2)), range(0, 960, 40))
    code, text, err = tipim("protect", path, "--out", out, "--format=png")
    assert (code, err) == (0, "")
    assert [face["over_time"]["judged"] for face in told(out)["film.mp4"]["faces"]] == [12, 12]
    assert "0.0–0.9 s: Hidden" in text
    first = (out / "film.mp4").read_bytes()
    assert tipim("protect", path, "--out", out, "--format=png", "--overwrite").code == 0
    assert (out / "film.mp4").read_bytes() == first


def test_a_mask_that_has_become_weak_is_made_anew(monkeypatch, tmp_path):
    """The face becomes another one, little by little: the mask is faded into a new one."""
    frames = [
        np.uint8((1 - s) * clips.patches(1)[0] + s * clips.patches(1, seeds=(5,))[0])
        for s in np.linspace(0, 1, 31)
    ]
    path = tmp_path / "a.png"
    clips.animation(path, frames, [100] * 31)
    clip = animations.read(path)
    models = standin_models(monkeypatch)
    found = clips_tracks(clip)
    effect = iter([1.0, 0.9, 0.8, 0.6, 1.0, 0.95, 0.9, 0.9, 0.9, 0.9])
    monkeypatch.setattr(masks._Wearer, "_does", lambda self, *_: np.array([next(effect)]))
    monkeypatch.setattr(masks, "CHANGED", 0.0)
    (carried,) = masks.make(models, clip, found, lambda *_: None).carried
    assert [(key.start, key.frame) for key in carried.keys] == [(0, 0), (10, 15)]
    assert [len(carried.worn(i, frames[i])) for i in (0, 9, 10, 12, 15, 30)] == [1, 1, 2, 2, 1, 1]
    old, new = carried.worn(12, frames[12])
    assert np.abs(old.mask).mean() ** 2 / np.abs(carried.keys[0].mask).mean() ** 2 == pytest.approx(
        0.6, abs=0.01
    )
    assert np.abs(new.mask).mean() ** 2 / np.abs(carried.keys[1].mask).mean() ** 2 == pytest.approx(
        0.4, abs=0.01
    )


@pytest.mark.parametrize(("change", "sooner"), [(0.1, False), (1, True)])
def test_a_face_that_changes_is_asked_about_sooner(monkeypatch, tmp_path, change, sooner):
    frames = [
        np.uint8((1 - s) * clips.patches(1)[0] + s * clips.patches(1, seeds=(5,))[0])
        for s in np.linspace(0, change, 9)
    ]
    path = tmp_path / "a.png"
    clips.animation(path, frames, [100] * 9)
    clip = animations.read(path)
    effect = iter([1.0, 0.6, *[1.0] * 9])
    monkeypatch.setattr(masks._Wearer, "_does", lambda self, *_: np.array([next(effect)]))
    models = standin_models(monkeypatch)
    (carried,) = masks.make(models, clip, clips_tracks(clip), lambda *_: None).carried
    assert (carried.keys[1].frame < 5) == sooner


def standin_models(monkeypatch):
    monkeypatch.setattr(masks, "make_masks", standin.make_masks)
    settings = SimpleNamespace(epsilon=12.0, seed=0)
    engine = standin.build([], None, settings)
    engine.surrogates = ()
    return SimpleNamespace(find=clips.find, engine=engine, judges=[], targets=None)


def clips_tracks(clip):
    return track((f.pixels for f in clip.frames()), clips.find, lambda a, b: True, lambda n: None)


def test_an_interrupted_clip_begins_anew_and_nothing_is_half_written(
    tipim, moving, tmp_path, monkeypatch
):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert tipim("protect", moving, "--out", whole).code == 0
    prove, asked = proof.prove, []

    def interrupted(*arguments, **options):
        asked.append(len(list(out.rglob("*.part"))))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return prove(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(proof, "prove", interrupted)
        assert tipim("protect", moving, "--out", out).code == 130
    assert asked == [1, 1]
    done = [path.name for path in out.iterdir() if path.suffix in (".gif", ".webp", ".part")]
    assert done == ["one.gif"]
    code, text, _ = tipim("protect", moving, "--out", out)
    assert code == 0
    assert "1 photo done earlier" in text
    for name in ("one.gif", "two.webp"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
