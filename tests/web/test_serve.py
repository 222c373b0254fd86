"""The command: what it refuses, what it deletes at its end, and colours that can be read."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from itertools import product
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.web.conftest import picture
from tipim_jax import cli
from tipim_jax.web.access import HEADER
from tipim_jax.web.app import STATIC
from tipim_jax.web.session import Session
from tipim_jax.web.verdict import finders

TOKEN = "a-token-of-sixteen"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "192.0.2.1"], "others than you can reach 192.0.2.1; give a token"),
        (["--host", "0.0.0.0", "--token", TOKEN], "0.0.0.0 is every address of this computer"),
        (["--host", "::", "--token", TOKEN], ":: is every address of this computer"),
        (["--host", "192.0.2.1", "--token", TOKEN], "192.0.2.1:0 cannot be listened on"),
        (["--token", "short"], "a token is 16 or more letters, digits, - and _"),
        (["--port", "70000"], "port is 70000; give a number from 0"),
        (["--steps", "0"], "steps is 0; give at least 1"),
        (["--surrogates", "nobody"], "nobody"),
    ],
)
def test_what_cannot_be_served_is_told_in_a_sentence(arguments, message, capsys):
    assert cli.main(["serve", "--no_browser", *arguments]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)


def test_without_the_packages_the_command_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.main(["serve"]) == 2
    assert 'run `pip install "tipim-jax[web]"`' in capsys.readouterr().err


def test_help_says_how(capsys):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--help"])
    text = capsys.readouterr().out
    assert "127.0.0.1" in text
    assert "tipim serve --no_browser" in text
    assert "$TIPIM_TOKEN" in text


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The command in a process of its own, whose temporary folder is ours; and the page's address."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "TIPIM_MODELS": str(tmp_path / "none")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tipim_jax.cli", "serve", "--no_browser"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        line = process.stdout.readline()
        yield process, urlsplit(line.split()[-1])
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_however_it_ends(served, tmp_path, number, monkeypatch):
    process, address = served
    token = address.query.removeprefix("token=")
    with httpx2.Client(base_url=f"http://{address.netloc}", headers={HEADER: token}) as client:
        album = client.post("/api/albums").json()["album"]
        data = picture()
        upload = client.post(
            f"/api/albums/{album}/photos?name=a.png&role=protect", content=data, timeout=60
        )
        assert upload.status_code == 201
    [folder] = tmp_path.glob("tipim-serve-*")
    assert [path.read_bytes() for path in folder.glob("*/photo")] == [data]
    others = {path.name for path in tmp_path.iterdir()} - {folder.name}
    assert others <= {"none"}
    process.send_signal(number)
    code = process.wait(60)
    if number == signal.SIGKILL:  # the next server cleans up
        assert folder.exists()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with Session() as mine, Session():
            assert not folder.exists()
            assert mine.folder.exists()  # that of a server that runs is left alone
    else:
        assert code == {signal.SIGTERM: 143, signal.SIGINT: 0}[number]
    assert list(tmp_path.glob("tipim-serve-*")) == []


def test_verdicts_in_words():
    assert finders(5, []) == "None of 5 recognisers finds this person"
    assert finders(5, ["a"]) == "1 of 5 recognisers finds this person: a"
    assert finders(5, ["a", "b", "c"]) == "3 of 5 recognisers find this person: a, b and c"
    assert finders(2, ["a", "b"]) == "All 2 recognisers find this person"


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough_for_everybody(scheme):
    css = (STATIC / "base.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    text = light if scheme == "light" else light + dark
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", text))
    backgrounds = ["page", "card", "sunk"]
    pairs = [
        *product(["text", "soft"], [*backgrounds, "tint"]),
        *((kind, on) for kind in ("good", "fair", "poor") for on in ("card", f"{kind}-tint")),
        ("poor", "page"),
        ("accent", "card"),
        ("on-accent", "accent"),
        ("text", "raised"),
    ]
    weak = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    edges = {on: contrast(colours["edge"], colours[on]) for on in ("page", "card")}
    assert min(edges.values()) >= 3, edges
