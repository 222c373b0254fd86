"""No module of the house imports, at whatever depth of its code, one that imports it."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tipim_jax", "ports", "experiments")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def imported(module: str) -> set[str]:
    """The modules of the house that one imports, also inside its functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circles(package):
    mine = {name for name in MODULES if name.split(".")[0] == package}
    graph = {name: (imported(name) & mine) - {name} for name in mine}
    assert any(graph.values())
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(error.args[1]))


def test_launches_need_no_tests():
    assert not [n for n in MODULES if any(i.split(".")[0] == "tests" for i in imported(n))]
