"""Lines of tables from what recognisers find: means with intervals, the paper's shape, paired differences."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from experiments.judging import ranking
from experiments.protection.runs import Measured
from experiments.protection.specs import Name
from experiments.reporting import bootstrap, plots
from experiments.reporting.report import Picture
from tipim_jax.errors import UserError

Line = dict[str, Any]
RANK_1 = ("Rank-1-T", "Rank-1-UT")


def readings(measured: Measured) -> dict[str, xr.Dataset]:
    """How a protection is read: reading -> what is found [judge, photo].

    One, or two for a protection run on every target: the best of its masks for every probe, recogniser and
    measure, and one target for all of them, that with the highest mean Rank-1-T over the recognisers that the
    source does not hold.
    """
    name, found = measured.row.name, measured.found
    if not name.best:
        return {"": found.isel(variant=0)}
    hits = found["Rank-1-T"].sel(judge=unseen(name, found)).mean(("judge", "photo"))
    one = found.isel(variant=int(np.argmax(hits.values)))
    return {", best per probe": found.any("variant"), ", best target": one}


def intervals(values: xr.Dataset, seed: int) -> Line:
    """Every measure [photo] as a mean with its interval, over the photos that have a value."""
    line: Line = {}
    for measure, found in values.items():
        known = found.dropna("photo")
        interval = bootstrap.interval((known if known.size else found).values, seed)
        line |= with_interval(str(measure), interval)
    return line


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


def unseen(name: Name, found: xr.Dataset) -> list[str]:
    """The recognisers that a protection's source does not hold; all if it holds all."""
    judges: list[str] = found["judge"].values.tolist()
    return [judge for judge in judges if judge not in name.surrogates] or judges


def over_unseen(name: Name, found: xr.Dataset, seed: int) -> Line:
    """Rank-1-T and Rank-1-UT of the only variant as means over `unseen`, with intervals."""
    hits = found[list(RANK_1)].isel(variant=0).sel(judge=unseen(name, found))
    return intervals(hits.mean("judge"), seed)


def lines(measured: Measured, seed: int) -> list[Line]:
    """A line per reading and recogniser: shares of the probes with intervals, PSNR and SSIM."""
    row, figures = measured.row, means(measured.quality)
    made = []
    for reading, found in readings(measured).items():
        for judge in found["judge"].values.tolist():
            line: Line = {
                "protection": row.name.text + reading,
                "probes": len(row.probes),
                "recogniser": judge,
                "surrogate": judge in row.name.surrogates,
            }
            made.append({**line, **intervals(found.sel(judge=judge), seed), **figures})
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
        row[line["recogniser"]] = f"{cell}*" if line["surrogate"] else cell
    return list(made.values())


def compared(a: Measured, b: Measured, seed: int) -> list[Line]:
    """First minus second on the probes of both: per recogniser, and over all that neither has seen."""
    rows = (a.row, b.row)
    common = np.intersect1d(a.row.probes, b.row.probes)
    if not len(common):
        raise UserError(f"{a.row.cell} and {b.row.cell} have no probe in common")
    at = [np.searchsorted(row.probes, common) for row in rows]
    seen = {name for row in rows for name in row.name.surrogates}
    judges = a.found["judge"].values.tolist()
    neither = [name for name in judges if name not in seen]
    groups = {name: [name] for name in judges} | ({"all unseen": neither} if neither else {})
    made = []
    for (first, found), (second, other) in product(readings(a).items(), readings(b).items()):
        hits = [some.isel(photo=i).astype(float) for some, i in zip((found, other), at)]
        for group, members in groups.items():
            line: Line = {
                "first": a.row.name.text + first,
                "second": b.row.name.text + second,
                "probes": len(common),
                "recogniser": group,
            }
            difference = (hits[0] - hits[1]).sel(judge=members).mean("judge")
            made.append(line | intervals(difference, seed))
    return made


def bars(
    lines: Sequence[Line], measures: Sequence[str], series: Callable[[Line], str], group: str
) -> plots.Bars:
    """Measures with intervals as `plots.bars` takes them; `group` is an entry of the lines."""
    made: plots.Bars = {}
    for measure, line in product(measures, lines):
        bars = made.setdefault(measure, {}).setdefault(series(line), {})
        bars[line[group]] = interval(line, measure)
    return made


def curve(x: Sequence[float], lines: Sequence[Line], measure: str) -> plots.Line:
    """A measure with its interval against x, a line for each of its values."""
    return plots.Line(x, *zip(*(interval(line, measure) for line in lines), strict=True))


def rank_1(lines: Sequence[Line]) -> Picture:
    """Rank-1 of every protection on every recogniser, with intervals."""
    made = bars(lines, RANK_1, lambda line: f"{line['protection']}@{line['probes']}", "recogniser")
    drawn = plots.bars(made, plots.Axes("recogniser", "share of probes"))
    return Picture("Rank-1", drawn, "Higher is better; bars are 95 % intervals.")
