"""Five questions about the path of an attack, each answered from recordings of many images.

`switching` (when the greedy target changes, and what that makes of the search), `agreement` (of surrogate and
black boxes, and whether it foretells transfer), `stability` (what random views and momentum do), `optimisers`
(which protects best at equal PSNR), `curvature` (where curvature and effective rank grow). Recordings are
shared by the questions: ε = 12, 30 steps of 0.15 ε, one surrogate.
"""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from experiments.judging import ranking
from experiments.protection import specs
from experiments.protection.methods import Setting
from experiments.protection.runs import Run
from experiments.recordings import optimisers, path_plots, recorder
from experiments.recordings.recorder import Watch
from experiments.reporting import plots, report, results
from experiments.reporting.plots import Axes, Line
from experiments.reporting.report import Picture, Table

WITNESSES = ("sface", "dlib", "frfeat")  # unseen, and watched
STEPS, STRIDE = 30, 7
SETTING = Setting(epsilon=12.0, steps=STEPS, alpha=12.0 * optimisers.TRAVEL / STEPS)
LOOKS = ("identity", "movement")
PASSES = (*LOOKS, "similarity", "agreement")
RANKS = ("identity", "gram", "smoothness")
BENDS = ("hessian", "jacobian")  # seconds an image and look: at the first and last steps alone
DECAYS = (0.0, 0.5, 1.0)
VIEWS = {"views": "affine", "plain": "none"}
# Name of a recording -> (method, probes, stride); `views` are random affine ones.
RECORDINGS = {
    "exhaustive, views": ("tip_im_exhaustive", LOOKS, STRIDE),
    "exhaustive, plain": ("tip_im_exhaustive:diversity=none", LOOKS, STRIDE),
    "rank": ("tip_im", RANKS, STRIDE),
    "ends": ("tip_im", BENDS, STEPS - 2),
    **{
        f"{view}, momentum {decay:g}": (f"tip_im:diversity={kind}:decay={decay:g}", PASSES, STRIDE)
        for view, kind in VIEWS.items()
        for decay in DECAYS
    },
}
REACH = {f"{view}, momentum 1": f"reach, {view}" for view in VIEWS}


class Study(NamedTuple):
    """What every question is asked of; `plain` of a quick run that only looks on, without random views."""

    run: Run
    bench: ranking.Bench
    source: str
    witnesses: tuple[str, ...]
    optimisers: tuple[str, ...]
    setting: Setting
    plain: bool

    def recorded(self, name: str) -> xr.Dataset:
        """A recording by its name, made where it is not there yet."""
        method, chosen, stride = RECORDINGS[name]
        chosen = LOOKS if self.plain else chosen
        witnesses = (self.source, *self.witnesses) if chosen == PASSES else ()
        protection = specs.named(f"{self.source}/{method}", self.setting)
        watch = Watch(protection, chosen, witnesses, stride)
        return recorder.watched(self.run, self.bench, watch, name).recording

    def outcome(self, made: xr.Dataset) -> dict[str, float]:
        """Mean of Rank-1 over images and the judges that are not the surrogate, and PSNR."""
        unseen = made["judge"] != self.source
        shares = {m: float(made[m][:, unseen].mean()) for m in ("Rank-1-UT", "Rank-1-T")}
        found = {f"{measure}, unseen": share for measure, share in shares.items()}
        return {**found, "PSNR": float(made["PSNR"].mean())}


Answer = tuple[list[dict[str, Any]], list[Picture]]


def switching(study: Study) -> Answer:
    """When the greedy choice of the target changes."""
    rows, lines, last = [], {}, {}
    names = {**{n: n for n in RECORDINGS if n.startswith("exhaustive")}, **REACH}
    for name, shown in names.items():
        if study.plain and "plain" not in name:
            continue
        made = study.recorded(name)
        switched = made["switched"].values[:, 1:] > 0  # [I,N−1], steps 1 and on
        target, count = made["target"].values, switched.sum(axis=1)
        steps = switched.shape[1]
        final = np.where(count > 0, steps - np.argmax(switched[:, ::-1], axis=1), 0)
        third, total = -(-steps // 3), max(count.sum(), 1)
        shares = {
            "switches, mean": count.mean(),
            "median": np.median(count),
            "never": np.mean(count == 0),
            "first third": switched[:, :third].sum() / total,
            "last third": switched[:, -third:].sum() / total,
            "last switch, median step": np.median(final),
            "ends at its first target": np.mean(target[:, 0] == target[:, -1]),
        }
        rows.append(
            {"search": shown, **{k: float(v) for k, v in shares.items()}, **study.outcome(made)}
        )
        if name == shown:
            at = np.arange(1, steps + 1)
            lines[name] = Line(at, switched.mean(axis=0))
            last[name] = Line(at, [float(np.mean(final <= step)) for step in at])
    drawn = plots.panels(
        {"images that switch at a step": lines, "images that never switch again": last},
        Axes("step", "share of images"),
    )
    note = (
        "Left: how many images change their target at each step of Algorithm 1. Right: how many have made "
        "their last change. A search that is only needed while the left curve is high can stop early."
    )
    return rows, [Picture("Target switches", drawn, note)]


def agreement(study: Study) -> Answer:
    """Whether black boxes' gradients agree with the surrogate's, and whether that foretells transfer."""
    rows: list[dict[str, Any]] = []
    lines: dict[str, dict[str, dict[str, Line]]] = {"cosine": {}, "realised": {}, "cloud": {}}
    recordings = {name.split(",")[0]: study.recorded(name) for name in REACH}
    for (views, made), witness in product(recordings.items(), study.witnesses):
        steps = made["look"].values
        pair = {"witness": 0, "other_witness": made["other_witness"].values.tolist().index(witness)}
        pairs = made[["gradient_cosine", "gradient_sign"]].isel(pair)
        cosine, sign = (values.values for values in pairs.values())
        seen = made.sel(witness=witness)
        goal = made["target"][:, steps[-1]].drop_vars("step", errors="ignore")
        near = seen["similarity_target"].isel(targets=goal)
        margins = (near - seen["similarity_source"]).values
        start, margin, mean = margins[:, 0], margins[:, -1], cosine.mean(axis=1)
        reached = made["Rank-1-T"].sel(judge=witness)
        told, came, middle = seen["predicted"].values, seen["realised"], len(steps) // 2
        figures = {
            "cosine, step 0": np.median(cosine[:, 0]),
            f"step {steps[-1]}": np.median(cosine[:, -1]),
            "same sign, step 0": np.median(sign[:, 0]),
            f"same sign, step {steps[-1]}": np.median(sign[:, -1]),
            "ρ(cosine at step 0, margin)": _rank_correlation(cosine[:, 0], margin),
            "given the margin after step 0": _rank_correlation(cosine[:, 0], margin, given=start),
            "ρ(mean cosine, margin)": _rank_correlation(mean, margin),
            "AUC of mean cosine for Rank-1-T": _auc(mean, reached.values),
            "ρ(predicted, realised)": _rank_correlation(told.sum(1), came.values.sum(1)),
            f"realised at step {steps[middle]}": np.median(came[:, middle]),
        }
        rows.append(
            {"views": views, "black box": witness, **{k: float(v) for k, v in figures.items()}}
        )
        lines["cosine"].setdefault(witness, {})[views] = path_plots.line(pairs["gradient_cosine"])
        lines["realised"].setdefault(witness, {})[views] = path_plots.line(came)
        lines["cloud"].setdefault(witness, {})[views] = Line(mean, margin)
    axes = Axes("step", "cosine with the surrogate's gradient", share=False)
    change = Axes("step", "change of the margin by the step", share=False)
    scatter = Axes("mean cosine along the path", "margin after the attack", share=False)
    return rows, [
        Picture(
            "Gradient agreement",
            plots.panels(lines["cosine"], axes),
            "Median and quartiles over images of the cosine between the surrogate's and a black box's input "
            "gradient at the same image, without a random view. 0 is chance.",
        ),
        Picture(
            "Realised change",
            plots.panels(lines["realised"], change),
            "What a step, made on the surrogate, does to the black box's margin (cosine to the target minus "
            "cosine to the real photo). Below 0 the attack undoes its own transfer.",
        ),
        Picture(
            "Agreement and transfer",
            plots.panels(lines["cloud"], scatter, cloud=True),
            "A point is an image. Margin: cosine to the target minus cosine to the real photo, on the black "
            "box, after the attack. A rising cloud says that agreement foretells transfer.",
        ),
    ]


def _rank_correlation(a: np.ndarray, b: np.ndarray, given: np.ndarray | None = None) -> float:
    """Spearman's ρ of two numbers of every image, a third held fixed where `given` (partial, on ranks)."""
    ranks = [stats.rankdata(x) for x in (a, b)]
    if given is not None:
        known = np.column_stack([stats.rankdata(given), np.ones(len(given))])
        ranks = [r - known @ np.linalg.lstsq(known, r, rcond=None)[0] for r in ranks]
    x, y = (r - r.mean() for r in ranks)
    length = np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.sum(x * y) / length) if length > 0 else float("nan")


def _auc(score: np.ndarray, hit: np.ndarray) -> float:
    """Chance that a hit scores above a miss; NaN without both."""
    if hit.all() or not hit.any():
        return float("nan")
    found = stats.mannwhitneyu(score[hit], score[~hit])
    return float(found.statistic / (hit.sum() * (~hit).sum()))


def stability(study: Study) -> Answer:
    """What random views and momentum do to the direction, and to transfer."""
    rows: list[dict[str, Any]] = []
    panels: dict[str, dict[str, Line]] = {}
    shown = {
        "consecutive gradients": ("cos_gradients", "cosine"),
        "pixels whose gradient turns": ("flips_gradient", "share"),
        "pixels whose move turns": ("flips_move", "share"),
        "displacement over path": ("straightness", "share"),
        "pixels at the ε bound": ("at_bound", "share"),
        "gradient and momentum": ("cos_momentum", "cosine"),
    }
    for view, decay in product(VIEWS, DECAYS):
        made = study.recorded(f"{view}, momentum {decay:g}")
        made = made.assign(straightness=path_plots.straightness(made))
        row: dict[str, Any] = {"views": view, "momentum": f"{decay:g}"}
        for title, (quantity, _) in shown.items():
            line = path_plots.line(made[quantity])
            panels.setdefault(title, {})[f"{view}, μ = {decay:g}"] = line
            row[title] = float(np.median(np.nanmean(made[quantity], axis=1)))
        others = made["gradient_cosine"].isel(witness=0, other_witness=slice(1, None))
        row["surrogate–black-box cosine"] = float(others.mean(others.dims[1:]).median())
        rows.append(row | study.outcome(made))
    axes = {title: Axes("step", label, share=False) for title, (_, label) in shown.items()}
    note = (
        "A high cosine between consecutive gradients is a steady direction. Momentum steadies the move (few "
        "pixels turn) without steadying the gradient; random views unsettle the gradient itself."
    )
    return rows, [Picture("Direction stability", plots.panels(panels, axes), note)]


def best_optimiser(study: Study) -> Answer:
    """Which optimiser protects best at equal PSNR."""
    found = optimisers.study(study.run, study.bench, study.source, study.setting, study.optimisers)
    rows = optimisers.rows(found, (study.source,))
    n = min(study.run.probes, len(study.bench.probes.paths))
    bars = {
        measure: {
            "unseen": {row["optimiser"]: _interval(row[f"{measure}, unseen"], n) for row in rows}
        }
        for measure in optimisers.MEASURES
    }
    note = (
        "Mean over the unseen recognisers, at the ε that gives each optimiser the same PSNR. The interval is "
        f"that of one share over {n} images: differences within it are not findings."
    )
    drawn = plots.bars(bars, Axes("", "share of images"))
    return rows, [Picture("Optimisers at equal PSNR", drawn, note)]


def _interval(share: float, count: int) -> tuple[float, float, float]:
    """A share with its 95 % Wilson interval."""
    low, high = stats.binomtest(round(share * count), count).proportion_ci(method="wilson")
    return share, min(share, float(low)), max(share, float(high))


# Quantity -> what it is, and its unit.
GROWING = {
    "effective_rank": ("effective rank of target gradients", "directions"),
    "condition": ("condition of their Gram matrix", "λ max / λ min"),
    "singular": ("largest singular value of the Jacobian", "per level"),
    "lipschitz_embedding": ("stretch along the step", "‖Δf‖ / ‖Δx‖"),
    "lipschitz_gradient": ("change of the gradient per level", "‖Δ∇‖ / ‖Δx‖"),
    "curvature_secant": ("curvature over the step", "⟨Δ∇, Δx⟩ / ‖Δx‖²"),
    "curvature_update": ("exact curvature along the update", "dᵀHd / ‖d‖²"),
    "hessian_top": ("largest Hessian eigenvalue", "per level²"),
    "hessian_bottom": ("smallest Hessian eigenvalue", "per level²"),
    "update_in_singular": ("update in the top 3 directions", "share of energy"),
}


def bending(study: Study) -> Answer:
    """Where curvature and effective rank grow along the path."""
    rank, ends = study.recorded("rank"), study.recorded("ends")
    rows: list[dict[str, Any]] = []
    panels, axes = {}, {}
    for quantity, (title, unit) in GROWING.items():
        values = (rank if quantity in rank else ends)[quantity]
        values = values[..., 0] if values.ndim == 3 else values
        panels[title] = {"median": path_plots.line(values)}
        axes[title] = Axes("step", unit, share=False)
        middle = zip(values["look"].values, values.median("image").values)
        steps = {f"step {step}": f"{value:.3g}" for step, value in middle}
        higher = float((values[:, -1] > values[:, 0]).mean())
        rows.append({"quantity": title, **steps, "higher at the end": higher})
    note = (
        "On the surrogate, at the image as it is. `higher at the end` is the share of images whose last "
        "value is above the first. The exact Hessian is that of one linear piece of the network."
    )
    return rows, [Picture("Curvature and rank along the path", plots.panels(panels, axes), note)]


QUESTIONS: Mapping[str, Callable[[Study], Answer]] = {
    "switching": switching,
    "agreement": agreement,
    "stability": stability,
    "optimisers": best_optimiser,
    "curvature": bending,
}


def answer(run: Run, question: str, source: str, witnesses: list[str], names: list[str]) -> str:
    """Answers a question, or `all`, by tables, pictures and a report in a folder of its name."""
    asked = list(QUESTIONS) if question == "all" else [question]
    bench = ranking.bench(run.protocol, run.models, run.cache)
    setting = SETTING._replace(steps=3, alpha=1.5) if run.quick else SETTING
    plain = run.quick and asked == ["switching"]
    study = Study(run, bench, source, tuple(witnesses), tuple(names), setting, plain)
    for question in asked:
        rows, pictures = QUESTIONS[question](study)
        folder = run.workdir / question
        results.prepare(str(folder), {"question": question, "images": run.probes})
        print(results.save(folder, question, rows, machine=results.machine()))
        parts: list[Table | Picture] = [Table("Answer", rows), *pictures]
        report.write(folder, QUESTIONS[question].__doc__ or question, parts)
    images = min(run.probes, len(bench.probes.paths))
    return f"{', '.join(asked)}: {len(rows)} rows over {images} images"
