"""The verification protocol of AMT-GAN and its successors: PSR at fixed false accept rates.

    python -m experiments.verification --data_dir=CelebA-HQ --protocol=celeba_hq.json \\
        --flagfile=experiments/configs/celeba_hq_psr.flags --workdir=results/celeba_hq

Of --models every one is the black box in turn and the others are the surrogates, unless --black_boxes and
--surrogates say otherwise. --framing says what recognisers see: `whole` photos (AMT-GAN), the detected `box`
(CLIP2Protect, WeakenDiff) or `aligned` faces; results differ widely and are never to be compared across it.
--goal=impersonation: the protected photo matches a second photo of the target. --goal=obfuscation: it no
longer matches another photo of the person. Thresholds are the published ones for the published networks
(`irse50`, `ir152`, `facenet`, `mobileface`) and those of the clean photos for others. Manifests are
written by `experiments.make_protocol --kind=verification`; --data_dir and --protocol take several, comma
between them, and the average is over all. --quick: the demo photos.
"""

from typing import Any

import numpy as np
from absl import flags

from experiments import (
    bootstrap,
    data,
    entry,
    framing,
    launch,
    pairs,
    paper,
    protocols,
    report,
    results,
    tables,
)
from experiments.runs import Run

_METHOD = flags.DEFINE_string("method", "tip_im", "Method; `_untargeted` for obfuscation.")
_GOAL = flags.DEFINE_enum(
    "goal", "impersonation", ["impersonation", "obfuscation"], "What to reach."
)
_FRAMING = flags.DEFINE_enum("framing", "whole", list(framing.FRAMINGS), "What recognisers see.")
_BLACK_BOXES = flags.DEFINE_list(
    "black_boxes", None, "Which of the models; each in turn by default."
)
_SURROGATES = flags.DEFINE_list(
    "surrogates", None, "Of all black boxes; the other models by default."
)


def measured(
    run: Run, scene: pairs.Scene, method: str, black_box: str, surrogates: list[str], hide: bool
) -> list[dict[str, Any]]:
    """A line per false accept rate."""
    trial = pairs.trial(run, scene, f"{'+'.join(surrogates)}/{method}", black_box, hide)
    cuts, source = pairs.thresholds(scene, black_box)
    lines = []
    for far, cut in cuts.items():
        share = bootstrap.interval(pairs.success(trial.after, cut, hide), run.seed)
        lines.append(
            {
                "data": scene.manifest.name,
                "black box": black_box,
                "surrogates": "+".join(surrogates),
                "FAR": f"{far:g}",
                "threshold": cut,
                "thresholds": source,
                "comparisons": len(trial.after),
                "before": float(pairs.success(trial.before, cut, hide).mean()),
                **tables.with_interval("PSR", share),
                **{name: float(values.mean()) for name, values in trial.quality.items()},
            }
        )
    return lines


def averaged(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean PSR and image quality over all data and black boxes, a line per false accept rate."""
    made = []
    for far in dict.fromkeys(line["FAR"] for line in lines):
        those = [line for line in lines if line["FAR"] == far]
        figures = {key: float(np.mean([x[key] for x in those])) for key in ("PSR", "PSNR", "SSIM")}
        made.append({"FAR": far, "cells": len(those), **figures})
    return made


def manifests(run: Run) -> list[pairs.Manifest]:
    """What the flags name, or the demo photos.

    Raises:
      ValueError: they do not fit.
    """
    if run.quick:
        root = data.demo_people(run.workdir / "photos")
        drawn = protocols.verification(protocols.people_of(root), 2, 1, [], 0)
        protocols.write(drawn, root, run.workdir / "demo.json")
        return [pairs.read(run.workdir / "demo.json", root)]
    folders, files = launch.places()
    if not files or len(folders) != len(files):
        raise ValueError("give a --data_dir and a --protocol for each data set, or --quick")
    return [
        pairs.read(file, data.photo_folder(folder, run.cache))
        for folder, file in zip(folders, files)
    ]


def main(_: list[str]) -> None:
    files = launch.places()[1]
    run = launch.begin(
        "verification",
        data.NO_PHOTOS._replace(name="+".join(file.stem for file in files)),
        method=_METHOD.value,
        goal=_GOAL.value,
        framing=_FRAMING.value,
        surrogates=_SURROGATES.value,
    )
    models = run.models or []
    hide = _GOAL.value == "obfuscation"
    method = "mim" if run.quick else _METHOD.value
    if len(models) < 2:
        raise ValueError("give two or more --models, to be surrogates and black boxes")
    lines: list[dict[str, Any]] = []
    missing: list[Any] = []
    for manifest in manifests(run):
        scene = pairs.scene(manifest, framing.FRAMINGS[_FRAMING.value], models, run.cache)
        missing += scene.faces.missing
        for black_box in _BLACK_BOXES.value or (models[-1:] if run.quick else models):
            surrogates = _SURROGATES.value or [m for m in models if m != black_box]
            lines += measured(run, scene, method, black_box, surrogates, hide)
    print(results.save(run.workdir, "verification", lines, missing=missing))
    means = averaged(lines)
    print(results.save(run.workdir, "average", means))
    parts: list[report.Part] = [
        report.Table("Success rate (PSR, ASR)", lines, "Before: the same, of unprotected photos."),
        report.Table("Mean over data and black boxes", means),
        report.Table("Published, percent, CelebA-HQ at FAR 0.01", paper.VERIFICATION),
    ]
    report.write(run.workdir, f"Verification, {_GOAL.value}, {_FRAMING.value}", parts)
    (at,) = (line for line in means if line["FAR"] == "0.01")
    print(
        f"{_GOAL.value}, {_FRAMING.value}: PSR {at['PSR']:.2f} at FAR 0.01, PSNR {at['PSNR']:.2f} dB"
    )


if __name__ == "__main__":
    entry.run(main)
