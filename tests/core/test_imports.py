"""Imports run one way: core ← analysis, ports ← photos ← bulk ← command line and experiments."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ERRORS = ROOT / "tipim_jax" / "errors.py"
CORE = sorted((ROOT / "tipim_jax" / "core").rglob("*.py"))
ANALYSIS = sorted((ROOT / "tipim_jax" / "analysis").rglob("*.py"))
PORTS = sorted((ROOT / "ports").rglob("*.py"))
PHOTOS = sorted((ROOT / "tipim_jax" / "photos").rglob("*.py"))
BULK = sorted((ROOT / "tipim_jax" / "bulk").rglob("*.py"))
WEB = sorted((ROOT / "tipim_jax" / "web").rglob("*.py"))
VIDEO = sorted((ROOT / "tipim_jax" / "video").rglob("*.py"))
ABOVE_WEB = ("tipim_jax.commands", "tipim_jax.cli", "experiments", "tests")
ABOVE_BULK = (
    "tipim_jax.web",
    "tipim_jax.api",
    "tipim_jax.commands",
    "tipim_jax.cli",
    "experiments",
    "tests",
)
ABOVE_PHOTOS = ("tipim_jax.bulk", "tipim_jax.video", *ABOVE_BULK)
ABOVE_PORTS = ("tipim_jax.photos", *ABOVE_PHOTOS)
ABOVE_ANALYSIS = ("ports", *ABOVE_PORTS)
ABOVE_CORE = ("tipim_jax.analysis", *ABOVE_ANALYSIS)
# What the core may need: arrays and gradients, no network, no file format, no flag.
CORE_NEEDS = {"jax", "numpy", "optax", "tipim_jax"}
STANDARD = {"collections", "functools", "hashlib", "typing", "itertools", "math"}


def imports(path):
    """Every module a file imports, at whatever depth, and `package.name` for names taken from it."""
    package = list(path.relative_to(ROOT).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(module, packages):
    return any(module == p or module.startswith(p + ".") for p in packages)


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=named)
def test_core_imports_nothing_above_it(path):
    modules = list(imports(path))
    assert [m for m in modules if within(m, ABOVE_CORE)] == []
    assert {m.split(".")[0] for m in modules} <= CORE_NEEDS | STANDARD


@pytest.mark.parametrize("path", ANALYSIS, ids=named)
def test_analysis_imports_nothing_above_it(path):
    modules = list(imports(path))
    assert [m for m in modules if within(m, ABOVE_ANALYSIS)] == []
    assert {m.split(".")[0] for m in modules} <= CORE_NEEDS | STANDARD


@pytest.mark.parametrize("path", WEB, ids=named)
def test_web_imports_photos_and_nothing_above_it(path):
    beside = ("tipim_jax.bulk", "tipim_jax.api")
    assert [m for m in imports(path) if within(m, (*ABOVE_WEB, *beside))] == []


def test_errors_need_nothing():
    assert list(imports(ERRORS)) == []


@pytest.mark.parametrize("path", PORTS, ids=named)
def test_ports_import_nothing_above_them(path):
    assert [m for m in imports(path) if within(m, ABOVE_PORTS)] == []


@pytest.mark.parametrize("path", PHOTOS, ids=named)
def test_photos_import_nothing_above_them(path):
    assert [m for m in imports(path) if within(m, ABOVE_PHOTOS)] == []


@pytest.mark.parametrize("path", VIDEO, ids=named)
def test_video_imports_photos_and_nothing_above_them(path):
    modules = [m for m in imports(path) if within(m, ABOVE_PHOTOS)]
    assert [m for m in modules if not within(m, ["tipim_jax.video"])] == []


@pytest.mark.parametrize("path", BULK, ids=named)
def test_bulk_imports_nothing_above_it(path):
    assert [m for m in imports(path) if within(m, ABOVE_BULK)] == []


@pytest.mark.parametrize(
    "path", [ERRORS, *CORE, *ANALYSIS, *PORTS, *PHOTOS, *BULK, *VIDEO], ids=named
)
def test_a_file_says_its_idea_in_its_first_line(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    first = docstring.splitlines()[0]
    assert len(first) <= 112
