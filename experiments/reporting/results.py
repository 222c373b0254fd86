"""Where an experiment leaves its results: the config, JSON, CSV and a Markdown table in --workdir."""

import csv
import io
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jinja2 import Environment, StrictUndefined
from tabulate import tabulate

from tipim_jax.errors import UserError
from tipim_jax.photos.files import write_atomically
from tipim_jax.photos.protect import versions

WEIGHTS = "weights.json"  # what the models hold that the results are made with


def prepare(workdir: str, config: Mapping[str, Any]) -> Path:
    """Makes the working directory, and prints and keeps the frozen config of the run.

    Raises:
      UserError: the directory holds the results of another config, or cannot be made.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax and JAX narrate every load otherwise
    folder = Path(workdir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={folder} cannot be made ({error.strerror})") from error
    text = json.dumps(dict(config), indent=1, sort_keys=True, default=str) + "\n"
    kept, weights = folder / "config.json", folder / WEIGHTS
    begun = any(path not in (kept, weights) for path in folder.iterdir())  # not so after bad input
    if not begun:
        weights.unlink(missing_ok=True)
    if begun and kept.exists() and kept.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder} holds results of another config; choose another --workdir")
    write(kept, text)
    print(text, end="")
    return folder


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all."""
    write_atomically(
        path, content.encode() if isinstance(content, str) else content, overwrite=True
    )


def kept(path: Path, made_of: Mapping[str, Any], make: Callable[[], Any]) -> Any:
    """What the JSON file holds; made and saved if it is not there, or was made of something else."""
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("made of") == made_of:
            return found["made"]
    content = {"made of": made_of, "made": make()}
    write(path, json.dumps(content, indent=1) + "\n")
    return content["made"]


def machine() -> dict[str, Any]:
    """The kind of machine, for the notes under a table."""
    return {
        "devices": [device.device_kind for device in jax.devices()],
        "machine": platform.machine(),
        "versions": versions(),
    }


def save(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], **notes: Any) -> str:
    """Writes rows as NAME.json, NAME.csv and NAME.md; returns the Markdown table."""
    record = {"rows": [dict(row) for row in rows], **notes}
    write(folder / f"{name}.json", json.dumps(record, indent=1, default=str) + "\n")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write(folder / f"{name}.csv", buffer.getvalue())
    markdown = table(rows, "pipe") + "\n"
    write(folder / f"{name}.md", markdown)
    return markdown


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every key of the rows, in the order in which they come up."""
    return list(dict.fromkeys(key for row in rows for key in row))


def table(rows: Sequence[Mapping[str, Any]], form: str) -> str:
    """A table in one of tabulate's formats; numbers right-aligned, with three decimals if not whole."""

    def shown(value: Any) -> str:
        return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)

    names = _columns(rows)
    numeric = [all(isinstance(row.get(c, 0), int | float | None) for row in rows) for c in names]
    return tabulate(
        [[shown(row.get(name, "")) for name in names] for row in rows],
        names,
        form,
        colalign=["right" if number else "left" for number in numeric],
        disable_numparse=True,
    )


def write_page(path: Path, module: str, **values: Any) -> Path:
    """Writes a page of HTML by the template beside a module's file that bears the page's name."""
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    template = Path(module).with_name(path.name).read_text(encoding="utf-8")
    write(path, environment.from_string(template).render(values) + "\n")
    return path
