"""Bad photos among good ones: each is quarantined with its reason, all others are done."""

import re
import shutil
import struct
import threading
import zlib

import pyarrow.parquet as pq
import pytest

from tests.bulk import world
from tipim_jax.bulk import pipeline, places, retry, summary
from tipim_jax.photos.files import PhotoError

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

    here = places.place(tmp_path / "out")
    total = summary.finish(here, world.job(*arguments).mine.shards, {})
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
    job = world.job(*arguments)
    failed, lock = set(), threading.Lock()

    def read(number):
        with lock:
            first = number not in failed
            failed.add(number)
        if number == 7:
            raise PermissionError(13, "Permission denied")
        if first and number % 3 == 0:
            raise TimeoutError(110, "Connection timed out")
        return job.source.read(number)

    meter = world.run(*arguments, source=job.source._replace(read=read))
    assert meter.counts.quarantined == 1
    assert meter.figures()["retries"] == 20
    row = rows(tmp_path / "out")[job.source.name(7)]
    assert row["reason"].endswith("cannot be read (Permission denied)")


def test_a_failure_to_write_ends_the_run(undisturbed, tmp_path):
    def publish(shard, photos):
        raise OSError(28, "No space left on device")

    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.begin(*arguments[:2])
    sink = world.job(*arguments).sink._replace(publish=publish)
    with pytest.raises(OSError, match="No space left"):
        world.run(*arguments, sink=sink)
    assert not list((tmp_path / "out").glob("rows/*"))


def test_a_refusal_is_no_passing_error():
    assert not retry.passing(PhotoError("not a photo"))
