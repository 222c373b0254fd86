"""Whatever is killed, and whenever: started again, a job ends with the files of one that nobody disturbed."""

import itertools
import random
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from tests.bulk import world
from tipim_jax.bulk import ledger, progress
from tipim_jax.bulk.rows import Counts

SHARD = 4


def write_many(folder, lfw, count):
    """Writes photos of LFW where it is, of noise elsewhere."""
    if lfw is None:
        world.write_photos(folder, count, size=32)
        return
    for path in itertools.islice(sorted(lfw.rglob("*.jpg")), count):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:  # small ones: what is tested is not the pixels
            image.resize((48, 48)).save(folder / path.parent.name / path.name)


@pytest.fixture
def lfw(request):
    """The folder of LFW's photos, None where it is not."""
    try:
        return request.getfixturevalue("research_data") / "lfw" / "photos"
    except pytest.skip.Exception:
        return None


def committed(folder):
    return len(list((folder / "out" / "rows").glob("rows-*.parquet")))


@pytest.mark.parametrize(
    ("photos", "kills"), [(100, 5), pytest.param(500, 21, marks=pytest.mark.slow)]
)
def test_sigkill_at_any_moment(lfw, tmp_path, photos, kills):
    """Rounds of one to four processes, killed one after the other at random moments."""
    rng, killed, done = random.Random(1), 0, -1
    write_many(tmp_path / "in", lfw, photos)
    options = {"shard_size": SHARD, "judged": False}
    arguments = (tmp_path / "in", tmp_path / "out", tmp_path / "work")
    while killed < kills:
        world.begin(*arguments[:2])
        count = rng.choice([1, 2, 3, 4, 4])
        workers = [
            world.start(
                world.until_terminated,
                *arguments,
                process=process,
                processes=count,
                checkpoint_seconds=0.05,
                **options,
            )
            for process in range(count)
        ]
        rng.shuffle(workers)
        # Most rounds get somewhere, and some are killed before they do.
        patience, wanted = time.monotonic() + rng.uniform(0.2, 30), done + rng.choice([0, 1, 2])
        while time.monotonic() < patience and committed(tmp_path) < wanted:
            time.sleep(0.005)
        for worker in workers:
            time.sleep(rng.uniform(0, 0.3))
            worker.kill()
            worker.join()
            killed += worker.exitcode == -signal.SIGKILL
        done = committed(tmp_path)
        if done == photos // SHARD:  # begin again: there must be something to kill
            shutil.rmtree(tmp_path / "out")
            shutil.rmtree(tmp_path / "work")
            done = -1
    last = world.run(*arguments, **options)
    assert last.before.photos + last.counts.photos == photos

    whole = world.run(tmp_path / "in", tmp_path / "whole", tmp_path / "other", **options)
    assert whole.counts.saved == len(world.files(tmp_path / "out" / "photos"))
    assert world.files(tmp_path / "out") == world.files(tmp_path / "whole")


def test_sigterm_publishes_whole_shards_and_the_next_run_goes_on_there(undisturbed, tmp_path):
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.begin(*arguments[:2])
    worker = world.start(world.until_terminated, *arguments, readable=40)
    while worker.is_alive() and committed(tmp_path) < 2:
        time.sleep(0.005)
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0
    assert not (tmp_path / "out" / ".staging").exists()
    stopped = committed(tmp_path)
    known = progress.load(world.worker(*arguments).results.checkpoints)
    assert known is not None
    assert known.shards <= stopped < 8
    assert known.counts.photos == 8 * known.shards
    meter = world.run(*arguments)
    assert meter.before.photos == 8 * stopped
    assert meter.counts.photos == 60 - 8 * stopped
    assert world.files(tmp_path / "out") == undisturbed.output


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A job that is done, with its checkpoint."""
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.run(*arguments)
    return arguments


def test_row_files_overrule_the_checkpoint(finished, undisturbed, tmp_path):
    """Removing a row file has its shard done anew, whatever the checkpoint says."""
    worker = world.worker(*finished)
    assert progress.load(worker.results.checkpoints).shards == 8
    (tmp_path / "out" / "rows" / "rows-00003-of-00008.parquet").unlink()
    shutil.rmtree(tmp_path / "out" / "photos" / "1")
    done, start = ledger.resume(worker.results)
    assert done.sum() == 7
    assert start == progress.Progress(0, Counts(), 3, None)
    assert world.run(*finished).counts.photos == 8
    missing = set(undisturbed.output) - set(world.files(tmp_path / "out"))
    assert missing
    assert all(name.startswith("photos/1/") for name in missing)


def test_a_checkpoint_without_its_row_files_is_not_used(finished, undisturbed, tmp_path):
    shutil.rmtree(tmp_path / "out")
    world.run(*finished)
    assert world.files(tmp_path / "out") == undisturbed.output


@pytest.mark.parametrize("damage", ["truncated", "empty folder", "half-written"])
def test_a_damaged_checkpoint_is_not_used(finished, undisturbed, tmp_path, damage):
    worker = world.worker(*finished)
    (tmp_path / "out" / "rows" / "rows-00007-of-00008.parquet").unlink()
    newest = worker.results.checkpoints / "0000009"
    if damage == "truncated":
        shutil.copytree(worker.results.checkpoints / "0000008", newest)
        (newest / "progress.json").write_text("[8, [60, 55")
    elif damage == "empty folder":
        newest.mkdir()
    else:
        (worker.results.checkpoints / "0000009.orbax-checkpoint-tmp").mkdir()
    assert ledger.resume(worker.results)[1].base == 7
    world.run(*finished)
    assert world.files(tmp_path / "out") == undisturbed.output
    assert [path.name for path in worker.results.checkpoints.iterdir()] == ["0000008"]


def test_a_crash_between_photos_and_rows_repeats_the_shard(undisturbed, tmp_path):
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    world.begin(*arguments[:2])
    worker = world.worker(*arguments)
    published = []

    def publish(shard, photos):
        worker.results.sink.publish(shard, photos)
        published.append(shard)
        if len(published) == 3:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        world.run(*arguments, sink=worker.results.sink._replace(publish=publish))
    assert committed(tmp_path) < len(published) <= 4
    world.run(*arguments)
    assert world.files(tmp_path / "out") == undisturbed.output


def test_processes_share_out_what_others_left(undisturbed, tmp_path):
    """Of three processes one is lost; four others do the rest, each shard once."""
    arguments = (undisturbed.photos, tmp_path / "out", tmp_path / "work")
    for process in (0, 2):
        world.run(*arguments, process=process, processes=3)
    counts = [world.run(*arguments, process=p, processes=4).counts.photos for p in range(4)]
    assert sum(counts) == 8 + 8 + 4  # shards 1, 4 and the last one
    assert np.count_nonzero(counts) == 3
    assert world.files(tmp_path / "out") == undisturbed.output
