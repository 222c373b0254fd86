"""Rank-N-T and Rank-N-UT of protections, on every recogniser: the paper's Tables 3 and 4."""

from collections.abc import Sequence

from experiments.judging import ranking
from experiments.protection import runs
from experiments.reporting import paper, report, results, tables
from experiments.reporting.report import Table
from tipim_jax.errors import UserError

_QUICK = ["unprotected", "sface/mim_best", "sface/mim"]


def study(run: runs.Run, rows: Sequence[str], compare: Sequence[str]) -> str:
    """Measures protections, and the first of `compare` minus each of the others; returns the last's figure."""
    if run.quick:
        rows, compare = _QUICK, _QUICK[1:]
    if len(compare) == 1:
        raise UserError("--compare takes two rows or more")
    names = run.named(dict.fromkeys([*rows, *compare]), every_target=True)
    bench = ranking.bench(run.protocol, run.models, run.cache)
    made = {text: runs.measured(run, bench, name) for text, name in names.items()}
    lines = [line for row in made.values() for line in tables.lines(row, run.seed)]
    shapes = {kind: tables.pivoted(lines, kind) for kind in (ranking.T, ranking.UT)}
    parts: list[report.Part] = [
        Table("Rank-1-T [95 % interval] / Rank-5-T, percent", shapes[ranking.T]),
        Table("The paper's Table 3", paper.TABLE_3, "Other networks; * is a white box."),
        Table("Rank-1-UT [95 % interval] / Rank-5-UT, percent", shapes[ranking.UT]),
        Table("The paper's Table 4", paper.TABLE_4, paper.TABLE_7),
        Table("The paper's Table 8, MegFace gallery, Rank-1-T", paper.TABLE_8),
        Table("Published rows of this launch", paper.IDENTIFICATION_ROWS, paper.RECALLED),
        tables.rank_1(lines),
    ]
    if compare:
        first, *others = (made[text] for text in compare)
        differences = [line for other in others for line in tables.compared(first, other, run.seed)]
        print(results.save(run.workdir, "comparison", differences))
        parts.insert(0, Table("Paired comparison", differences, "First minus second, shares."))
    results.save(
        run.workdir, "identification", lines, missing=bench.missing, machine=results.machine()
    )
    for kind, table in shapes.items():
        print(results.save(run.workdir, f"rank-{kind}", table))
    report.write(run.workdir, "Identification", parts)
    last = lines[-1]
    return f"{last['protection']}: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}"
