"""Shards partition the photos, whoever does them; a source names and reads every photo once."""

import csv
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module

from experiments import identity_folder
from tests import events
from tests.bulk import world
from tipim_jax.bulk import record, retry, shards, sources, storage, telemetry
from tipim_jax.bulk.rows import Counts


@pytest.mark.parametrize("processes", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("photos", [1, 8, 61, 64])
def test_processes_partition_the_photos(photos, processes):
    cut = shards.Shards(photos, 8)
    parts = [shards.Assignment(cut, p, processes) for p in range(processes)]
    numbers = [[part.photo(i) for i in range(part.photos)] for part in parts]
    assert sorted(n for mine in numbers for n in mine) == list(range(photos))
    for part, mine in zip(parts, numbers, strict=True):
        assert mine == [n for s in part.own for n in cut.numbers(s)]


def test_row_files_of_another_cut_are_refused(tmp_path):
    here = storage.folder_at(tmp_path)
    storage.write(here, shards.row_file(shards.Shards(20, 4), 0), b"")
    with pytest.raises(ValueError, match="belongs to another job"):
        shards.find_committed(here, shards.Shards(20, 5))


def test_a_list_reads_across_its_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_GROUP", 7)
    photos = [f"{i:03d}.jpg" for i in range(40)]
    for photo in photos:
        (tmp_path / photo).write_bytes(photo.encode())
    here = storage.folder_at(tmp_path)
    sources.freeze(here, photos, None)
    source = sources.open_list(here, here)
    assert source.photos == 40
    for number in np.random.default_rng(0).permutation(40):
        assert source.name(int(number)) == photos[number]
        assert source.read(int(number)) == photos[number].encode()


@pytest.mark.parametrize(
    ("paths", "format", "problem"),
    [
        (["a.jpg", "a.jpg"], None, "named twice"),
        (["a.jpg", "a.jpg.png"], "png", "named twice or would overwrite"),
        (["/etc/a.jpg"], None, "not below"),
        (["b/../../a.jpg"], None, "not below"),
        (["gs://other/a.jpg"], None, "not below"),
        ([], None, "holds no photo"),
    ],
)
def test_bad_lists(tmp_path, paths, format, problem):
    with pytest.raises(ValueError, match=problem):
        sources.freeze(storage.folder_at(tmp_path), paths, format)


def test_manifests(tmp_path):
    paths = ["b/1.jpg", "a/2.png"]
    pq.write_table(pa.table({"photo": paths, "size": [1, 2]}), tmp_path / "list.parquet")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["size", "photo"], [1, paths[0]], [2, paths[1]]])
    (tmp_path / "bare.csv").write_text("\n".join(paths))
    for name in ("list.parquet", "list.csv", "bare.csv"):
        assert sources.read_manifest((tmp_path / name).read_bytes(), name) == paths
    with pytest.raises(ValueError, match="no column 'photo'"):
        sources.read_manifest(b"a,b\n1,2\n", "other.csv")


def test_any_place_of_fsspec(tmp_path):
    """The same calls on a disk and on an object store."""
    for url in (str(tmp_path / "disk"), "memory://bulk-test"):
        here = storage.folder_at(url)
        storage.write(here, "a/b.jpg", b"one")
        storage.write(here, "a/b.jpg", b"two")
        staged = tmp_path / "staged"
        staged.write_bytes(b"three")
        storage.move_into(here, "c.PNG", staged)
        storage.write(here, ".hidden/d.jpg", b"")
        storage.write(here, "notes.txt", b"")
        assert storage.read(here, "a/b.jpg") == b"two"
        assert storage.read(here, "c.PNG", 2) == b"thr"
        assert sources.list_photos(here) == ["a/b.jpg", "c.PNG"]
        assert storage.list_names(here, "a") == ["b.jpg"]
        assert storage.list_names(here, "nowhere") == []
        assert not staged.exists()


def test_array_record_in_and_out(undisturbed, tmp_path):
    """Records in, records out, in memory's place or on disk: the masks are those of the files."""
    names = sorted(undisturbed.photos.rglob("*.*"))
    for part, paths in enumerate((names[:25], names[25:])):
        file = tmp_path / f"in-{part}.array_record"
        writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
        for path in paths:
            writer.write(path.read_bytes())
        writer.close()
    source = sources.open_array_records(sources.match_files(str(tmp_path / "in-*.array_record")))
    assert source.photos == 60
    assert source.name(26) == "in-1.array_record/00000001"
    meter = world.run(
        undisturbed.photos,
        tmp_path / "out",
        tmp_path / "work",
        source=source,
        array_record=True,
    )
    assert meter.counts.photos == 60
    for file in (tmp_path / "out" / "rows").iterdir():
        for row in pq.read_table(file).to_pylist():
            number, record_number = row["photo"].split("/")
            path = names[int(record_number) + (25 if number.startswith("in-1") else 0)]
            if row["status"] == "no_face":
                continue
            shard, position = row["output"].rsplit(":", 1)
            reader = array_record_module.ArrayRecordReader(str(tmp_path / "out" / shard))
            whole = reader.read_all()
            reader.close()
            name = f"photos/{path.relative_to(undisturbed.photos)}"
            assert whole[int(position)] == undisturbed.output[name]


def test_a_prepared_data_set_gives_the_bytes_of_its_files(undisturbed, tmp_path):
    packed = identity_folder.pack(undisturbed.photos, tmp_path)
    source = sources.open_data_set(str(packed), "")
    paths = sorted(undisturbed.photos.rglob("*.*"))
    assert source.photos == 60
    assert source.name(3) == "photos/00000003"
    assert [source.read(i) for i in (0, 59)] == [paths[i].read_bytes() for i in (0, 59)]


def test_a_job_is_the_same_job(tmp_path):
    here = storage.folder_at(tmp_path)
    record.write(here, {"seed": 0, "format": None})
    record.write(here, {"seed": 0, "format": None})
    with pytest.raises(ValueError, match="another seed"):
        record.write(here, {"seed": 1, "format": None})


def test_fingerprints_change_with_any_parameter():
    params = {"w": np.zeros(3), "v": np.ones(2)}
    before = record.fingerprints(["a"], [params])
    assert before == record.fingerprints(["a"], [{"v": np.ones(2), "w": np.zeros(3)}])
    assert before != record.fingerprints(["a"], [{"w": np.zeros(3), "v": np.array([1, 1.5])}])


def test_retries_wait_twice_as_long_each_time():
    waits, calls = [], []

    def fail():
        calls.append(1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        retry.call(fail, tries=4, wait=1.0, sleep=waits.append)
    assert len(calls) == 4
    assert [0.75 * 2**i <= wait <= 1.25 * 2**i for i, wait in enumerate(waits)] == [True] * 3
    calls.clear()
    with pytest.raises(FileNotFoundError):
        retry.call(lambda: calls.append(1) or Path("/nowhere").read_bytes(), sleep=waits.append)
    assert len(calls) == 1


def test_clocks_count_threads_that_overlap_once():
    times = iter([0.0, 1.0, 5.0, 9.0])
    clock = telemetry.Clock(lambda: next(times))
    with clock.running(), clock.running():
        pass
    assert clock.seconds == 1.0  # entered at 0, left by the last one at 1
    with clock.running():
        pass
    assert clock.seconds == 5.0


def test_figures_and_costs(tmp_path):
    now = iter([0.0, 100.0])
    meter = telemetry.Meter(1000, Counts(photos=200), now=lambda: next(now))
    meter.add(Counts(50, 40, 5, 5, 60))
    figures = meter.figures()
    assert figures["photos_per_second"] == 0.5
    assert figures["eta_seconds"] == 1500
    assert telemetry.format_line(figures).startswith(
        "250/1000 photos, 0.50 photos/s, 0.60 faces/s, 5 qua"
    )
    for process in range(2):
        telemetry.append_figures(telemetry.metrics_file(str(tmp_path), process, 2), figures)
    paths = [telemetry.metrics_file(str(tmp_path), process, 2) for process in range(3)]
    both = telemetry.combine_runs(paths, price_per_hour=3.6)
    assert both["photos_per_second"] == 1.0
    # two machines at 3.6 an hour, 100 s each, for 100 photos
    assert both["cost_per_million_photos"] == pytest.approx(2 * 0.1 / 100 * 1e6)


def test_figures_are_scalars_over_the_photos_done(tmp_path):
    write = telemetry.scalar_writer(tmp_path / "scalars")
    write(32, {"faces_per_second": 1.5, "quarantined": 2})
    write(64, {"faces_per_second": 2.5, "quarantined": 3})
    (file,) = (tmp_path / "scalars").iterdir()
    expected = {
        ("faces_per_second", 32): 1.5,
        ("faces_per_second", 64): 2.5,
        ("quarantined", 32): 2,
        ("quarantined", 64): 3,
    }
    deadline = time.monotonic() + 10  # a thread writes
    while len(events.scalars(file)) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert events.scalars(file) == expected
