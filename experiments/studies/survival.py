"""What is left of protections after JPEG, WebP, scaling, blur, fewer bits, padding and screenshots.

Protected faces are degraded on their 160 × 160 canvas, about the resolution of LFW's faces, and judged by
every recogniser. The row `unprotected` tells what a degradation does by itself. Rank-1 is the mean over the
recognisers that the source does not hold; all of them are in survival.csv.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from experiments.judging import ranking
from experiments.protection import runs
from experiments.protection.degradations import AS_MADE, DEGRADATIONS, FAMILIES, generator
from experiments.reporting import plots, report, results, tables
from experiments.reporting.report import Picture, Table

MEASURES = ("Rank-1-UT", "Rank-1-T")
_QUICK = (AS_MADE, "JPEG 75", "blur 1")


def degraded(canvases: np.ndarray, name: str, seed: int) -> np.ndarray:
    """[P,V,160,160,3] uint8 after a degradation."""
    apply, flat = DEGRADATIONS[name].apply, canvases.reshape(-1, *canvases.shape[2:])
    made = [apply(canvas, generator(seed, canvas)) for canvas in flat]
    return np.stack(made).reshape(canvases.shape)


def curves(lines: list[tables.Line]) -> bytes:
    """Share against strength by family and protection, from what was not degraded on."""
    made: dict[str, dict[str, plots.Line]] = {}
    axes = {}
    there = {DEGRADATIONS[line["after"]].family for line in lines}
    families = [family for family in FAMILIES if family in there]
    for measure, family in product(MEASURES, families):
        title = f"{family}: {measure}"
        axes[title] = plots.Axes(FAMILIES[family], "share of probes")
        graded = {
            after: one.strength
            for after, one in DEGRADATIONS.items()
            if after == AS_MADE or one.family == family
        }
        for protection in dict.fromkeys(line["protection"] for line in lines):
            those = [x for x in lines if x["protection"] == protection and x["after"] in graded]
            those.sort(key=lambda line: graded[line["after"]])
            strengths = [graded[line["after"]] for line in those]
            made.setdefault(title, {})[protection] = tables.curve(strengths, those, measure)
    return plots.panels(made, axes, columns=len(families))


def study(run: runs.Run, rows: Sequence[str]) -> str:
    """Measures protections after every degradation; returns its main figure."""
    names = run.named(["unprotected", "sface/mim"] if run.quick else rows)
    bench = ranking.bench(run.protocol, run.models, run.cache)
    lines, all_lines = [], []
    for name in names.values():
        row = runs.protect(run, bench, name)
        for after in _QUICK if run.quick else DEGRADATIONS:
            worse = row._replace(canvases=degraded(row.canvases, after, run.seed))
            found = runs.judged(run, bench, f"{row.cell}/after {after}", worse)
            head: tables.Line = {"protection": name.text, "probes": len(row.probes), "after": after}
            shares = found.mean(("photo", "variant"))
            for judge in shares["judge"].values.tolist():
                own = {str(m): float(share) for m, share in shares.sel(judge=judge).items()}
                all_lines.append({**head, "recogniser": judge, **own})
            lines.append(head | tables.over_unseen(name, found, run.seed))
    results.save(run.workdir, "survival", all_lines, missing=bench.missing)
    print(results.save(run.workdir, "summary", lines))
    single = [line for line in lines if not DEGRADATIONS[line["after"]].family]
    bars = tables.bars(single, MEASURES, lambda line: str(line["protection"]), "after")
    others = plots.bars(bars, plots.Axes("after", "share of probes"))
    parts: list[report.Part] = [
        Picture("Rank-1 against strength", curves(lines), "Strength 0 is as made."),
        Picture("Rank-1 after the others", others, "Bars are 95 % intervals."),
        Table("Mean over the recognisers that the source does not hold", lines),
        Table("Every recogniser", all_lines),
    ]
    report.write(run.workdir, "Survival", parts)
    last = lines[-1]
    return f"{last['protection']} after {last['after']}: Rank-1-UT {last['Rank-1-UT']:.2f}"
