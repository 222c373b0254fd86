"""What more targets, and virtual ones, are worth: Rank-1 against the number of targets.

    python -m experiments.targets --data_dir=LFW --protocol=protocol.json \\
        --flagfile=experiments/configs/figure7.flags --workdir=results/targets

The paper's Figure 7 takes the first N targets for N of 1 to 10; Rank-N-T counts those alone. Its Table 7
aims at faces of nobody: --virtual=sface+dlib adds a row with the library's virtual identities (made for
those models) as targets, who are in no gallery, so that only Rank-N-UT says something. `nearest.md`: which
target each protected probe ends nearest to on the white box. --quick: one and two targets.
"""

from absl import flags

from experiments import cells, entry, launch, paper, plots, ranking, report, results, runs, tables
from experiments.report import Picture, Table

_SOURCE = flags.DEFINE_string("source", "mobilefacenet_casia", "White box.")
_METHOD = flags.DEFINE_string("method", "tip_im", "Method.")
_COUNTS = flags.DEFINE_list("counts", [str(n) for n in range(1, 11)], "Numbers of targets.")
_VIRTUAL = flags.DEFINE_string("virtual", None, "Source of a row with virtual targets; none.")


def curves(lines: list[tables.Line], counts: list[int]) -> dict[str, dict[str, plots.Line]]:
    """Measure -> recogniser -> Rank-1 against the number of targets; lines in the order of counts."""
    made: dict[str, dict[str, plots.Line]] = {}
    for measure in ("Rank-1-T", "Rank-1-UT"):
        for recogniser in dict.fromkeys(line["recogniser"] for line in lines):
            those = [line for line in lines if line["recogniser"] == recogniser]
            star = "*" if those[0]["surrogate"] else ""
            values = (
                [line[key] for line in those]
                for key in (measure, f"{measure} low", f"{measure} high")
            )
            made.setdefault(measure, {})[recogniser + star] = plots.Line(counts, *values)
    return made


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
        hits = measured.found[judge.name]["Rank-1-T"]
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


def main(_: list[str]) -> None:
    run = launch.begin("targets")
    source = "sface/mim" if run.quick else f"{_SOURCE.value}/{_METHOD.value}"
    asked = ["1", "2"] if run.quick else _COUNTS.value
    virtual = f"{_VIRTUAL.value}/{_METHOD.value}:virtual=1" if _VIRTUAL.value else None
    names = run.named([f"{source}:targets={count}" for count in asked])
    counts = [name.targets or 0 for name in names.values()]
    other = run.named([virtual] if virtual else [])
    bench = ranking.bench(run.protocol, run.models, run.cache)
    counted, virtually = (
        [runs.measured(run, bench, name) for name in part.values()] for part in (names, other)
    )
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
    picture = plots.panels(curves(lines, counts), plots.Axes("targets", "share of probes"))
    parts: list[report.Part] = [
        Picture(
            "Rank-1 against the number of targets",
            picture,
            "The paper's Figure 7; * is a white box.",
        ),
        Table("Rank-1-T [95 % interval] / Rank-5-T, percent", shapes[ranking.T]),
        Table("Rank-1-UT [95 % interval] / Rank-5-UT, percent", shapes[ranking.UT], paper.TABLE_7),
        Table("Which target the probes end nearest to on the white box", choices),
    ]
    report.write(run.workdir, "Targets", parts)
    last = lines[-1]
    print(f"{counts[-1]} targets: Rank-1-T {last['Rank-1-T']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    entry.run(main)
