"""The paper's identification protocol: Rank-N-T and Rank-N-UT of protected probes, on every recogniser.

    python -m experiments.identification --data_dir=LFW --protocol=protocol.json \\
        --flagfile=experiments/configs/table3_mobilefacenet_casia.flags --workdir=results/identification

A row is a protection (`experiments.protections` has the grammar of its name): a control, a preset, or any
method on any source, with the probes it is measured on:

        --rows=unprotected@500,medium,mobilefacenet_casia/tip_im@500,ensemble/mt_dim,sface/dim_best

Rows of methods that attack one target at a time and end in `_best` are run on every target, and reported twice:
the best per probe, and the one target that is best on the unseen recognisers. --compare=A,B,C adds the
differences A − B and A − C, each on the probes that both have. Finished parts are kept in --workdir: a run that
was stopped goes on, rows may be added later, and the seconds that each part took are in `cells.log`. --quick: a
miniature of two probes.
"""

from absl import flags

from experiments import entry, launch, paper, ranking, report, results, runs, tables
from experiments.report import Picture, Table
from tipim_jax.errors import UserError

_ROWS = flags.DEFINE_list(
    "rows",
    ["unprotected", "mobilefacenet_casia/tip_im", "low", "medium", "high"],
    "Protections to measure.",
)
_COMPARE = flags.DEFINE_list("compare", [], "Rows: the first minus each of the others.")
_QUICK_ROWS = ["unprotected", "sface/mim_best", "sface/mim"]


def main(_: list[str]) -> None:
    run = launch.begin("identification")
    rows = _QUICK_ROWS if run.quick else _ROWS.value
    compare = rows[1:] if run.quick else _COMPARE.value
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
        Picture("Rank-1", tables.bars(lines), "Higher is better; bars are 95 % intervals."),
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
    print(f"{last['protection']}: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    entry.run(main)
