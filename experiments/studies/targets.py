"""What more targets, and virtual ones, are worth: Rank-1 against the number of targets.

The paper's Figure 7 takes the first N targets for N of 1 to 10; Rank-N-T counts those alone. Its Table 7
aims at faces of nobody: --virtual=sface+dlib adds a row with the library's virtual identities (made for
those models) as targets, who are in no gallery, so that only Rank-N-UT says something. `nearest.md`: which
target each protected probe ends nearest to on the white box.
"""

from collections.abc import Sequence
from itertools import product

from experiments.judging import ranking
from experiments.protection import cells, runs
from experiments.reporting import paper, plots, report, results, tables
from experiments.reporting.report import Picture, Table


def curves(lines: list[tables.Line], counts: Sequence[int]) -> bytes:
    """Rank-1 against the number of targets on every recogniser; lines in the order of counts."""
    made: dict[str, dict[str, plots.Line]] = {}
    for measure, recogniser in product(
        tables.RANK_1, dict.fromkeys(x["recogniser"] for x in lines)
    ):
        those = [line for line in lines if line["recogniser"] == recogniser]
        star = "*" if those[0]["surrogate"] else ""
        made.setdefault(measure, {})[recogniser + star] = tables.curve(counts, those, measure)
    return plots.panels(made, plots.Axes("targets", "share of probes"))


def taken(run: runs.Run, bench: ranking.Bench, measured: runs.Measured) -> list[tables.Line]:
    """A line per allowed target and white box.

    How many probes end nearest to it, their Rank-1-T, and the highest cosine of its photo with a gallery photo
    of the same person.
    """
    row = measured.row
    people = bench.targets.identities[: row.name.targets]
    made = []
    for judge in bench.judges:
        if judge.name not in row.name.surrogates:
            continue
        targets = bench.target_embeddings[judge.name][: len(people)]
        nearest = cells.kept(
            run.workdir,
            f"{row.cell}/nearest on {judge.name}",
            lambda judge=judge, targets=targets: {  # type: ignore[misc]
                "nearest": ranking.nearest(judge, row.canvases, targets)
            },
        )["nearest"]
        hits = measured.found["Rank-1-T"].sel(judge=judge.name).values
        for index, person in enumerate(people):
            mine = nearest == index
            own = bench.gallery_embeddings[judge.name][bench.gallery.identities == person]
            made.append(
                {
                    "targets": len(people),
                    "recogniser": judge.name,
                    "target": str(person),
                    "probes": int(mine.sum()),
                    "Rank-1-T": float(hits[mine].mean()) if mine.any() else None,
                    "gallery cosine": float((own @ targets[index]).max()) if len(own) else None,
                }
            )
    return made


def study(run: runs.Run, attack: str, counts: Sequence[int], virtual: str | None) -> str:
    """Measures an attack on so many targets, and on virtual ones of source `virtual`; returns a figure."""
    if run.quick:
        attack, counts = "sface/mim", [1, 2]
    names = run.named([f"{attack}:targets={count}" for count in counts])
    method = attack.partition("/")[2]
    other = run.named([f"{virtual}/{method}:virtual=1"] if virtual else [])
    bench = ranking.bench(run.protocol, run.models, run.cache)
    counted = [runs.measured(run, bench, name) for name in names.values()]
    virtually = [runs.measured(run, bench, name) for name in other.values()]
    lines, beside = (
        [line for measured in part for line in tables.lines(measured, run.seed)]
        for part in (counted, virtually)
    )
    results.save(run.workdir, "targets", lines + beside, missing=bench.missing)
    shapes = {kind: tables.pivoted(lines + beside, kind) for kind in (ranking.T, ranking.UT)}
    for kind, table in shapes.items():
        print(results.save(run.workdir, f"rank-{kind}", table))
    choices = [line for measured in counted for line in taken(run, bench, measured)]
    results.save(run.workdir, "nearest", choices)
    parts: list[report.Part] = [
        Picture(
            "Rank-1 against the number of targets",
            curves(lines, counts),
            "The paper's Figure 7; * is a white box.",
        ),
        Table("Rank-1-T [95 % interval] / Rank-5-T, percent", shapes[ranking.T]),
        Table("Rank-1-UT [95 % interval] / Rank-5-UT, percent", shapes[ranking.UT], paper.TABLE_7),
        Table("Which target the probes end nearest to on the white box", choices),
    ]
    report.write(run.workdir, "Targets", parts)
    last = lines[-1]
    return f"{counts[-1]} targets: Rank-1-T {last['Rank-1-T']:.2f} on {last['recogniser']}"
