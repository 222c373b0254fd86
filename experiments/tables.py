"""Lines of tables from what recognisers find: means with intervals, the paper's shape, paired differences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import bootstrap, plots, ranking
from experiments.ranking import MEASURES
from experiments.runs import Measured

Line = dict[str, Any]


def reduced(hits: np.ndarray, best: bool) -> dict[str, np.ndarray]:
    """Readings of hits [P,V], name -> [P]: one, or two for a protection run on every target."""
    if not best:
        return {"": hits[:, 0]}
    one = int(np.argmax(hits.mean(0)))
    return {", best per probe": np.any(hits, axis=1), ", best target": hits[:, one]}


def with_interval(measure: str, interval: bootstrap.Interval) -> Line:
    """The three entries of a measure in a line."""
    return {
        measure: interval.mean,
        f"{measure} low": interval.low,
        f"{measure} high": interval.high,
    }


def interval(line: Line, measure: str) -> tuple[float, float, float]:
    """A measure out of a line: (mean, low, high)."""
    return line[measure], line[f"{measure} low"], line[f"{measure} high"]


def lines(measured: Measured, seed: int) -> list[Line]:
    """A line per reading and recogniser: shares of the probes with intervals, PSNR and SSIM."""
    row, found, quality = measured
    means = {name: float(values.mean()) for name, values in quality.items()}
    # What changes nothing has no noise to measure.
    figures = {name: mean if np.isfinite(mean) else None for name, mean in means.items()}
    made = []
    for reading in reduced(np.zeros((1, 1)), row.name.best):
        for recogniser, hits in found.items():
            line: Line = {
                "protection": row.name.text + reading,
                "probes": len(row.probes),
                "recogniser": recogniser,
                "surrogate": recogniser in row.name.surrogates,
            }
            for measure in MEASURES:
                values = reduced(hits[measure], row.name.best)[reading]
                line |= with_interval(measure, bootstrap.interval(values, seed))
            made.append(line | figures)
    return made


def pivoted(lines: Sequence[Line], kind: str) -> list[Line]:
    """The paper's shape: a row per protection, "Rank-1 [low, high] / Rank-5" per recogniser, percent."""
    one, five = (f"Rank-{n}-{kind}" for n in ranking.DEPTHS)
    made: dict[tuple[str, int], Line] = {}
    for line in lines:
        row = made.setdefault(
            (line["protection"], line["probes"]),
            {key: line[key] for key in ("protection", "probes", "PSNR", "SSIM")},
        )
        shares = [100 * line[key] for key in (one, f"{one} low", f"{one} high", five)]
        cell = "{:.0f} [{:.0f}, {:.0f}] / {:.0f}".format(*shares)
        row[line["recogniser"]] = cell + "*" * line["surrogate"]
    return list(made.values())


def compared(a: Measured, b: Measured, seed: int) -> list[Line]:
    """First minus second on the probes of both: per recogniser, and over all that neither has seen.

    Raises:
      ValueError: they have no probe in common.
    """
    rows = (a.row, b.row)
    common = np.intersect1d(a.row.probes, b.row.probes)
    if not len(common):
        raise ValueError(f"{a.row.cell} and {b.row.cell} have no probe in common")
    at = [np.searchsorted(row.probes, common) for row in rows]
    seen = {name for row in rows for name in row.name.surrogates}
    unseen = [name for name in a.found if name not in seen]
    groups = {name: [name] for name in a.found} | ({"all unseen": unseen} if unseen else {})
    made = []
    for group, members in groups.items():
        line: Line = {
            "first": a.row.name.text,
            "second": b.row.name.text,
            "probes": len(common),
            "recogniser": group,
        }
        for measure in MEASURES:
            first, second = (
                np.mean([found[name][measure][i].any(1) for name in members], axis=0)
                for found, i in zip((a.found, b.found), at)
            )
            line |= with_interval(measure, bootstrap.paired(first, second, seed))
        made.append(line)
    return made


def bars(lines: Sequence[Line]) -> bytes:
    """A plot of Rank-1 of every protection on every recogniser, with intervals."""
    panels: dict[str, dict[str, Mapping[str, tuple[float, float, float]]]] = {}
    for measure in ("Rank-1-T", "Rank-1-UT"):
        series: dict[str, dict[str, tuple[float, float, float]]] = {}
        for line in lines:
            name = f"{line['protection']}@{line['probes']}"
            series.setdefault(name, {})[line["recogniser"]] = interval(line, measure)
        panels[measure] = dict(series)
    return plots.bars(panels, plots.Axes("recogniser", "share of probes"))
