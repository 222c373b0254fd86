"""The verification protocol of AMT-GAN and its successors: PSR at fixed false accept rates.

    python -m experiments.verification --data_dir=CelebA-HQ --protocol=celeba_hq.json \\
        --flagfile=experiments/configs/verification/row04_celeba_hq_irse50.flags --workdir=results/row04

Of --models every one is the black box in turn and the others are the surrogates. With --surrogates only the
other models are black boxes; --black_boxes names those to measure on. --framing says what recognisers see:
`whole` photos (AMT-GAN), the detected `box` (CLIP2Protect, WeakenDiff) or `aligned` faces, the only ones that
presets protect; results differ widely and are never to be compared across it. --goal=impersonation: the
protected photo matches a second photo of the target. --goal=obfuscation, by an `_untargeted` method or a
control: it no longer matches another photo of the person. Thresholds are the published ones for the published
networks (`irse50`, `ir152`, `facenet`, `mobileface`) and those of the clean photos for others. Manifests are
written by `experiments.make_protocol --kind=verification`; --data_dir and --protocol take several, comma
between them, and the average is over all. --quick: the demo photos.
"""

from typing import Any

import numpy as np
from absl import flags

from experiments.data import dataset, framing, protocols
from experiments.data.people import people_of
from experiments.judging import matching
from experiments.launching import launch
from experiments.protection import methods, specs
from experiments.protection.runs import Run
from experiments.reporting import bootstrap, paper, plots, report, results, tables
from ports import zoo
from tipim_jax.errors import UserError
from tipim_jax.photos.presets import PRESETS

_METHOD = flags.DEFINE_string("method", "tip_im", "Method; `_untargeted` for obfuscation.")
_GOAL = flags.DEFINE_enum(
    "goal", "impersonation", ["impersonation", "obfuscation"], "What to reach."
)
_FRAMING = flags.DEFINE_enum("framing", "whole", list(framing.FRAMINGS), "What recognisers see.")
_BLACK_BOXES = flags.DEFINE_list(
    "black_boxes", None, "Which of the models; by default each in turn that is no surrogate."
)
_SURROGATES = flags.DEFINE_list(
    "surrogates", None, "Models, of all black boxes; the other models by default."
)


def boxes(
    models: list[str], black_boxes: list[str] | None, surrogates: list[str] | None
) -> list[tuple[str, list[str]]]:
    """Every black box with its surrogates: by default every model that is no surrogate, and the other models.

    Raises:
      UserError: some are not among the models, are both, or none is left.
    """
    if len(models) < 2:
        raise UserError("give two or more --models, to be surrogates and black boxes")
    for flag, names in (("black_boxes", black_boxes), ("surrogates", surrogates)):
        if absent := [name for name in names or [] if name not in models]:
            raise UserError(f"--{flag}={','.join(absent)} is not among --models={','.join(models)}")
    white = surrogates or []
    if both := [name for name in black_boxes or [] if name in white]:
        raise UserError(f"{both[0]} is both a surrogate and a black box; name it in one of the two")
    chosen = black_boxes or [name for name in models if name not in white]
    if not chosen:
        raise UserError("all --models are --surrogates, so no black box is left; leave one out")
    return [(box, white or [name for name in models if name != box]) for box in chosen]


def check(method: str, goal: str, framed: str) -> None:
    """Raises a `UserError` unless a method fits the goal and the framing."""
    read = specs.named(f"models/{method}")
    if read.probes or read.targets or read.virtual:
        raise UserError(
            f"--method={method}: photos and targets are those of --protocol; leave out @PROBES, :targets and "
            ":virtual"
        )
    aimless = read.method in methods.CONTROLS or read.method.endswith(methods.UNTARGETED)
    if goal == "obfuscation" and not aimless:
        raise UserError(
            f"--method={method} aims at a target, which obfuscation has not; use tip_im_untargeted, "
            f"another method with {methods.UNTARGETED}, or a control ({', '.join(methods.CONTROLS)})"
        )
    if read.method in PRESETS and framed != "aligned":
        raise UserError(
            f"--method={method} leaves aligned faces, not what --framing={framed} shows; "
            "use --framing=aligned"
        )


def measured(
    run: Run, scene: matching.Scene, method: str, black_box: str, surrogates: list[str], hide: bool
) -> list[dict[str, Any]]:
    """A line per false accept rate."""
    trial = matching.trial(run, scene, f"{'+'.join(surrogates)}/{method}", black_box, hide)
    cuts, source = matching.thresholds(scene, black_box)
    lines = []
    for far, cut in cuts.items():
        share = bootstrap.interval(matching.success(trial.after, cut, hide), run.seed)
        lines.append(
            {
                "data": scene.manifest.name,
                "black box": black_box,
                "surrogates": "+".join(surrogates),
                "FAR": f"{far:g}",
                "threshold": cut,
                "thresholds": source,
                "comparisons": len(trial.after),
                "before": float(matching.success(trial.before, cut, hide).mean()),
                **tables.with_interval("PSR", share),
                **tables.means(trial.quality),
            }
        )
    return lines


def averaged(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean PSR and image quality over all data and black boxes, a line per false accept rate."""
    made = []
    for far in dict.fromkeys(line["FAR"] for line in lines):
        those = [line for line in lines if line["FAR"] == far]
        columns = {key: [line[key] for line in those] for key in ("PSR", "PSNR", "SSIM")}
        figures = {k: None if None in v else float(np.mean(v)) for k, v in columns.items()}
        made.append({"FAR": far, "cells": len(those), **figures})
    return made


def bars(lines: list[dict[str, Any]]) -> bytes:
    """PSR with intervals: a panel per data set, a group per black box, a bar per false accept rate."""
    panels: plots.Bars = {}
    for data in dict.fromkeys(line["data"] for line in lines):
        those = [line for line in lines if line["data"] == data]
        bars = tables.bars(those, ["PSR"], lambda line: f"FAR {line['FAR']}", "black box")
        panels[data] = bars["PSR"]
    return plots.bars(panels, plots.Axes("black box", "share of comparisons"))


def manifests(run: Run) -> list[matching.Manifest]:
    """What the flags name, or the demo photos."""
    if run.quick:
        root = dataset.demo_people(run.workdir / "photos")
        drawn = protocols.verification(people_of(root), 2, 1, [], 0)
        protocols.write(drawn, root, run.workdir / "demo.json")
        return [matching.read(run.workdir / "demo.json", root)]
    folders, files = launch.places()
    if not files or len(folders) != len(files):
        raise UserError("give a --data_dir and a --protocol for each data set, or --quick")
    read = [
        matching.read(file, dataset.photo_folder(folder, run.cache))
        for folder, file in zip(folders, files, strict=True)
    ]
    if len({file.stem for file in files}) == len(files):
        return read
    return [
        manifest._replace(name=f"{file.parent.name}/{file.stem}")
        for manifest, file in zip(read, files, strict=True)
    ]


def main(_: list[str]) -> None:
    goal, framed, quick = _GOAL.value, _FRAMING.value, launch.QUICK.value
    hide = goal == "obfuscation"
    method = ("mim_untargeted" if hide else "mim") if quick else _METHOD.value
    check(method, goal, framed)
    models = list(zoo.SURROGATES) if quick else list(dict.fromkeys(launch.MODELS.value or []))
    chosen = boxes(models, _BLACK_BOXES.value, _SURROGATES.value)
    files = launch.places()[1]
    run = launch.begin(
        "verification",
        dataset.NO_PHOTOS._replace(name="+".join(file.stem for file in files)),
        method=method,
        goal=goal,
        framing=framed,
        surrogates=_SURROGATES.value,
    )
    lines: list[dict[str, Any]] = []
    missing: list[Any] = []
    for manifest in manifests(run):
        scene = matching.scene(manifest, framing.FRAMINGS[framed], models, run.cache)
        missing += scene.faces.missing
        for black_box, surrogates in chosen[-1:] if quick else chosen:
            lines += measured(run, scene, method, black_box, surrogates, hide)
    print(results.save(run.workdir, "verification", lines, missing=missing))
    means = averaged(lines)
    print(results.save(run.workdir, "average", means))
    parts: list[report.Part] = [
        report.Table("Success rate (PSR, ASR)", lines, "Before: the same, of unprotected photos."),
        report.Picture("PSR", bars(lines), "Bars are 95 % intervals."),
        report.Table("Mean over data and black boxes", means),
        report.Table("Published rows of this launch", paper.VERIFICATION_ROWS, paper.RECALLED),
        report.Table(
            "Published PSR of impersonation at FAR 0.01, percent",
            paper.VERIFICATION,
            paper.RECALLED,
        ),
    ]
    report.write(run.workdir, f"Verification, {goal}, {framed}", parts)
    (at,) = (line for line in means if line["FAR"] == "0.01")
    psnr = "–" if at["PSNR"] is None else f"{at['PSNR']:.2f} dB"
    print(f"{goal}, {framed}: PSR {at['PSR']:.2f} at FAR 0.01, PSNR {psnr}")


if __name__ == "__main__":
    launch.run(main)
