"""One self-contained `report.html` per run: the config, tables and plots, ours beside the paper's."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from experiments.reporting import results


class Table(NamedTuple):
    """Rows under a title; the note says how to read them."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""

    def html(self) -> Markup:
        return Markup(results.table(self.rows, "html"))


class Picture(NamedTuple):
    """A PNG under a title; the note says how to read it."""

    title: str
    png: bytes
    note: str = ""

    def html(self) -> Markup:
        source = f"data:image/png;base64,{base64.b64encode(self.png).decode()}"
        return Markup('<img alt="{}" src="{}">').format(self.title, source)


Part = Table | Picture


def write(folder: Path, title: str, parts: Sequence[Part]) -> Path:
    """Writes the page of a run whose config is in `folder` already, and its pictures beside it."""
    for part in parts:
        if isinstance(part, Picture):
            name = "".join(c if c.isalnum() else "_" for c in part.title.lower())
            results.write(folder / f"{name}.png", part.png)
    config = (folder / "config.json").read_text(encoding="utf-8")
    return results.write_page(
        folder / "report.html", __file__, title=title, config=config, parts=parts
    )
