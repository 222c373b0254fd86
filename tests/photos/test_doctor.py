"""`tipim doctor` tells what is here and what is not, and cleans programs alone."""

from importlib import metadata

import jax
import pytest

from ports import packages, store
from tipim_jax.commands import doctor
from tipim_jax.photos import programs


@pytest.fixture
def home(bare_tipim, tmp_path, monkeypatch):
    """An empty cache, which JAX is not told of."""
    monkeypatch.setenv("TIPIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TIPIM_MODELS")
    monkeypatch.setattr(programs, "keep_in_cache", lambda: None)
    return tmp_path / "cache"


@pytest.fixture
def run(home, bare_tipim):
    return bare_tipim


def row(outcome, name):
    """The words of the line that starts with `name`."""
    return next(line.split() for line in outcome.out.splitlines() if line.split()[:1] == [name])


def test_versions_devices_and_recognisers_are_named(run):
    told = run("doctor")
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith("\nPhotos can be protected here: tipim protect PHOTO… --out FOLDER\n")
    for package in ("tipim-jax", *doctor.PACKAGES):
        assert row(told, package) == [package, metadata.version(package)]
    assert row(told, "0")[1:] == [jax.devices()[0].platform, jax.devices()[0].device_kind]
    assert row(told, "sface") == ["sface", "makes", "masks", "and", "judges", "yes"]
    assert row(told, "frfeat")[1:3] == ["judges", "no:"]
    assert "tipim models fetch frfeat" in told.out


def test_an_incomplete_extra_is_named_with_the_command_for_it(run, monkeypatch):
    needs = ['absent-package>=1; extra == "two"', 'numpy<1; extra == "one"', "numpy>=2"]
    needs.append('jax>=0.1; extra == "three"')
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: needs)
    assert doctor.unmet("one") == [f"numpy is {metadata.version('numpy')}, not <1"]
    assert doctor.unmet("two") == ["absent-package"]
    assert doctor.unmet("three") == []
    about = metadata.metadata("tipim-jax")
    del about["Provides-Extra"]
    for extra in ("one", "two", "three"):
        about["Provides-Extra"] = extra
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: about)
    told = run("doctor")
    assert 'no: absent-package; `pip install "tipim-jax[two]"`' in told.out
    assert row(told, "three") == ["three", "installed"]


def test_what_protection_needs_and_is_missing_is_said_last(run, monkeypatch):
    monkeypatch.setattr(packages, "_inside", lambda distribution, path: None)

    def no_devices():
        raise RuntimeError("Unable to initialize backend 'tpu'\nand more")

    monkeypatch.setattr(doctor.jax, "devices", no_devices)
    told = run("doctor")
    assert told.code == 1
    *_, devices, detector, sface, dlib = told.out.splitlines()
    assert devices == "JAX finds no device: Unable to initialize backend 'tpu'"
    assert detector.startswith("The face detector is missing: ")
    assert sface.startswith("The recogniser sface is missing: ")
    assert dlib.endswith('run `pip install "tipim-jax[models]"`')


def test_cleaning_removes_programs_and_nothing_else(run, home):
    programs_, models = home / "xla", store.directory()
    entries = ("traced-0a", ".traced-0b.7.part", "jit_f-1c-cache", "jit_f-1c-atime")
    others = (programs_ / "mine.txt", models / "own" / "card.json")
    below = programs_ / "xla_gpu_per_fusion_autotune_cache_dir" / "deeper" / "entry"
    for path in (*(programs_ / name for name in entries), *others, below):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000))
    assert f"1.0 kB  {models}\n" in run("doctor").out
    told = run("doctor", "--clean")
    assert told.code == 0
    assert told.out == f"removed 5 files of compiled programs (5.0 kB) from {programs_}\n"
    assert sorted(path for path in home.rglob("*") if path.is_file()) == sorted(others)
    assert "removed 0 files of compiled programs (0 bytes)" in run("doctor", "--clean").out


def test_cleaning_does_not_follow_links(run, home, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(bytes(10))
    (home / "xla").mkdir(parents=True)
    (home / "xla" / "xla_gpu_link").symlink_to(tmp_path / "elsewhere")
    assert run("doctor", "--clean").code == 0
    assert (tmp_path / "elsewhere" / "file").exists()
    assert not (home / "xla" / "xla_gpu_link").is_symlink()


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2.5e9, "2.5 GB")],
)
def test_sizes_are_for_people(size, words):
    assert doctor.in_words(int(size)) == words
