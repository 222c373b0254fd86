"""A shell completes the commands, their options and the values of these."""

import shutil
import subprocess

import pytest

from tipim_jax import cli

shtab = pytest.importorskip("shtab")
ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p tipim | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "tipim"
    path.write_text(shtab.complete(cli.parser(), "bash"), encoding="utf-8")
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
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
    asked = ["bash", "-c", ASK, "ask", str(script), "tipim", *words]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (offered, "")
