"""The Python blocks of docs/porting.md run, in order, as they stand."""

import re
from pathlib import Path

from ports.architectures import ARCHITECTURES

GUIDE = Path(__file__).parents[2] / "docs" / "porting.md"


def test_the_worked_example_works(monkeypatch):
    monkeypatch.setattr("ports.architectures.ARCHITECTURES", known := dict(ARCHITECTURES))
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    namespace = {"__name__": "porting_guide"}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), namespace)
    assert "pearnet" in known
