"""One self-contained `report.html` per run: the config, tables and plots, ours beside the paper's."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.reporting import results

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: right }
th:first-child, td:first-child { text-align: left }
img { max-width: 100% }
pre { background: #f4f4f4; padding: 1em; overflow-x: auto }
"""


class Table(NamedTuple):
    """Rows under a title; the note says how to read them."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    note: str = ""


class Picture(NamedTuple):
    """A PNG under a title; the note says how to read it."""

    title: str
    png: bytes
    note: str = ""


Part = Table | Picture


def write(folder: Path, title: str, parts: Sequence[Part]) -> Path:
    """Writes the page of a run whose config is in `folder` already, and its pictures beside it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    body = [f"<h1>{_text(title)}</h1>", f"<pre>{_text(json.dumps(config, indent=1))}</pre>"]
    for part in parts:
        body.append(f"<h2>{_text(part.title)}</h2>")
        if part.note:
            body.append(f"<p>{_text(part.note)}</p>")
        body.append(_picture(part) if isinstance(part, Picture) else _table(part.rows))
        if isinstance(part, Picture):
            name = "".join(c if c.isalnum() else "_" for c in part.title.lower())
            results.write_bytes(folder / f"{name}.png", part.png)
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>{''.join(body)}</html>\n"
    )
    path = folder / "report.html"
    results.write(path, page)
    return path


def _text(value: str) -> str:
    return html.escape(value)


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    return f'<img alt="{_text(picture.title)}" src="data:image/png;base64,{data}">'


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = results.columns(rows)
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    lines = [
        "<tr>" + "".join(f"<td>{_text(results.cell(row.get(c, '')))}</td>" for c in columns)
        for row in rows
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
