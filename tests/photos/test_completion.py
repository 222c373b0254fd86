"""Shells complete the commands, their options and the values of these."""

import os
import pty
import select
import shutil
import subprocess
import time

import pytest

from tipim_jax import cli

shtab = pytest.importorskip("shtab")
ASK_BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p tipim | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${COMPREPLY[@]}"
"""
ZSHRC = """
fpath=("$ZDOTDIR" $fpath)
autoload -U compinit && compinit -D -u
tipim() { print -r -- "RUN $*." }
PS1="PROMPT "
"""


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell}")


@pytest.fixture
def script(tmp_path, request):
    """The script of completions, by the name that zsh looks for."""
    path = tmp_path / "_tipim"
    path.write_text(shtab.complete(cli.parser(), request.param), encoding="utf-8")
    return path


@needs("bash")
@pytest.mark.parametrize("script", ["bash"], indirect=True)
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["do"], "doctor"),
        (["doctor", "--cl"], "--clean"),
        (["protect", "--strength", ""], "low medium high"),
        (["models", "f"], "fetch"),
    ],
)
def test_bash_completes(script, words, offered):
    asked = ["bash", "-c", ASK_BASH, "ask", str(script), "tipim", *words]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (offered, "")


@needs("fish")
@pytest.mark.parametrize("script", ["fish"], indirect=True)
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tipim do", ["doctor"]),
        ("tipim doctor --cl", ["--clean"]),
        ("tipim protect --strength ", ["low", "medium", "high"]),
        ("tipim models f", ["fetch"]),
    ],
)
def test_fish_completes(script, line, offered):
    asked = ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert [one.split("\t")[0] for one in done.stdout.splitlines()] == offered
    assert done.stderr == ""


@needs("zsh")
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("tipim do", "doctor"),
        ("tipim doctor --cl", "doctor --clean"),
        ("tipim protect --strength lo", "protect --strength low"),
        ("tipim models f", "models fetch"),
    ],
)
def test_zsh_completes(script, line, run):
    (script.parent / ".zshrc").write_text(ZSHRC)
    environment = {**os.environ, "ZDOTDIR": str(script.parent), "TERM": "dumb"}
    terminal, inner = pty.openpty()  # zsh completes what is typed, and nothing else
    streams = {"stdin": inner, "stdout": inner, "stderr": inner}
    with subprocess.Popen(["zsh", "-d", "-i"], env=environment, **streams) as shell:
        read_until(terminal, b"PROMPT ")
        os.write(terminal, f"{line}\t\n".encode())
        told = read_until(terminal, b".\r\n")
        shell.kill()
    os.close(terminal)
    os.close(inner)
    assert f"RUN {run}.".encode() in told


def read_until(terminal, mark, seconds=60):
    """What a terminal shows up to a mark, or for so long."""
    shown, end = b"", time.monotonic() + seconds
    while mark not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096)
    return shown
