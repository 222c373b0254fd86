"""What is installed holds every file that the packages read."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def asked():
    """What setup.py asks of setuptools."""
    arguments = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", lambda **given: arguments.update(given))
        runpy.run_path(str(ROOT / "setup.py"))
    return arguments


def tracked(package):
    """The files of a package that git knows."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z", package], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout of git")
    return [Path(name) for name in done.stdout.split("\0") if name]


@pytest.mark.parametrize("package", ["tipim_jax", "ports"])
def test_every_file_of_a_package_is_installed(asked, package):
    files = tracked(package)
    patterns = asked["package_data"][package]
    matched = {path.relative_to(ROOT) for p in patterns for path in (ROOT / package).glob(p)}
    data = [path for path in files if path.suffix != ".py"]
    assert data
    assert [str(path) for path in data if path not in matched] == []
    modules = [path for path in files if path.suffix == ".py"]
    folders = {str(path.parent).replace("/", ".") for path in modules}
    assert folders <= set(asked["packages"])


def test_nothing_else_is_installed(asked):
    assert {name.split(".")[0] for name in asked["packages"]} == {"tipim_jax", "ports"}


def test_every_extra_that_a_message_names_exists(asked):
    named = set()
    for package in ("tipim_jax", "ports", "experiments"):
        for path in tracked(package):
            if path.suffix == ".py":
                text = (ROOT / path).read_text(encoding="utf-8")
                for extras in re.findall(r"tipim-jax\[([a-z,]+)\]", text):
                    named.update(extras.split(","))
    assert {"models", "web", "bulk"} <= named <= set(asked["extras_require"])
