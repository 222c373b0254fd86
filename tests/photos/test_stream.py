"""The stream over photos in memory: order, keys, and that a photo that fails takes no other with it."""

import io
import os
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image

from tests.bulk import world
from tipim_jax.photos import pending, protect
from tipim_jax.photos.decode import decode
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.protect import protect_stream
from tipim_jax.photos.saving import protect_photos

GUILTY = 3


def photo(number: int, width: int = 48):
    """A photo that any decoder gives; of two faces if it is wide."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(60, 200, (48, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return decode(buffer.getvalue())


def sources(count: int):
    return [(i, partial(photo, i, 96 if i == 1 else 48)) for i in range(count)]


def outcomes(photos, **options):
    return list(protect_stream(world.models(), photos, **options))


@pytest.fixture(scope="module")
def undisturbed():
    return [outcome.finished.data for outcome in outcomes(sources(7))]


def test_photos_in_memory_come_out_in_order_with_all_that_is_needed():
    seen = []
    done = outcomes(sources(7), told=seen.append)
    assert [outcome.key for outcome in done] == list(range(7))
    for outcome in done:
        assert outcome.error is None
        assert outcome.faceless == ""
        np.testing.assert_array_equal(decode(outcome.finished.data).pixels, outcome.finished.pixels)
        assert len(outcome.finished.faces) == (2 if outcome.key == 1 else 1)
    assert seen[-1]._replace(seconds=0.0) == protect.Progress(read=7, photos=7, found=8, masked=8)
    assert seen == sorted(seen)
    assert seen[-1].seconds > 0


def test_a_photo_is_asked_for_when_its_turn_comes():
    asked = []

    def given(number):
        asked.append(number)
        return photo(number)

    stream = protect_stream(world.models(), ((i, partial(given, i)) for i in range(20)))
    next(stream)
    assert len(asked) == world.SETTINGS.batch_size


def test_a_chosen_face_gets_the_mask_it_gets_beside_others_and_the_rest_stays():
    [whole] = outcomes(sources(2)[1:])
    [second] = outcomes(sources(2)[1:], choose=lambda key: lambda faces: {key})
    one, two = second.finished.faces
    assert (one.skipped, one.matches) == ("not chosen", {})
    assert two.skipped == ""
    assert two.matches == whole.finished.faces[1].matches
    right = np.s_[:, 48:]
    np.testing.assert_array_equal(second.finished.pixels[right], whole.finished.pixels[right])
    np.testing.assert_array_equal(second.finished.pixels[:, :48], photo(1, 96).pixels[:, :48])

    [nobody] = outcomes(sources(2)[1:], choose=lambda _: lambda faces: ())
    assert nobody.faceless == "no face is chosen; nothing to protect"
    assert [face.skipped for face in nobody.faces] == ["not chosen"] * 2


def failing(monkeypatch, what):
    """Makes one step fail for the guilty photo, and says with which error."""
    error = {"user": PhotoError("no good"), "fault": TypeError("a shape")}
    digest = pending.batching.digest(np.ascontiguousarray(photo(GUILTY).pixels))
    if what == "masks":
        make = protect.make_masks

        def refuse(engine, program, batch):
            if any(one.digest == digest for one, _ in batch):
                raise jax.errors.JaxRuntimeError("INTERNAL: of this photo")
            return make(engine, program, batch)

        monkeypatch.setattr(protect, "make_masks", refuse)
        return jax.errors.JaxRuntimeError
    if what == "not finite":
        make = protect.make_masks

        def spoil(engine, program, batch):
            made = make(engine, program, batch)
            for one, i in batch:
                if one.digest == digest:
                    one.masks[i] = one.masks[i]._replace(mask=one.masks[i].mask * np.nan)
            return made

        monkeypatch.setattr(protect, "make_masks", spoil)
        return ValueError
    if what == "finish":
        finish = protect.finish

        def refuse_to_finish(one, *arguments, **options):
            if one.digest == digest:
                raise error["fault"]
            return finish(one, *arguments, **options)

        monkeypatch.setattr(protect, "finish", refuse_to_finish)
        return TypeError
    raise AssertionError(what)


@pytest.mark.parametrize("what", ["masks", "not finite", "finish"])
def test_only_the_guilty_photo_fails(monkeypatch, undisturbed, what):
    error = failing(monkeypatch, what)
    seen = []
    done = outcomes(sources(7), told=seen.append)
    for outcome, data in zip(done, undisturbed, strict=True):
        if outcome.key == GUILTY:
            assert isinstance(outcome.error, error)
            assert outcome.finished is None
        else:
            assert outcome.finished.data == data
    assert (seen[-1].photos, seen[-1].found, seen[-1].masked) == (7, 8, 8)


@pytest.mark.parametrize("error", [PhotoError("no good"), TypeError("a shape"), MemoryError()])
def test_a_photo_that_cannot_be_had_fails_alone(undisturbed, error):
    def refuse():
        raise error

    done = outcomes([*sources(2), ("bad", refuse), *sources(7)[2:]])
    assert [outcome.key for outcome in done] == [0, 1, "bad", 2, 3, 4, 5, 6]
    assert done.pop(2).error is error
    assert [outcome.finished.data for outcome in done] == undisturbed


def test_a_failed_photo_of_many_faces_costs_no_further_batches(monkeypatch):
    """Once one of its faces failed, the others are not tried."""
    width = 48 * 2
    tried = []

    def refuse(engine, program, batch):
        tried.append(len(batch))
        raise TypeError("a shape")

    monkeypatch.setattr(protect, "make_masks", refuse)
    done = outcomes([(i, partial(photo, i, width)) for i in range(3)])
    assert all(isinstance(outcome.error, TypeError) for outcome in done)
    assert tried == [4, 2, 2, 2]


def test_a_photo_without_faces_is_no_error():
    (done,) = outcomes(
        [("dark", lambda: photo(0)._replace(pixels=np.zeros((48, 48, 3), np.uint8)))]
    )
    assert done.error is None
    assert done.finished is None
    assert done.faceless == "no face was found; nothing to protect"


def test_files_name_the_photo_and_keep_the_traceback(monkeypatch, tmp_path):
    world.write_photos(tmp_path / "in", 4)
    jobs = [Job(p, p.relative_to(tmp_path / "in")) for p in sorted(tmp_path.rglob("*.*g"))]

    def read(path):
        if path == jobs[1].source:
            raise TypeError("a shape")
        return read_photo(path)

    monkeypatch.setattr("tipim_jax.photos.saving.read_photo", read)
    results = list(protect_photos(world.models(), jobs, tmp_path / "out"))
    assert [bool(result.error) for result in results] == [False, True, False, False]
    assert results[1].source == jobs[1].source
    assert results[1].error == "the program failed on it (TypeError: a shape)"
    assert results[1].fault.startswith("Traceback")
    assert "in read" in results[1].fault
    assert not (tmp_path / "out" / jobs[1].output).exists()


def test_a_format_that_cannot_hold_a_photo_is_told_in_one_sentence(tmp_path):
    world.write_photos(tmp_path / "in", 1)
    (path,) = tmp_path.rglob("*.png")
    with Image.open(path) as image:
        image.putalpha(image.convert("L"))
        image.save(path)
    jobs = [Job(path, path.relative_to(tmp_path / "in"))]
    encoding = Encoding("jpg")
    (result,) = protect_photos(world.models(), jobs, tmp_path / "out", encoding)
    assert result.error == "JPEG cannot hold the photo's transparency; choose format png"
    assert result.fault == ""
    assert not os.path.exists(tmp_path / "out")
