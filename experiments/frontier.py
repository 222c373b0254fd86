"""Protection against visibility: what judges that no mask is made on see, and what people see, on saved files.

    python -m experiments.frontier --data_dir=LFW --protocol=protocol.json --judges=JUDGES \\
        --models=frfeat,expo --rows=unprotected,low,medium,high,sface+dlib/tip_im \\
        --compare=medium,sface+dlib/tip_im --probes=100:200 --albums=PORTRAITS --workdir=results/frontier

Rows are named as in `experiments/protection/specs.py`, as `medium:level=8`. A preset is made by the path of
`tipim protect`, every face of the whole photo, and judged on the file that it writes; a method is pasted and
saved in the same way. --judges are folders with a `judges.json` beside networks in ONNX or TFLite files (see
`experiments/judging/networks.py`), or such files; --models are recognisers of this project, each left out of
the rows that it is a surrogate of.
Thresholds are those of a false accept rate of 1e-3 over every pair of the protocol's people.

Of the probes, in the protocol's order, --probes=FIRST:COUNT are measured: choose settings on 0:100 and report
others. --again photos of each person are protected as well, to see whether they can be linked. --albums (the
built-in photos by default) are looked at in the same way, without a gallery. `sheet.html` shows both at 100 %.
--after=all, or some of the names in `experiments/protection/degradations.py`, judges the files after being
saved anew, made smaller, cropped, denoised and so on; --folds=5 by judges that have learnt from protected
photos of others. Where photos of the gallery are protected as well, it is also searched with those in it.
--quick: two probes and a preset of two steps.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments.data import dataset
from experiments.judging import judges, lines, rows, scene
from experiments.judging.rows import Row
from experiments.judging.scene import PROBES, Scene
from experiments.launching import launch
from experiments.protection import saved, specs
from experiments.protection.degradations import JOURNEYS
from experiments.protection.methods import Setting
from experiments.protection.runs import QUICK_STEPS, Run
from experiments.reporting import plots, report, results, tables
from experiments.reporting.report import Picture, Table
from experiments.seeing import sheet, visibility
from experiments.seeing.visibility import head
from tipim_jax.errors import UserError
from tipim_jax.photos import demo, verify
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.presets import PRESETS
from tipim_jax.photos.targets import Targets, built_in

_ROWS = flags.DEFINE_list("rows", ["unprotected", "low", "medium", "high"], "Protections.")
_COMPARE = flags.DEFINE_list("compare", [], "Rows: the first minus each of the others.")
_JUDGES = flags.DEFINE_list("judges", [], "Folders with a judges.json, or such files.")
_PROBES = flags.DEFINE_string("probes", "100:100", "FIRST:COUNT, of the protocol's probes.")
_AGAIN = flags.DEFINE_integer(
    "again", 1, "Other photos of each person, protected as well.", lower_bound=0
)
_DEMO = str(demo.demo_photos()[0].parent)
_ALBUMS = flags.DEFINE_list("albums", [_DEMO], "Folders of photos to look at.")
_SHOWN = flags.DEFINE_integer("shown", 10, "Probes on the sheet.", lower_bound=0)
_AFTER = flags.DEFINE_list("after", [], "Journeys of the files, or all.")
_FOLDS = flags.DEFINE_integer(
    "folds",
    0,
    "Of people: judge with heads trained on the others' protected photos.",
    lower_bound=0,
)
_QUICK_ROWS = ["unprotected", "sface/low"]


def chosen_probes(text: str) -> tuple[int, int]:
    """(first, count) of --probes."""
    first, _, count = text.partition(":")
    if not (first.isdecimal() and count.isdecimal()):
        raise UserError(f"--probes={text} is not FIRST:COUNT; give 0:100, for example")
    return int(first), int(count)


def named(texts: Sequence[str], panel: Sequence[str], quick: bool) -> dict[str, specs.Name]:
    """The protections of --rows; none of probes of its own, or made on everybody who judges."""
    setting = Setting(steps=QUICK_STEPS) if quick else Setting()
    names = {text: specs.named(text, setting) for text in texts}
    for text, name in names.items():
        if name.probes or name.best:
            part = f"@{name.probes}" if name.probes else specs.BEST
            raise UserError(f"{text}: leave out {part}; --probes says which are measured")
        if set(panel) <= set(name.surrogates):
            raise UserError(f"{text}: all who judge are surrogates of it; add --judges or --models")
    return names


def journeys(names: Sequence[str]) -> list[str]:
    """The journeys of --after."""
    if names == ["all"]:
        return list(JOURNEYS)
    if unknown := [name for name in names if name not in JOURNEYS]:
        raise UserError(f"--after={unknown[0]} is no journey; use all, or {', '.join(JOURNEYS)}")
    return list(names)


def targets(run: Run, name: specs.Name) -> Targets:
    """What a protection aims at: the protocol's targets, or the virtual ones if its name says so."""
    if name.virtual:
        return built_in()
    faces = dataset.faces(run.protocol.targets, run.cache)
    embedded = {
        model: dataset.embeddings(verify.load(model), faces, run.cache) for model in name.surrogates
    }
    return Targets(tuple(map(str, faces.identities)), embedded)


def shown(stage: Scene, made: Sequence[Row], probes: int) -> list[sheet.Shown]:
    """The photos of the sheet: albums, then the first probes, each with every row and its figures."""
    photos = []
    for group, at in sorted(stage.groups.items(), key=lambda item: item[0] == PROBES):
        for i in range(at.start, at.stop)[: probes if group == PROBES else None]:
            subject = stage.subjects[i]
            cut = head(read_photo(subject.path).pixels.shape[:2], subject.landmarks)
            after = {row.name.text: (row.files[i], _said(row, group, i - at.start)) for row in made}
            photos.append(sheet.Shown(f"{group}: {subject.path.name}", subject.path, cut, after))
    return photos


def _said(row: Row, group: str, index: int) -> str:
    hidden = row.judged[rows.SAVED][group][judges.SAME_PHOTO][:, index]
    seen = {str(m): float(v[index]) for m, v in row.seen[group].items()}
    parts = [
        f"hidden from {int(hidden.sum())} of {len(hidden)}",
        f"PSNR {seen['face PSNR']:.1f} dB",
    ]
    parts += [f"{n} {seen[f'face {n}']:.3g}" for n in visibility.models()]
    return ", ".join([*parts, f"ΔE {seen['skin ΔE']:.1f}"])


def frontier(made: Sequence[Row], seed: int) -> bytes:
    """What is hidden against what is seen: a panel per measure of visibility, a point per row."""
    seen = ["face PSNR", "face SSIM", "skin ΔE", *(f"face {n}" for n in visibility.models())]
    panels: dict[str, dict[str, plots.Line]] = {measure: {} for measure in seen}
    for row in made:
        line = lines.overall(row, seed)[0]
        for measure in seen:
            x = float(row.seen[line["photos of"]][measure].mean())
            panels[measure][row.name.text] = tables.curve([x], [line], judges.SAME_PHOTO)
    axes = {measure: plots.Axes(measure, judges.SAME_PHOTO) for measure in seen}
    return plots.panels(panels, axes)


def main(_: list[str]) -> None:
    quick = launch.QUICK.value
    first, count = (0, 2) if quick else chosen_probes(_PROBES.value)
    if _FOLDS.value == 1 or _FOLDS.value > count:
        raise UserError(f"--folds={_FOLDS.value} of {count} probes; give 0, or 2 to {count}")
    after = ["JPEG 75"] if quick else journeys(_AFTER.value)
    if len(_COMPARE.value) == 1:
        raise UserError("--compare takes two rows or more")
    albums = scene.albums([Path(folder) for folder in ([] if quick else _ALBUMS.value)])
    panel = judges.load(
        [Path(place) for place in _JUDGES.value],
        ["sface", "dlib"] if quick else launch.MODELS.value,
    )
    wanted = _QUICK_ROWS if quick else [*_ROWS.value, *_COMPARE.value]
    names = named(wanted, [judge.name for judge in panel], quick)
    run = launch.begin(
        "frontier",
        judges={judge.name: judge.digest for judge in panel},
        probes=[first, count],
        again=_AGAIN.value,
        albums={album.name: album.digest for album in albums},
        presets={name: preset._asdict() for name, preset in PRESETS.items()},
    )
    probes = scene.part(run.protocol, first, count)
    again = scene.others(run.protocol, probes, _AGAIN.value)
    stage = scene.scene(run.protocol, panel, probes, again, albums, run.cache)
    digests = [one.digest for one in stage.subjects]
    made: dict[str, Row] = {}
    for text, name in names.items():
        files = saved.protected(run, name, stage.photos, digests, targets(run, name))
        made[text] = rows.measured(run, stage, name, files, after, _FOLDS.value)
    write(run, stage, made, _COMPARE.value)
    print(lines.main_figure(list(made.values())[-1], run.seed))


def write(run: Run, stage: Scene, made: Mapping[str, Row], compare: Sequence[str]) -> None:
    """Every table, the plot, the report and the sheet."""
    each = list(made.values())

    def every(make: Callable[[Row, int], list[lines.Line]]) -> list[lines.Line]:
        return [line for row in each for line in make(row, run.seed)]

    overall, looks = every(lines.overall), every(lines.looks)
    worse = [
        line
        for row in each
        for after in list(row.judged)[1:]  # what is not as saved
        for line in lines.overall(row, run.seed, after)
    ]
    photos = {
        group: [one.path.name for one in stage.subjects[at]] for group, at in stage.groups.items()
    }
    lost = {row.name.text: row.lost for row in each}
    machine, missing = results.machine(), [list(item) for item in stage.missing]
    results.save(run.workdir, "overall", overall, lost=lost, missing=missing, machine=machine)
    results.save(run.workdir, "judges", every(lines.by_judge))
    results.save(run.workdir, "photos", every(lambda row, _: lines.photo_by_photo(row, photos)))
    thresholds = [
        {"judge": name, "FAR": judges.FAR, **found._asdict()}
        for name, found in stage.thresholds.items()
    ]
    results.save(run.workdir, "thresholds", thresholds)
    hidden = lines.shares(overall, judges.HIDING)
    print(results.save(run.workdir, "hidden", hidden))
    of_probes = [line for line in overall if line["photos of"] == PROBES]
    links = lines.shares(of_probes, [*judges.BECOMING, *judges.LINKING])
    print(results.save(run.workdir, "linked", links))
    print(results.save(run.workdir, "visible", lines.figures(looks), intervals=looks))
    parts: list[report.Part] = [
        Table("Hidden: mean [95 % interval] / worst judge, percent", hidden, judges.NOTES),
        Table("Targets and links: mean [95 % interval] / worst judge, percent", links),
        Table("Visible", lines.figures(looks), visibility.NOTES),
        Picture("Protection against visibility", frontier(each, run.seed), "Mean over the judges."),
        Table("Thresholds", thresholds),
    ]
    if worse:
        survived = lines.shares(worse, [*judges.HIDING, lines.LOST])
        print(results.save(run.workdir, "after", survived))
        results.save(run.workdir, "after_overall", worse)
        parts.insert(3, Table("After a journey, or for those who know protected photos", survived))
    if compare:
        differences = [
            line
            for b in compare[1:]
            for line in lines.compared(made[compare[0]], made[b], run.seed)
        ]
        results.save(run.workdir, "comparison", differences)
        parts.insert(0, Table("Paired comparison", differences, "First minus second."))
    report.write(run.workdir, "Protection against visibility", parts)
    print(f"pictures: {sheet.write(run.workdir, shown(stage, each, _SHOWN.value))}")


if __name__ == "__main__":
    launch.run(main)
