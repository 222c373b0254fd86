"""Shards partition the photos, whoever does them; a source names and reads every photo once."""

import csv
import errno
import io
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from array_record.python import array_record_module

from experiments.data import identity_folder
from tests import events
from tests.bulk import world
from tipim_jax.bulk import record, retry, shards, sources, storage, telemetry
from tipim_jax.bulk.rows import Counts
from tipim_jax.errors import UserError
from tipim_jax.photos.folders import output_names


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
    with pytest.raises(UserError, match="belongs to another job"):
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
        (["a.jpg", "b/./../a.jpg"], None, "not below"),
        (["a.jpg", "./a.jpg"], None, "named twice"),
        (["/etc/a.jpg"], None, "not below"),
        (["b/../../a.jpg"], None, "not below"),
        (["gs://other/a.jpg"], None, "not below"),
        ([], None, "holds no photo"),
        ([f"{'ä' * 126}.gif", f"{'ä' * 126}.GIF"], None, "name that is too long"),
        (
            [f"{'a' * 252}.bmp"],
            "tiff",
            "aaa.bmp would be saved under a name that is too long; rename",
        ),
    ],
)
def test_bad_lists(tmp_path, paths, format, problem):
    with pytest.raises(UserError, match=problem):
        sources.freeze(storage.folder_at(tmp_path), paths, format)


def test_manifests(tmp_path):
    paths = ["b/1.jpg", "ä/2.png"]
    pq.write_table(pa.table({"photo": paths, "size": [1, 2]}), tmp_path / "list.parquet")
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["size", "photo"], [1, paths[0]], [2, paths[1]]])
    text = "photo\n" + "\n".join(paths)
    (tmp_path / "marked.csv").write_text(text, encoding="utf-8-sig")
    (tmp_path / "bare.csv").write_text("\n".join(paths), encoding="utf-8")
    (tmp_path / "bare_marked.csv").write_text("\n".join(paths), encoding="utf-8-sig")
    for file in tmp_path.iterdir():
        assert sources.read_manifest(file.read_bytes(), file.name) == paths, file.name
    assert sources.read_manifest(b"", "empty.csv") == []


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", b"path\nb/1.jpg\n", "a.csv has the columns 'path'; name the one .* 'photo'"),
        ("a.csv", b"\xef\xbb\xbfpath\nb/1.jpg\n", "has the columns 'path';"),
        ("a.csv", b"id,path\n1,b/1.jpg\n", "has the columns 'id', 'path';"),
        ("a.csv", b"photo,photo\n1.jpg,2.jpg\n", "has the columns 'photo', 'photo';"),
        ("a.csv", b"size,photo\n1,b/1.jpg\n2\n", "row 2 of a.csv has no path"),
        ("a.csv", b"photo\nb/\xe4.jpg\n", "cannot be read as a list of photos"),
        ("a.parquet", b"PAR1", "cannot be read as a list of photos"),
        ("a.parquet", {"path": ["1.jpg"], "size": [1]}, "has the columns 'path', 'size';"),
        ("a.parquet", {"photo": ["1.jpg", None]}, "row 2 of a.parquet has no path"),
        ("a.parquet", {"photo": [1, 2]}, "row 1 of a.parquet has no path"),
    ],
)
def test_manifests_that_name_no_photos(name, content, problem):
    if isinstance(content, dict):
        buffer = io.BytesIO()
        pq.write_table(pa.table(content), buffer)
        content = buffer.getvalue()
    with pytest.raises(UserError, match=problem):
        sources.read_manifest(content, name)


def test_no_two_photos_have_one_output(tmp_path):
    """The rule for names is that of `tipim protect`."""
    here = storage.folder_at(tmp_path)
    photos = ["a", "a.jpg", "A.JPG", "b.heic", "b.jpg", "b.png", "c/a.jpg", ".//c/b.gif"]
    for format in (None, "png"):
        (tmp_path / "work.parquet").unlink(missing_ok=True)
        sources.freeze(here, photos, format)
        source = sources.open_list(here, here)
        outputs = [source.output(number, ".ignored") for number in range(source.photos)]
        assert outputs == output_names([*photos[:-1], "c/b.gif"], format)
        assert len({output.casefold() for output in outputs}) == len(photos)
        assert [source.name(number) for number in range(source.photos)] == photos


def test_files_that_are_no_photos_are_named(tmp_path):
    for name in ("a.jpg", "a.CR2", "b/film.mp4", "b/.hidden.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "in" / "b")
    (tmp_path / "in" / "nowhere.jpg").symlink_to(tmp_path / "nowhere.jpg")
    odd = os.fsdecode(b"\xe4.jpg")
    (tmp_path / "in" / odd).write_bytes(b"")
    found = sources.list_folder(storage.folder_at(tmp_path / "in"))
    assert found.photos == ["a.jpg", "nowhere.jpg"]
    assert [name for name, _ in found.others] == ["a.CR2", "b/film.mp4", "linked", odd]
    here = storage.folder_at(tmp_path / "out")
    assert sources.count_others(here) == 0
    sources.freeze(here, found.photos, None, found.others)
    assert sources.count_others(here) == 4
    text = (tmp_path / "out" / "not_protected.csv").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["file", "reason"]
    assert rows[1][0] == "a.CR2"
    assert rows[1][1].startswith("its suffix is none of JPEG, PNG")
    assert rows[4] == [r"\udce4.jpg", "its name is not UTF-8; rename it"]


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        sources.list_folder(storage.folder_at(tmp_path / "nowhere"))
    (tmp_path / "b" / "locked").mkdir(parents=True)
    (tmp_path / "a.jpg").write_bytes(b"")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"locked cannot be read \(Permission denied\)"):
        sources.list_folder(storage.folder_at(tmp_path))


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
        storage.write(here, "tipim-pictures/a.png-face1.png", b"")
        storage.write(here, "notes.txt", b"")
        assert storage.read(here, "a/b.jpg") == b"two"
        assert storage.read(here, "c.PNG", 2) == b"thr"
        assert sources.list_folder(here).photos == ["a/b.jpg", "c.PNG"]
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


def test_records_of_equal_file_names_have_outputs_of_their_own(tmp_path):
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        file = tmp_path / part / "x.array_record"
        writer = array_record_module.ArrayRecordWriter(str(file), "group_size:1")
        writer.write(part.encode())
        writer.close()
    pattern = f"{tmp_path}/a/x.array_record,{tmp_path}/*/x.array_record"
    files = sources.match_files(pattern)
    assert files == [f"{tmp_path}/{part}/x.array_record" for part in ("a", "b")]
    source = sources.open_array_records(files)
    assert source.name(0) == "x.array_record/00000000"
    assert source.name(1) == "x-2.array_record/00000000"
    assert source.output(1, ".png") == "x-2.array_record/00000000.png"
    assert [source.read(number) for number in (0, 1)] == [b"a", b"b"]
    with pytest.raises(UserError, match="matches no file"):
        sources.match_files(f"{tmp_path}/y*.array_record")


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
    record.check(here, {"seed": 0, "format": None})
    with pytest.raises(UserError, match="a job with other seed"):
        record.check(here, {"seed": 1, "format": None})


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
    meter.add(Counts(50, 40, 5, 5, faces=70, masked_faces=60, protected_faces=50))
    figures = meter.figures()
    assert figures["photos_per_second"] == 0.5
    assert figures["eta_seconds"] == 1500
    assert telemetry.format_line(figures).startswith(
        "250/1000 photos, 0.50 photos/s, 0.60 faces/s, 50 of 70 faces protected, 5 quarantined"
    )
    for process in range(2):
        telemetry.append_figures(telemetry.metrics_file(str(tmp_path), process, 2), figures)
    paths = [telemetry.metrics_file(str(tmp_path), process, 2) for process in range(3)]
    both = telemetry.combine_runs(paths, price_per_hour=3.6)
    assert both["photos_per_second"] == 1.0
    # two machines at 3.6 an hour, 100 s each, for 100 photos
    assert both["cost_per_million_photos"] == pytest.approx(2 * 0.1 / 100 * 1e6)


def test_a_line_that_is_half_written_is_not_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert telemetry.last_figures(path) is None
    path.write_text('{"photos": ')
    assert telemetry.last_figures(path) is None
    assert telemetry.combine_runs([path], 1.0)["processes"] == 0
    telemetry.append_figures(path, {"photos": 1})  # by a process that goes on after one was killed
    telemetry.append_figures(path, {"photos": 2})
    with path.open("a") as file:
        file.write('{"photos": 3, "sec')
    assert telemetry.last_figures(path)["photos"] == 2
    assert len(path.read_text().splitlines()) == 4


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
    deadline = time.monotonic() + 60  # a thread writes
    while len(events.scalars(file)) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert events.scalars(file) == expected
