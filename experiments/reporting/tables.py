"""Lines of tables from what recognisers find: means with intervals, the paper's shape, paired differences."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from experiments.judging import ranking
from experiments.judging.ranking import MEASURES
from experiments.protection.runs import Found, Measured
from experiments.protection.specs import Name
from experiments.reporting import bootstrap, plots
from tipim_jax.errors import UserError

Line = dict[str, Any]


def readings(measured: Measured) -> dict[str, Found]:
    """How a protection is read: reading -> recogniser -> measure -> [P] bool.

    One, or two for a protection run on every target: the best of its masks for every probe, recogniser and
    measure, and one target for all of them, that with the highest mean Rank-1-T over the recognisers that the
    source does not hold.
    """
    row, found, _ = measured
    if not row.name.best:
        return {"": _each(found, lambda hits: hits[:, 0])}
    names = unseen(row.name, found)
    one = int(np.argmax(np.mean([found[name]["Rank-1-T"].mean(0) for name in names], axis=0)))
    return {
        ", best per probe": _each(found, lambda hits: np.any(hits, axis=1)),
        ", best target": _each(found, lambda hits: hits[:, one]),
    }


def _each(found: Found, read: Callable[[np.ndarray], np.ndarray]) -> Found:
    return {
        recogniser: {measure: read(hits) for measure, hits in measures.items()}
        for recogniser, measures in found.items()
    }


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


def means(quality: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Means of PSNR and SSIM; None where nothing was changed, which has no noise to measure."""
    made = {name: float(values.mean()) for name, values in quality.items()}
    return {name: mean if np.isfinite(mean) else None for name, mean in made.items()}


def unseen(name: Name, found: Found) -> list[str]:
    """The recognisers that a protection's source does not hold; all if it holds all."""
    return [judge for judge in found if judge not in name.surrogates] or list(found)


def over_unseen(name: Name, found: Found, seed: int) -> Line:
    """Rank-1-T and Rank-1-UT of hits [P,1] as means over `unseen`, with intervals."""
    made: Line = {}
    for measure in ("Rank-1-T", "Rank-1-UT"):
        hits = np.mean([found[judge][measure][:, 0] for judge in unseen(name, found)], axis=0)
        made |= with_interval(measure, bootstrap.interval(hits, seed))
    return made


def lines(measured: Measured, seed: int) -> list[Line]:
    """A line per reading and recogniser: shares of the probes with intervals, PSNR and SSIM."""
    row, figures = measured.row, means(measured.quality)
    made = []
    for reading, found in readings(measured).items():
        for recogniser, hits in found.items():
            line: Line = {
                "protection": row.name.text + reading,
                "probes": len(row.probes),
                "recogniser": recogniser,
                "surrogate": recogniser in row.name.surrogates,
            }
            for measure in MEASURES:
                line |= with_interval(measure, bootstrap.interval(hits[measure], seed))
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
      UserError: they have no probe in common.
    """
    rows = (a.row, b.row)
    common = np.intersect1d(a.row.probes, b.row.probes)
    if not len(common):
        raise UserError(f"{a.row.cell} and {b.row.cell} have no probe in common")
    at = [np.searchsorted(row.probes, common) for row in rows]
    seen = {name for row in rows for name in row.name.surrogates}
    unseen = [name for name in a.found if name not in seen]
    groups = {name: [name] for name in a.found} | ({"all unseen": unseen} if unseen else {})
    made = []
    for (first, found), (second, other) in product(readings(a).items(), readings(b).items()):
        for group, members in groups.items():
            line: Line = {
                "first": a.row.name.text + first,
                "second": b.row.name.text + second,
                "probes": len(common),
                "recogniser": group,
            }
            for measure in MEASURES:
                minuend, subtrahend = (
                    np.mean([hits[name][measure][i] for name in members], axis=0)
                    for hits, i in zip((found, other), at)
                )
                line |= with_interval(measure, bootstrap.paired(minuend, subtrahend, seed))
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
