"""A run that ends early, for whatever reason, keeps the proof of what is done, and the same command goes on."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

import pytest

from tests.bulk import world
from tests.photos import standin
from tipim_jax.commands import protect
from tipim_jax.photos import files, journal, page, report, saving

COUNT = 14  # photos, one of them dark and two of two faces


@pytest.fixture
def photos(tmp_path):
    world.write_photos(tmp_path / "in", COUNT)
    return tmp_path / "in"


@pytest.fixture
def tipim(bare_tipim, monkeypatch):
    standin.install(monkeypatch.setattr)
    return bare_tipim


def saved(out) -> dict[str, bytes]:
    """The photos below an output folder."""
    return {
        name: data
        for name, data in world.files(out).items()
        if not name.startswith((".tipim", "report")) and not name.endswith(".part")
    }


def count_saved(out) -> int:
    """How many photos are saved, while a run may be renaming its files."""
    return sum(path.suffix in (".png", ".jpg") for path in out.glob("[0-9]/*"))


def told(out) -> dict:
    return json.loads((out / "report.json").read_text())


def without_times(values: dict) -> dict:
    """A report without what differs between a run and the same run in parts."""
    photos = [{**photo, "output": None} for photo in values["photos"]]
    counts = {
        k: v for k, v in values["summary"].items() if k not in ("earlier", "seconds_per_face")
    }
    return {**values, "timings": None, "summary": counts, "photos": photos}


def test_the_same_command_again_skips_what_is_done(tipim, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ("protect", photos, "--out", out)
    code, first, _ = tipim(*arguments)
    assert code == 0
    assert "done earlier" not in first
    before = world.files(out)
    page = (out / "report.html").read_text()

    def refuse(*arguments, **options):
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr(standin.engine, "build", refuse)
    monkeypatch.setattr(standin.verify, "verifiers", refuse)
    code, again, err = tipim(*arguments)
    assert (code, err) == (0, "")
    assert f"; {COUNT} photos done earlier" in again
    assert again.splitlines()[: COUNT + 1] == first.splitlines()[: COUNT + 1]
    after = world.files(out)
    assert after.keys() == before.keys()
    assert saved(out) == {name: before[name] for name in saved(out)}
    assert without_times(told(out)) == without_times(json.loads(before["report.json"]))
    assert page.count("<figure ") == (out / "report.html").read_text().count("<figure ") >= COUNT


def test_overwrite_redoes(tipim, photos, tmp_path):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    first = saved(out)
    code, text, err = tipim("protect", photos, "--out", out, "--overwrite", "--seed=1")
    assert (code, err) == (0, "")
    assert "done earlier" not in text
    assert saved(out).keys() == first.keys()
    assert saved(out) != first
    code, text, _ = tipim("protect", photos, "--out", out, "--seed=1")
    assert f"{COUNT} photos done earlier" in text


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--seed=1", "seed"),
        ("--strength=high", "strength, epsilon"),
        ("--quality=80", "quality"),
        ("--largest_only", "largest_only"),
    ],
)
def test_other_settings_are_refused_in_one_sentence(tipim, photos, tmp_path, option, name):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    before = world.files(out)
    code, text, err = tipim("protect", photos, "--out", out, option)
    assert (code, text) == (2, "")
    assert err == (
        f"tipim: {out} holds {COUNT - 1} of these photos, protected with another {name}; choose another "
        "output folder, or redo them with --overwrite\n"
    )
    assert world.files(out) == before


def test_other_weights_are_other_settings_and_other_versions_are_told(
    tipim, photos, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(standin.zoo, "fingerprint", lambda name: "retrained")
        code, _, err = tipim("protect", photos, "--out", out)
        assert code == 2
        assert "protected with another surrogates" in err
    monkeypatch.setattr("tipim_jax.commands.protect.versions", lambda: {"jax": "0.0"})
    code, _, err = tipim("protect", photos, "--out", out)
    assert code == 0
    assert "was done with another " in err
    assert "jax" in err


def test_a_file_that_no_run_has_written_is_never_replaced(tipim, photos, tmp_path):
    out = tmp_path / "out"
    (out / "0").mkdir(parents=True)
    (out / "0" / "00000.png").write_bytes(b"mine")
    code, _, err = tipim("protect", photos, "--out", out)
    assert code == 1
    assert err.count("00000.png exists already") == 1
    assert (out / "0" / "00000.png").read_bytes() == b"mine"
    # one that was written, and changed since
    name = next(name for name in saved(out) if name != "0/00000.png")
    (out / name).write_bytes(b"edited")
    code, _, err = tipim("protect", photos, "--out", out)
    assert code == 1
    assert err.count("exists already") == 2
    assert (out / name).read_bytes() == b"edited"


def test_a_photo_that_changed_is_done_again_and_one_that_is_new_too(tipim, photos, tmp_path):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    before = saved(out)
    changed, new = photos / "0" / "00000.png", photos / "0" / "new.png"
    shutil.copy(photos / "1" / "00006.png", new)
    shutil.copy(photos / "2" / "00002.png", changed)
    missing = out / "2" / "00002.png"
    missing.unlink()
    code, text, err = tipim("protect", photos, "--out", out)
    assert (code, err) == (0, "")
    assert f"{COUNT - 2} photos done earlier" in text
    after = saved(out)
    assert after.keys() == before.keys() | {"0/new.png"}
    assert {name for name in before if after[name] != before[name]} == {"0/00000.png"}
    assert after["0/00000.png"] == after["2/00002.png"]


def test_a_photo_of_the_same_name_from_elsewhere_does_not_replace_another(tipim, photos, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other" / "00000.png"
    tipim("protect", photos / "0" / "00000.png", "--out", out)
    before = (out / "00000.png").read_bytes()
    other.parent.mkdir()
    shutil.copy(photos / "2" / "00002.png", other)
    code, _, err = tipim("protect", other, "--out", out)
    assert code == 2
    assert "exists already" in err
    assert (out / "00000.png").read_bytes() == before


def test_photos_that_were_moved_are_known_by_their_content(tipim, photos, tmp_path):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    moved = photos.rename(tmp_path / "moved")
    code, text, err = tipim("protect", moved, "--out", out)
    assert (code, err) == (0, "")
    assert f"{COUNT} photos done earlier" in text
    assert str(moved) in told(out)["photos"][0]["source"] or "report-2.json" in text


def test_a_recogniser_that_cannot_be_loaded_is_no_reason_to_judge_again(
    tipim, photos, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    listed = {**standin.thresholds(), "broken": 0.5}
    monkeypatch.setattr(protect, "_thresholds", lambda: listed)  # and `verifiers` leaves it out

    def refuse(*_, **__):
        raise AssertionError("judged again")

    monkeypatch.setattr(protect, "judge_again", refuse)
    code, text, err = tipim("protect", photos, "--out", out)
    assert (code, err) == (0, "")
    assert f"{COUNT} photos done earlier" in text


def test_two_runs_do_not_write_to_one_folder(tipim, photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with files.alone_in(out):
        code, text, err = tipim("protect", photos, "--out", out)
        assert (code, text) == (2, "")
        assert "another run is writing to" in err
        assert not saved(out)
    assert tipim("protect", photos, "--out", out).code == 0


def test_new_recognisers_judge_what_was_done_earlier(tipim, photos, tmp_path, monkeypatch):
    out = tmp_path / "out"
    _, text, _ = tipim("protect", photos, "--out", out)
    assert "Judged only by the recognisers that the masks were made on; `tipim models fetch" in text
    assert told(out)["judged_by_surrogates_alone"] is True
    assert "judged only by the recognisers" in (out / "report.html").read_text()
    before = saved(out)
    monkeypatch.setattr(standin, "thresholds", lambda: {standin.NAME: 2.0, "new": -1.0})
    code, text, err = tipim("protect", photos, "--out", out)
    assert (code, err) == (3, "")
    assert "judged only" not in text.lower()
    assert saved(out) == before
    assert told(out)["judged_by_surrogates_alone"] is False
    faces = [face for photo in told(out)["photos"] for face in photo["faces"]]
    assert all(face["recognisers"].keys() == {standin.NAME, "new"} for face in faces)
    assert all(not face["protected"] for face in faces)
    for require, expected in (("all", 3), ("seen", 0), ("none", 0)):
        assert tipim("protect", photos, "--out", out, f"--require={require}").code == expected


def test_pictures_are_written_as_photos_finish_and_made_again_where_they_are_missing(
    tipim, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(page, "MOST_HELD", 1)
    out, make, batches = tmp_path / "out", standin.make_masks, []

    def interrupt(engine, program, batch):
        batches.append(batch)
        if len(batches) == 3:
            assert any(out.glob(".tipim/faces/*-after.jpg"))
            raise KeyboardInterrupt
        return make(engine, program, batch)

    with monkeypatch.context() as patch:
        patch.setattr(standin.protect, "make_masks", interrupt)
        tipim("protect", photos, "--out", out)
    shown = set(out.glob(".tipim/faces/*"))
    done = [photo for photo in told(out)["photos"] if photo["output"]]
    assert len(shown) == 3 * sum(len(photo["faces"]) for photo in done) > 0
    for path in list(shown)[::2]:
        path.unlink()
    assert tipim("protect", photos, "--out", out).code == 0
    text = (out / "report.html").read_text()
    files = {path.relative_to(out).as_posix() for path in out.glob(".tipim/faces/*")}
    assert files == set(re.findall(r'src="([^"]+)"', text))
    assert len(files) == 3 * text.count("<figure ") > len(shown)


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (standin.cli.Terminated(), 143)]
)
def test_an_interruption_keeps_the_proof(tipim, photos, tmp_path, monkeypatch, error, code):
    whole = tmp_path / "whole"
    tipim("protect", photos, "--out", whole)
    out, make, batches = tmp_path / "out", standin.make_masks, []

    def interrupt(engine, program, batch):
        batches.append(batch)
        if len(batches) == 3:
            raise error
        return make(engine, program, batch)

    with monkeypatch.context() as patch:
        patch.setattr(standin.protect, "make_masks", interrupt)
        outcome = tipim("protect", photos, "--out", out)
    assert outcome.code == code
    assert "the same command goes on with the rest" in outcome.err
    done = [photo for photo in told(out)["photos"] if photo["output"]]
    assert 0 < len(done) == len(saved(out)) < COUNT - 1
    assert told(out)["unreached"] == COUNT - len(told(out)["photos"])
    assert f"{told(out)['unreached']} photos not reached" in outcome.out
    assert tipim("protect", photos, "--out", out).code == 0
    assert saved(out) == saved(whole)
    assert told(out)["unreached"] == 0


def test_a_full_disk_is_one_sentence_and_keeps_the_proof(tipim, photos, tmp_path, monkeypatch):
    out, write, written = tmp_path / "out", saving.write_atomically, []

    def refuse(path, data, **options):
        if len(written) == 5:
            raise files.unwritten(path, OSError(errno.ENOSPC, "No space left on device"))
        written.append(path)
        write(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "write_atomically", refuse)
        code, text, err = tipim("protect", photos, "--out", out)
    assert code == 1
    assert err.count("\n") == 1
    assert "the disk is full; make room and run it again" in err
    assert len(saved(out)) == 5
    assert sum(photo["output"] is not None for photo in told(out)["photos"]) == 5
    assert "photos not reached" in text
    assert tipim("protect", photos, "--out", out).code == 0
    assert len(saved(out)) == COUNT - 1


def test_a_report_that_cannot_be_written_does_not_hide_the_table(
    tipim, photos, tmp_path, monkeypatch
):
    def refuse(path, data, **options):
        raise files.unwritten(path, OSError(errno.EACCES, "Permission denied"))

    monkeypatch.setattr(report, "write_atomically", refuse)
    code, text, err = tipim("protect", photos, "--out", tmp_path / "out")
    assert code == 1
    assert text.startswith("photo  ")
    assert "report.json cannot be written (Permission denied)" in err
    assert len(saved(tmp_path / "out")) == COUNT - 1


def test_a_fault_in_one_photo_names_it_and_the_others_go_on(tipim, photos, tmp_path, monkeypatch):
    find = world.find
    bad = world.files(photos)["2/00002.png"]

    def fail(pixels):
        from tipim_jax.photos.decode import decode

        if (pixels == decode(bad).pixels).all() if pixels.shape == (48, 48, 3) else False:
            raise TypeError("a shape")
        return find(pixels)

    monkeypatch.setattr(world, "find", fail)
    code, text, err = tipim("protect", photos, "--out", tmp_path / "out")
    assert code == 1
    assert "2/00002.png: the program failed on it (TypeError: a shape)\nTraceback (most" in err
    assert "2/00002.png: NOT protected: the program failed on it" in text
    assert len(saved(tmp_path / "out")) == COUNT - 2


def test_what_is_no_photo_is_named(tipim, photos, tmp_path):
    for name in ("film.avi", "0/raw.cr2", "notes.txt", ".hidden"):
        (photos / name).write_bytes(b"x")
    code, text, _ = tipim("protect", photos, "--out", tmp_path / "out")
    assert code == 0
    for name in ("film.avi", "0/raw.cr2", "notes.txt"):
        assert f"{photos / name}: NOT protected: no photo (JPEG, " in text
        assert str(photos / name) in told(tmp_path / "out")["others"]
    assert ".hidden" not in text
    assert "3 files not protected, being no photo" in text


@pytest.mark.parametrize(
    "tail", [b'{"job": "0/0000', b"\n\nnonsense\n", b"[1, 2]\n", b"\xff\n", b"7"]
)
def test_a_journal_that_was_cut_short_is_used_as_far_as_it_goes(tipim, photos, tmp_path, tail):
    out = tmp_path / "out"
    tipim("protect", photos, "--out", out)
    path = out / journal.FILE
    path.write_bytes(path.read_bytes() + tail)
    (out / "0" / "00000.png").unlink()
    code, text, err = tipim("protect", photos, "--out", out)
    assert (code, err) == (0, "")
    assert f"{COUNT - 1} photos done earlier" in text
    code, text, err = tipim("protect", photos, "--out", out)
    assert f"{COUNT} photos done earlier" in text


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(tipim, photos, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert tipim("protect", photos, "--out", whole).code == 0
    pick, kills, reached = random.Random(0), 0, set()
    while kills < 20:
        if count_saved(out) == COUNT - 1:
            shutil.rmtree(out)  # begin again: there must be something to kill
        wanted = count_saved(out) + pick.randrange(4)
        process = standin.start(["protect", photos, "--out", out], batches=1)
        while process.is_alive() and count_saved(out) < wanted:
            time.sleep(0.002)
        process.join(pick.uniform(0, 0.1))
        process.kill()  # does nothing to one that has ended
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        reached.add(count_saved(out))
        assert saved(out).items() <= saved(whole).items()
    process = standin.start(["protect", photos, "--out", out])
    process.join()
    assert process.exitcode == 0
    assert saved(out) == saved(whole)
    assert world.files(out).keys() == world.files(whole).keys()
    assert without_times(told(out)) == without_times(told(whole))
    assert len(reached) > 3  # it was killed at different places


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_disk_that_is_really_full(tipim, photos, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        code, text, err = tipim("protect", photos, "--out", disk / "out")
        assert code == 1
        assert all(line.endswith("make room and run it again") for line in err.splitlines())
        assert text.startswith("photo  ")
        assert "photos not reached" in text
        assert 0 < len(saved(disk / "out")) < COUNT - 1
        assert not list(disk.rglob("*.part"))
        assert journal.FILE.name in os.listdir(disk / "out" / ".tipim")
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_run_in_order(photos, tmp_path, number, code):
    out = tmp_path / "out"
    process = standin.start(["protect", photos, "--out", out], batches=2)
    while process.is_alive() and not count_saved(out):
        time.sleep(0.002)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code
    done = [photo for photo in told(out)["photos"] if photo["output"]]
    assert 0 < len(done) == len(saved(out)) < COUNT - 1
