"""The paper's identification protocol: Rank-N-T and Rank-N-UT of protected probes, on every recogniser.

    python -m experiments.identification --data_dir=LFW --protocol=protocol.json \\
        --flagfile=experiments/configs/table3_mobilefacenet.flags --workdir=results/identification

A row is a protection (`experiments.protections` has the grammar of its name): a control, a preset, or any
method on any source, with the probes it is measured on:

        --rows=unprotected@500,medium,mobilefacenet_casia/tip_im@500,ensemble/mt_dim,sface/dim_best

Rows of methods that attack one target at a time and end in `_best` are run on every target, and reported
twice: the best per probe, and the one target that is best for all. --compare=A,B adds the difference of two
rows on the probes that both have. Finished parts are kept in --workdir: a run that was stopped goes on, rows
may be added later, and the seconds that each part took are in `cells.log`. --quick: a miniature of two probes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from experiments import bootstrap, launch, paper, plots, ranking, report, results
from experiments.launch import Launch, Row
from experiments.ranking import MEASURES, Bench

_ROWS = flags.DEFINE_list(
    "rows",
    ["unprotected", "mobilefacenet_casia/tip_im", "low", "medium", "high"],
    "Protections to measure.",
)
_COMPARE = flags.DEFINE_list("compare", [], "Two rows: the first minus the second.")
_QUICK_ROWS = ("unprotected", "sface/mim_best", "sface/low")

Found = Mapping[str, Mapping[str, np.ndarray]]  # recogniser -> measure -> [P,V] bool


def reduced(hits: np.ndarray, best: bool) -> dict[str, np.ndarray]:
    """What to call each reading of hits [P,V], and its [P]: one, or two for a `_best` row."""
    if not best:
        return {"": hits[:, 0]}
    one = int(np.argmax(hits.mean(0)))
    return {", best per probe": np.any(hits, axis=1), ", best target": hits[:, one]}


def rows_of(row: Row, found: Found, quality: Mapping[str, np.ndarray], seed: int):
    """The lines of a table for one protection, a line per reading and recogniser."""
    lines = []
    means = {name: float(values.mean()) for name, values in quality.items()}
    # What changes nothing has no noise to measure.
    figures = {name: mean if np.isfinite(mean) else None for name, mean in means.items()}
    for recogniser, measures in found.items():
        parts = {m: reduced(hits, row.name.best) for m, hits in measures.items()}
        for reading in parts[MEASURES[0]]:
            line: dict[str, Any] = {
                "protection": row.name.text + reading,
                "probes": len(row.probes),
                "recogniser": recogniser,
                "surrogate": recogniser in row.name.surrogates,
            }
            for measure in MEASURES:
                mean, low, high = bootstrap.interval(parts[measure][reading], seed)
                line |= {measure: mean, f"{measure} low": low, f"{measure} high": high}
            lines.append(line | figures)
    return sorted(lines, key=lambda line: line["protection"])


def pivoted(lines: Sequence[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The paper's shape: a row per protection, "Rank-1 [low, high] / Rank-5" per recogniser, percent."""
    table: dict[str, dict[str, Any]] = {}
    for line in lines:
        one, five = (f"Rank-{n}-{kind}" for n in ranking.DEPTHS)
        shares = [100 * line[key] for key in (one, f"{one} low", f"{one} high", five)]
        text = "{:.0f} [{:.0f}, {:.0f}] / {:.0f}".format(*shares) + "*" * line["surrogate"]
        head = {"protection": line["protection"], "probes": line["probes"]}
        key = f"{line['protection']}@{line['probes']}"
        table.setdefault(key, head)[line["recogniser"]] = text
        table[key] |= {name: line[name] for name in ("PSNR", "SSIM")} if kind == ranking.T else {}
    return list(table.values())


def compared(a: Row, b: Row, found: Sequence[Found], seed: int) -> list[dict[str, Any]]:
    """First minus second on the probes of both: per recogniser, and over those unseen by both.

    Raises:
      ValueError: they have no probe in common.
    """
    common = np.intersect1d(a.probes, b.probes)
    if not len(common):
        raise ValueError(f"{a.cell} and {b.cell} have no probe in common")
    at = [np.searchsorted(row.probes, common) for row in (a, b)]
    seen = {*a.name.surrogates, *b.name.surrogates}
    unseen = [name for name in found[0] if name not in seen]
    groups = {name: [name] for name in found[0]} | ({"unseen": unseen} if unseen else {})
    lines = []
    for group, members in groups.items():
        line: dict[str, Any] = {
            "first": a.name.text,
            "second": b.name.text,
            "probes": len(common),
            "recogniser": group,
        }
        for measure in MEASURES:
            first, second = (
                np.mean([f[name][measure][i].any(1) for name in members], axis=0)
                for f, i in zip(found, at)
            )
            mean, low, high = bootstrap.paired(first, second, seed)
            line |= {measure: mean, f"{measure} low": low, f"{measure} high": high}
        lines.append(line)
    return lines


def plot(lines: Sequence[Mapping[str, Any]]) -> bytes:
    """Rank-1 of every protection on every recogniser, with intervals."""
    panels: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = {}
    for measure in ("Rank-1-T", "Rank-1-UT"):
        for line in lines:
            bar = (line[measure], line[f"{measure} low"], line[f"{measure} high"])
            name = f"{line['protection']}@{line['probes']}"
            panels.setdefault(measure, {}).setdefault(name, {})[line["recogniser"]] = bar
    return plots.bars(panels, plots.Axes("recogniser", "share of probes"))


def measured(run: Launch, bench: Bench, rows: Sequence[str]) -> dict[str, tuple[Row, Found]]:
    """Every protection, and what is found of it; the lines of a table come from `rows_of`."""
    made: dict[str, tuple[Row, Found]] = {}
    for text, name in zip(rows, run.named(rows)):
        row = launch.protect(run, bench, name)
        made[text] = (row, launch.judged(run, bench, row))
    return made


def main(_: list[str]) -> None:
    run = launch.begin("identification")
    names = list(_QUICK_ROWS) if run.quick else [*_ROWS.value]
    pair = [names[1], names[2]] if run.quick else _COMPARE.value
    if len(pair) not in (0, 2):
        raise app.UsageError("--compare takes two rows")
    names += [name for name in pair if name not in names]
    run.named(names)  # a mistake in the last row is better known now
    bench = ranking.bench(run.protocol, run.models, run.cache)
    made = measured(run, bench, names)
    lines = []
    for row, found in made.values():
        lines += rows_of(row, found, launch.quality(run, row), run.seed)
    notes: dict[str, Any] = {"missing": bench.missing, "machine": results.machine()}
    parts: list[report.Table | report.Picture] = [
        report.Table("Rank-1-T [95 % interval] / Rank-5-T, percent", pivoted(lines, ranking.T)),
        report.Table("The paper's Table 3", paper.TABLE_3, "Other networks; * is a white box."),
        report.Table("Rank-1-UT [95 % interval] / Rank-5-UT, percent", pivoted(lines, ranking.UT)),
        report.Table("The paper's Table 4", paper.TABLE_4, paper.TABLE_7),
        report.Table("The paper's Table 8, MegFace gallery, Rank-1-T", paper.TABLE_8),
        report.Picture("Rank-1", plot(lines), "Higher is better; bars are 95 % intervals."),
    ]
    if pair:
        (a, found_a), (b, found_b) = (made[name] for name in pair)
        differences = compared(a, b, (found_a, found_b), run.seed)
        print(results.save(run.workdir, "comparison", differences))
        parts.insert(0, report.Table("Paired comparison", differences, "First minus second."))
    results.save(run.workdir, "identification", lines, **notes)
    for kind in (ranking.T, ranking.UT):
        table = results.markdown(pivoted(lines, kind))
        results.write(run.workdir / f"rank-{kind}.md", table)
        print(table)
    report.write(run.workdir, "Identification", parts)
    last = lines[-1]
    print(f"{last['protection']}: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    app.run(main)
