"""Watches an attack move: any probes on any method and recognisers, with every quantity plotted.

    python -m experiments.dynamics --data_dir=LFW --protocol=protocol.json --num_images=100 \\
        --method=tip_im:search=exhaustive --surrogates=mobilefacenet_casia \\
        --witnesses=mobilefacenet_casia,sface,dlib --probes=identity,movement,similarity,agreement \\
        --workdir=results/dynamics/exhaustive
    python -m experiments.dynamics --compare results/dynamics/exhaustive results/dynamics/reach \\
        --workdir=results/dynamics/compared
    python -m experiments.dynamics --question=switching --data_dir=LFW --protocol=protocol.json \\
        --num_images=100 --workdir=results/dynamics_study

--method has the grammar of `experiments.protection.specs` without source and `_best`. --probes=all takes every
probe; those that do more than look on run every --stride steps. The run leaves `recording.nc` (an
`xarray.Dataset`: `experiments.recordings.recording.load`) and `report.html`. A run that was stopped goes on.
--surface=N adds slices of the loss surface of N images. --overhead measures what the default probes cost
instead. --question answers one of those in `experiments.recordings.questions`, or `all`, about the first of
--surrogates, in a folder of its name below --workdir. --quick: the two demo probes, four steps; of a question
three, and of `switching` alone no random views.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from absl import flags

from experiments.judging import ranking
from experiments.launching import launch
from experiments.protection import runs
from experiments.protection.methods import Setting
from experiments.protection.runs import Run
from experiments.recordings import optimisers, path_plots, questions, recorder, recording, surface
from experiments.recordings.questions import QUESTIONS
from experiments.recordings.recorder import PROBES, Watch
from experiments.reporting import plots, report, results
from experiments.reporting.plots import Axes
from experiments.reporting.report import Picture, Table
from experiments.speed import machine
from tipim_jax.analysis import probes
from tipim_jax.errors import UserError

flags.DEFINE_alias("num_images", "num_probes")
_METHOD = flags.DEFINE_string("method", "tip_im", "A method and settings, METHOD:FIELD=VALUE.")
_SURROGATES = flags.DEFINE_list("surrogates", ["mobilefacenet_casia"], "Masks are made on these.")
_WITNESSES = flags.DEFINE_list(
    "witnesses", None, "Recognisers that only watch; the judges if none, three for a question."
)
_PROBES = flags.DEFINE_list("probes", list(recorder.DEFAULT), "What to watch, or all.")
_STRIDE = flags.DEFINE_integer(
    "stride", 5, "Steps between looks of the probes that cost passes.", lower_bound=1
)
_SURFACE = flags.DEFINE_integer("surface", 0, "Images to slice the loss surface of.", lower_bound=0)
_QUESTION = flags.DEFINE_enum("question", None, [*QUESTIONS, "all"], "To answer.")
_OPTIMISERS = flags.DEFINE_list("optimisers", list(optimisers.VARIANTS), "Of that question.")
_COMPARE = flags.DEFINE_multi_string("compare", [], "Folders of two runs to overlay.")
_OVERHEAD = flags.DEFINE_bool("overhead", False, "Measure the cost of the default probes.")

RECORDING = "recording.nc"
_QUICK = Setting(steps=4)
_QUICK_PROBES = ("identity", "movement", "frequency", "face_regions", "similarity")


def compare(folders: list[str]) -> None:
    """Overlays runs in one report."""
    if len(folders) < 2:
        raise UserError("--compare takes the folders of two runs")
    workdir = Path(launch.WORKDIR.value or "results/dynamics_compared")
    runs = {Path(f).name: recording.load(Path(f) / RECORDING) for f in folders}
    results.prepare(str(workdir), {"compare": folders})
    rows = [line for name, made in runs.items() for line in outcome(name, made)]
    parts: list[Table | Picture] = [Table("Outcome", rows, "Shares of images.")]
    page = report.write(workdir, "Gradient dynamics compared", [*parts, *path_plots.pictures(runs)])
    print(f"{' and '.join(folders)} overlaid in {page}")


def outcome(name: str, made: xr.Dataset) -> list[dict[str, Any]]:
    """Rank-N and quality of a recording: a row for each judge."""
    shares = made[[*ranking.MEASURES, "PSNR"]].mean("image")
    return [
        {"run": name, "recogniser": str(judge), **{str(m): float(v) for m, v in one.items()}}
        for judge, one in ((judge, shares.sel(judge=judge)) for judge in made["judge"].values)
    ]


def slices(seen: recorder.Watched, names: list[str]) -> Picture:
    """The loss surface of the first images, their mean on every recogniser."""
    count = min(_SURFACE.value, len(seen.canvases))
    axes = Axes("random direction, in lengths of the mask", "multiples of the mask")
    label = f"mean margin of {count} images"
    drawn = plots.maps(surface.surface(seen, names, count), axes, label, lines=True)
    note = (
        "Margin (cosine to the target minus cosine to the real photo) around the way from the photo (0) to "
        "the protected photo (1), against a direction of the same length: a smooth slope upwards on an "
        "unseen recogniser is transfer, flat ground is none."
    )
    return Picture("Loss surface", drawn, note)


def overhead(run: Run, bench: ranking.Bench, watch: Watch, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a batch without probes and with each of them, taken in turns: medians."""
    _, who = runs.subjects_of(run, bench, watch.name)
    size = watch.name.batch or run.batch_size
    part = np.arange(min(size, len(who.faces.paths)))
    choices = {"none": (), "default set": recorder.DEFAULT, **{n: (n,) for n in watch.chosen}}
    recorders = {name: recorder.load(watch._replace(chosen=c)) for name, c in choices.items()}
    recorders["none"] = recorder.load(watch._replace(chosen=(), updates=lambda updates: updates))
    calls = {}
    for name, loaded in recorders.items():
        ready = recorder.batch(loaded, watch, who, part, run.seed, size)
        calls[name] = partial(recorder.attack_batch, loaded, ready)
    ends = {name: call() for name, call in calls.items()}  # compiles
    seconds = {name: float(np.median(t)) for name, t in machine.in_turns(calls, repeats).items()}
    faces = size * recorders["none"].method.steps
    plain = ends["none"][0].image
    return [
        {
            "probes": name,
            "ms per image and step": 1e3 * taken / faces,
            "overhead": taken / seconds["none"] - 1,
            "same image": bool(np.array_equal(ends[name][0].image, plain)),
            "bytes per image and recorded step": sum(probes.sizes(ends[name][1]).values()),
        }
        for name, taken in seconds.items()
    ]


def main(argv: list[str]) -> None:
    if folders := [*_COMPARE.value, *argv[1:]]:
        return compare(folders)
    quick = launch.QUICK.value
    surrogates = ["sface"] if quick else _SURROGATES.value
    if _QUESTION.value:
        source = surrogates[0]
        witnesses = ["dlib"] if quick else _WITNESSES.value or list(questions.WITNESSES)
        run = launch.begin(
            "dynamics_study", source=source, witnesses=witnesses, setting=questions.SETTING
        )
        print(questions.answer(run, _QUESTION.value, source, witnesses, _OPTIMISERS.value))
        return
    names = _QUICK_PROBES if quick else tuple(_PROBES.value)
    run = launch.begin(
        "dynamics",
        method=_METHOD.value,
        surrogates=surrogates,
        witnesses=_WITNESSES.value,
        probes=names,
        stride=_STRIDE.value,
    )
    text = f"{'+'.join(surrogates)}/{_METHOD.value}"
    (name,) = run.named([text], _QUICK if quick else Setting()).values()
    bench = ranking.bench(run.protocol, run.models, run.cache)
    names = tuple(PROBES) if names == ("all",) else names
    known = runs.subjects_of(run, bench, name)[1].targets  # the virtual ones: by some of the judges
    witnesses = _WITNESSES.value or [j.name for j in bench.judges if j.name in known]
    watch = Watch(name, names, tuple(witnesses), _STRIDE.value)
    if _OVERHEAD.value:
        rows = overhead(run, bench, watch, repeats=5)
        print(results.save(run.workdir, "overhead", rows, machine=results.machine()))
        print(f"overhead of the default probes: {rows[1]['overhead']:.1%}")
        return
    seen = recorder.watched(run, bench, watch, name.folder)
    made = seen.recording
    recording.save(run.workdir / RECORDING, made)
    rows = outcome(name.text, made)
    print(results.save(run.workdir, "outcome", rows, machine=results.machine()))
    parts: list[Table | Picture] = [Table("Outcome", rows, "Shares of images.")]
    parts += path_plots.pictures({name.text: made})
    if _SURFACE.value:
        shown = [*surrogates, *[w for w in watch.witnesses if w not in surrogates]]
        parts.append(slices(seen, shown))
    report.write(run.workdir, "Gradient dynamics", parts)
    last = rows[-1]
    print(f"{last['run']}: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    launch.run(main, arguments=True)
