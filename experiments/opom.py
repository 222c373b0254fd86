"""One mask per person, made on some photos of that person and tested on another (OPOM).

    python -m experiments.opom --data_dir=LFW --protocol=protocol.json --source=mobilefacenet_casia \\
        --photos=4 --workdir=results/opom

The photos that the gallery holds of a person are those that the mask is made on, --photos at the most; the
probe is the one that has never been seen. ε = 8, away from the person, as published (OPOM: 10 photos each of
500 people and 10,000 strangers). Beside it unprotected probes. --quick: the demo's two people.
"""

from collections.abc import Callable

import numpy as np
from absl import flags

from experiments import (
    cells,
    entry,
    launch,
    methods,
    protections,
    ranking,
    report,
    results,
    runs,
    tables,
    universal,
)
from experiments.methods import Setting
from experiments.protections import Subjects
from experiments.ranking import Bench
from experiments.runs import Run
from tipim_jax.errors import UserError

_SOURCE = flags.DEFINE_string("source", "mobilefacenet_casia", "White box.")
_METHOD = flags.DEFINE_string("method", "mim_untargeted", "Method; one without random views.")
_PHOTOS = flags.DEFINE_integer(
    "photos", 10, "Photos of a person that a mask is made on, at the most.", lower_bound=1
)
_EPSILON = flags.DEFINE_float("epsilon", 8.0, "Bound on the mask, pixel levels.")


def maker(
    run: Run, bench: Bench, name: protections.Name, subjects: Subjects, photos: int
) -> Callable[[str], np.ndarray]:
    """person -> mask [160,160,3] int16."""
    combined = protections.combined(name.surrogates)
    method = methods.compose(name.method, universal.joined(combined.embed), name.setting)
    targets = subjects.joined(name.surrogates)
    targets = targets[:1] if method.single else targets

    def make(person: str) -> np.ndarray:
        own = bench.gallery.canvases[bench.gallery.identities == person][:photos]
        return universal.mask(method, combined, own, photos, targets, run.seed)

    return make


def main(_: list[str]) -> None:
    photos = 1 if flags.FLAGS.quick else _PHOTOS.value
    run = launch.begin("opom", photos=photos, epsilon=_EPSILON.value)
    text = "sface/mim_untargeted" if run.quick else f"{_SOURCE.value}/{_METHOD.value}"
    setting = Setting(epsilon=_EPSILON.value, alpha=1.0, diversity="none")
    setting = setting._replace(steps=runs.QUICK_STEPS) if run.quick else setting
    (name,) = run.named([text], setting).values()
    if name.batch or name.probes:
        raise UserError(f"--method={_METHOD.value}: leave out :batch and @PROBES (--num_probes)")
    bench = ranking.bench(run.protocol, run.models, run.cache)
    (clean,) = run.named(["unprotected"]).values()
    before = runs.measured(run, bench, clean)
    make = maker(run, bench, name, runs.subjects_of(run, bench, name)[1], photos)
    people = bench.probes.identities[before.row.probes]
    masks = cells.in_parts(
        run.workdir,
        f"{name.folder}/masks@{len(people)}",
        len(people),
        run.batch_size,
        lambda indices: {"masks": np.stack([make(str(people[i])) for i in indices])},
    )["masks"]
    worn = np.stack([universal.worn(c[None], m) for c, m in zip(before.row.clean, masks)])
    row = runs.Row(name, before.row.probes, before.row.clean, worn)
    after = runs.Measured(row, runs.judged(run, bench, row.cell, row), runs.quality(run, row))
    lines = [*tables.lines(before, run.seed), *tables.lines(after, run.seed)]
    results.save(run.workdir, "opom", lines, missing=bench.missing)
    table = tables.pivoted(lines, ranking.UT)
    print(results.save(run.workdir, "rank-UT", table))
    title = f"One mask per person, of up to {photos} photos, on a photo it has not seen"
    parts: list[report.Part] = [
        report.Table(title, table, "Rank-1-UT [95 %] / Rank-5-UT, percent."),
        report.Picture("Rank-1", tables.bars(lines), "Higher is better; bars are 95 % intervals."),
    ]
    report.write(run.workdir, "OPOM", parts)
    last = lines[-1]
    print(f"one mask per person: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    entry.run(main)
