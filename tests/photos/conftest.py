"""One compiled attack and one protected album for all tests of the command."""

import contextlib
import fcntl
import io
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import pytest

from ports.networks import yunet
from tests.photos import album as albums
from tipim_jax import cli
from tipim_jax.photos import engine, targets, verify

EPSILON = 10  # of the album
# Two steps on one surrogate towards two targets: everything a mask goes through, at little cost.
QUICK = ("--steps=2", "--batch_size=2", "--surrogates=sface", f"--epsilon={EPSILON}")
PROGRESS = re.compile(r"^\[\d+ s\] .*\n", re.MULTILINE)  # lines of a run without a terminal


class Outcome(NamedTuple):
    """What a run of the command gave, its progress left out."""

    code: int
    out: str
    err: str


class Album(NamedTuple):
    """The album (see `album.py`), where its protected photos are, and what the command said."""

    folder: Path
    protected: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def two_targets(tmp_path_factory):
    """A file of two targets for SFace."""
    path = tmp_path_factory.mktemp("targets") / "two.npz"
    shipped = targets.built_in()
    targets.save(
        targets.Targets(shipped.names[:2], {"sface": shipped.embeddings["sface"][:2]}), path
    )
    return path


@pytest.fixture(scope="session")
def prepared(cache):
    """What the command loads and compiles, kept for all runs in this process.

    Of the attack, one program serves all settings that share it.
    """
    programs, loaded = {}, {}
    build, load, load_detector = engine.build, verify.load, yunet.load

    def built(surrogates, goals, settings, devices=None, *, photos=None, **_):
        s = settings
        key = (*surrogates, len(goals.names), s.gamma, s.batch_size)
        weights = [engine.WEIGHTS.get(name, 1.0) for name in surrogates]
        if key not in programs:
            # of two test processes one compiles, and the other finds the program in the cache
            with _locked(cache / "compile"):
                programs[key] = build(surrogates, goals, settings, photos=photos)
        joined = jnp.asarray(goals.joined(surrogates, weights))
        made = programs[key]
        s = s._replace(precision=made.settings.precision)
        return made._replace(settings=s, target_names=goals.names, targets=joined)

    def once(name):
        if name not in loaded:
            loaded[name] = load(name)
        return loaded[name]

    def detector():
        if "" not in loaded:
            loaded[""] = load_detector()
        return loaded[""]

    return (engine, "build", built), (verify, "load", once), (yunet, "load", detector)


@pytest.fixture
def detector(prepared):
    """The face detector."""
    return prepared[2][2]()


@pytest.fixture
def bare_tipim(cache, monkeypatch, tmp_path, capsys):
    """`bare_tipim(*arguments)` runs the command in this process, without any model of the user."""
    monkeypatch.setenv("TIPIM_CACHE", str(cache))
    monkeypatch.setenv("TIPIM_MODELS", str(tmp_path / "models"))

    def run(*arguments) -> Outcome:
        capsys.readouterr()
        code = _main(arguments)
        out, err = capsys.readouterr()
        return Outcome(code, out, PROGRESS.sub("", err))

    return run


@pytest.fixture
def tipim(bare_tipim, prepared, monkeypatch):
    """`bare_tipim` that loads and compiles once for all tests."""
    for patch in prepared:
        monkeypatch.setattr(*patch)
    return bare_tipim


@pytest.fixture(scope="session")
def album(tmp_path_factory, cache, two_targets, prepared):
    """The album, protected once for all test processes."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, protected, told = shared / "album", shared / "protected", shared / "album.json"
    with _locked(shared / "album.lock"):
        if not told.exists():
            albums.write(folder)
            out, err = io.StringIO(), io.StringIO()
            arguments = ["protect", folder, folder / "nowhere.jpg", "--out", protected]
            with (
                pytest.MonkeyPatch.context() as monkeypatch,
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
            ):
                monkeypatch.setenv("TIPIM_CACHE", str(cache))
                monkeypatch.setenv("TIPIM_MODELS", str(shared / "models"))
                for patch in prepared:
                    monkeypatch.setattr(*patch)
                code = _main([*arguments, "--pictures", *QUICK, "--targets", two_targets])
            told.write_text(json.dumps([code, out.getvalue(), PROGRESS.sub("", err.getvalue())]))
    return Album(folder, protected, Outcome(*json.loads(told.read_text())))


def _main(arguments) -> int:
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as exit:  # argparse, as in the shell
        return int(exit.code or 0)


@contextlib.contextmanager
def _locked(path: Path):
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
