"""Bad photos among good ones: each is quarantined with its reason, all others are done."""

import re
import shutil
import struct
import threading
import zlib

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.bulk import world
from tipim_jax.bulk import pipeline, retry, storage, summary
from tipim_jax.photos import finish
from tipim_jax.photos.compilation import Once
from tipim_jax.photos.decode import decode
from tipim_jax.photos.photo import PhotoError

# name -> (content made of a good PNG and a good JPEG, the reason that the row must give)
POISON = {
    "0/empty.jpg": (lambda png, jpeg: b"", r"is empty \(0 bytes\)"),
    "0/cut.jpg": (lambda png, jpeg: jpeg[: len(jpeg) // 2], "is damaged or cut short"),
    "1/cut.png": (lambda png, jpeg: png[: len(png) // 2], "is damaged or cut short"),
    "2/corrupt.png": (lambda png, jpeg: png[:60] + bytes(40) + png[100:], "is damaged"),
    "3/text.jpg": (lambda png, jpeg: b"a shopping list\n" * 20, "is not a JPEG, PNG"),
    "4/huge.png": (lambda png, jpeg: huge(), r"megapixels"),
}


def huge() -> bytes:
    """A PNG that claims 13,000 × 10,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_000, 10_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture
def poisoned(undisturbed, tmp_path):
    """The photos of the undisturbed run and six bad ones: 9 %."""
    folder = tmp_path / "in"
    shutil.copytree(undisturbed.photos, folder)
    png, jpeg = (folder / "0" / "00000.png").read_bytes(), (folder / "1" / "00001.jpg").read_bytes()
    for name, (content, _) in POISON.items():
        (folder / name).write_bytes(content(png, jpeg))
    return folder


@pytest.fixture
def few(undisturbed, tmp_path):
    """A fifth of the photos of the undisturbed run: 12."""
    shutil.copytree(undisturbed.photos / "0", tmp_path / "few" / "0")
    return tmp_path / "few"


def rows(out):
    tables = [pq.read_table(path).to_pylist() for path in sorted((out / "rows").iterdir())]
    return {row["photo"]: row for table in tables for row in table}


def test_bad_photos_are_quarantined_and_all_others_done(poisoned, undisturbed, tmp_path):
    arguments = (poisoned, tmp_path / "out", tmp_path / "work")
    meter = world.run(*arguments)
    assert meter.counts.photos == 66
    assert meter.counts.quarantined == len(POISON)
    found = rows(tmp_path / "out")
    for name, (_, reason) in POISON.items():
        assert found[name]["status"] == "quarantined"
        assert re.search(reason, found[name]["reason"]), found[name]["reason"]
        assert name in found[name]["reason"]
        assert found[name]["output"] is None
    photos = {k: v for k, v in undisturbed.output.items() if k.startswith("photos/")}
    produced = world.files(tmp_path / "out" / "photos")
    assert {f"photos/{k}": v for k, v in produced.items()} == photos

    here = storage.folder_at(tmp_path / "out")
    total = summary.write_summary(here, world.worker(*arguments).results.assignment.shards, {})
    assert total == meter.counts
    listed = (tmp_path / "out" / "quarantine.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in listed} == set(POISON)


def test_the_error_budget_stops_a_run_and_a_larger_one_goes_on(poisoned, tmp_path):
    arguments = (poisoned, tmp_path / "out", tmp_path / "work")
    with pytest.raises(pipeline.BudgetExceeded, match="4 photos are quarantined, more than the 3"):
        world.run(*arguments, error_budget=0.05)
    assert not (tmp_path / "out" / ".staging").exists()
    assert sum(row["status"] == "quarantined" for row in rows(tmp_path / "out").values()) <= 3
    meter = world.run(*arguments, error_budget=0.1)
    assert meter.before.photos + meter.counts.photos == 66
    assert len(rows(tmp_path / "out")) == 66


def test_passing_errors_are_retried_and_lasting_ones_quarantined(undisturbed, tmp_path):
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.begin(*arguments[:2])
    worker = world.worker(*arguments)
    failed, lock = set(), threading.Lock()

    def read(number):
        with lock:
            first = number not in failed
            failed.add(number)
        if number == 7:
            raise PermissionError(13, "Permission denied")
        if first and number % 3 == 0:
            raise TimeoutError(110, "Connection timed out")
        return worker.source.read(number)

    meter = world.run(*arguments, source=worker.source._replace(read=read))
    assert meter.counts.quarantined == 1
    assert meter.figures()["retries"] == 20
    row = rows(tmp_path / "out")[worker.source.name(7)]
    assert row["reason"].endswith("cannot be read (Permission denied)")


def test_a_failure_to_write_ends_the_run(undisturbed, tmp_path):
    def publish(shard, photos):
        raise OSError(28, "No space left on device")

    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.begin(*arguments[:2])
    sink = world.worker(*arguments).results.sink._replace(publish=publish)
    with pytest.raises(OSError, match="No space left"):
        world.run(*arguments, sink=sink)
    assert not list((tmp_path / "out").glob("rows/*"))


def odd_faces(undisturbed, name, face):
    """The models of the undisturbed run, with a finder that gives one photo a face of its own."""
    odd = decode((undisturbed.photos / name).read_bytes()).pixels
    models = world.models()

    def find(pixels):
        if pixels.shape != odd.shape:
            return models.find(pixels)
        change = np.abs(pixels.astype(int) - odd).max()
        if face is fail_on_the_saved_file:
            return face(pixels) if 0 < change <= world.SETTINGS.epsilon else models.find(pixels)
        return models.find(pixels) if change else face(pixels)

    return models._replace(find=find)


def fail(pixels):
    raise RuntimeError("a fault of the finder")


def fail_on_the_saved_file(pixels):
    raise RuntimeError("a fault of the finder")


def small_canvas(pixels):
    """A face that fits into no batch."""
    face = world.find(pixels)[0]
    return [face._replace(canvas=face.canvas[::2, ::2])]


def infinite_mask(pixels):
    """A face whose mask is not finite, as everything computed from it."""
    face = world.find(pixels)[0]
    return [face._replace(canvas=np.full_like(face.canvas, np.nan))]


def refuse(*_, **__):
    raise PhotoError("the format cannot hold the photo")


def fault(*_, **__):
    raise RuntimeError("a fault of the program")


@pytest.mark.parametrize("stage", ["encode", "paste", "embeddings", "decode"])
@pytest.mark.parametrize("broken", [refuse, fault])
def test_a_photo_that_cannot_be_finished_is_quarantined(
    few, tmp_path, monkeypatch, caplog, stage, broken
):
    """Whatever step of finishing fails for one photo, the others are finished."""
    first = decode((few / "0/00000.png").read_bytes()).pixels
    of_photo = threading.local()
    whole, step = finish.finish, getattr(finish, stage)

    def finish_one(pending, *rest):
        of_photo.bad = np.array_equal(pending.photo.pixels, first)
        return whole(pending, *rest)

    def step_of_one(*arguments, **options):
        return (broken if of_photo.bad else step)(*arguments, **options)

    monkeypatch.setattr(pipeline, "finish", finish_one)
    monkeypatch.setattr(finish, stage, step_of_one)
    meter = world.run(few, tmp_path / "out", tmp_path / "work")
    assert meter.counts.photos == 12
    assert meter.counts.quarantined == 1
    (row,) = rows_with(tmp_path / "out", "quarantined")
    assert row["photo"] == "0/00000.png"
    if broken is refuse:
        assert row["reason"] == "the format cannot hold the photo"
    else:
        assert "met a fault of the program (RuntimeError" in row["reason"]
        assert "Traceback" in caplog.text


@pytest.mark.parametrize("face", [fail, fail_on_the_saved_file, small_canvas, infinite_mask])
def test_a_fault_on_one_photo_is_that_photo_s_alone(few, undisturbed, tmp_path, caplog, face):
    name = "0/00000.png"
    models = odd_faces(undisturbed, name, face)
    reasons = []
    meter = world.run(
        *(few, tmp_path / "out", tmp_path / "work"),
        models=models,
        quarantined=lambda *row: reasons.append(row),
    )
    assert meter.counts.photos == 12
    assert meter.counts.quarantined == 1
    row = rows(tmp_path / "out")[name]
    assert row["status"] == "quarantined"
    assert reasons == [(name, row["reason"])]
    if face is not infinite_mask:
        assert "photo 0 met a fault" in caplog.text
        assert "Traceback" in caplog.text
        assert name not in caplog.text  # logs hold no photo's name
    expected = {k: v for k, v in undisturbed.output.items() if k.startswith("photos/0/")}
    del expected[f"photos/{name}"]
    produced = world.files(tmp_path / "out" / "photos")
    assert {f"photos/{k}": v for k, v in produced.items()} == expected


def test_a_device_that_fails_is_no_photo_s_fault(undisturbed, tmp_path):
    def lost(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: the device is lost")

    models = world.models()
    program = models.engine.full()._replace(run=lost)
    models = models._replace(engine=models.engine._replace(full=Once(lambda: program)))
    with pytest.raises(jax.errors.JaxRuntimeError, match="the device is lost"):
        world.run(undisturbed.photos, tmp_path / "out", tmp_path / "work", models=models)
    assert not rows_with(tmp_path / "out", "quarantined")


def rows_with(out, status):
    if not (out / "rows").exists():
        return []
    return [row for row in rows(out).values() if row["status"] == status]


def test_a_refusal_is_no_passing_error():
    assert not retry.is_passing(PhotoError("not a photo"))
