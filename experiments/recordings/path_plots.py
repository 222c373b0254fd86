"""What a recording looks like: one picture for each kind of quantity, and how to read it.

Every picture is small multiples with a line for each run, so that one run and several are drawn alike:
medians over the images, the shade from the lower to the upper quartile.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.recordings.recording import Recording, median, quantile
from experiments.reporting import plots
from experiments.reporting.plots import Axes, Line, Points
from experiments.reporting.report import Picture
from tipim_jax.analysis import spectrum
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE

Runs = Mapping[str, Recording]  # name of a run -> its recording
STEP = "step"


class Curve(NamedTuple):
    """One panel: a number per image and step out of a recording.

    Attributes:
      title, label: of the panel and its vertical axis.
      quantity: that must have been recorded.
      value: recording -> [I,N].
      log: whether the vertical axis is logarithmic.
    """

    title: str
    label: str
    quantity: str
    value: Callable[[Recording], np.ndarray]
    log: bool = False


Panels = Callable[[Recording], list[Curve]]


def line(values: np.ndarray, steps: np.ndarray) -> Line:
    """Median and quartiles of values [I,N] at steps [N]."""
    return Line(steps, median(values), quantile(values, 0.25), quantile(values, 0.75))


def _own(quantity: str, *place: int) -> Callable[[Recording], np.ndarray]:
    """A quantity [I,N,...] at a place on its own axes."""
    at: Any = (..., *place)
    return lambda recording: recording.arrays[quantity][at]


def _number(quantity: str, title: str, label: str, *, log: bool = False) -> Curve:
    return Curve(title, label, quantity, _own(quantity), log)


def _targets(quantity: str, title: str, label: str, reduce: Callable[..., np.ndarray]) -> Curve:
    return Curve(title, label, quantity, lambda r: reduce(r.arrays[quantity], axis=-1))


def _path(recording: Recording) -> np.ndarray:
    return np.cumsum(recording.arrays["step_rms"], axis=1)


def _straightness(recording: Recording) -> np.ndarray:
    return recording.arrays["mask_rms"] / _path(recording)


def _switches(recording: Recording) -> np.ndarray:
    return np.cumsum(np.nan_to_num(recording.arrays["switched"]), axis=1)


def _places(quantity: str, axis: str, title: str, label: str) -> Panels:
    """A panel for each place of a quantity's only own axis, called as its label or numbered from 1."""

    def curves(recording: Recording) -> list[Curve]:
        if quantity not in recording.arrays:
            return []
        count = recording.arrays[quantity].shape[2]
        names = recording.labels.get(axis, tuple(str(i + 1) for i in range(count)))
        return [
            Curve(f"{title}: {name}", label, quantity, _own(quantity, i))
            for i, name in enumerate(names)
        ]

    return curves


def _pairs(quantity: str, title: str, label: str) -> Panels:
    """A panel for each other witness beside the first."""

    def curves(recording: Recording) -> list[Curve]:
        if quantity not in recording.arrays:
            return []
        names = recording.labels["witness"]
        return [
            Curve(
                f"{title}: {names[0]} and {name}",
                label,
                quantity,
                _own(quantity, 0, i),
            )
            for i, name in enumerate(names)
            if i
        ]

    return curves


def _fixed(*curves: Curve) -> Panels:
    return lambda recording: [c for c in curves if c.quantity in recording.arrays]


def _nearest(witness: int) -> Callable[[Recording], np.ndarray]:
    """A witness's largest cosine to a target."""
    return lambda recording: recording.arrays["similarity_target"][:, :, witness].max(axis=-1)


def _witnessed(recording: Recording) -> list[Curve]:
    if "similarity_source" not in recording.arrays:
        return []
    curves = []
    for i, name in enumerate(recording.labels["witness"]):
        curves += [
            Curve(
                f"to the real photo: {name}",
                "cosine",
                "similarity_source",
                _own("similarity_source", i),
            ),
            Curve(
                f"to the nearest target: {name}",
                "cosine",
                "similarity_target",
                _nearest(i),
            ),
        ]
    return curves


# Title of the picture -> its panels, and how to read it.
CURVES: dict[str, tuple[Panels, str]] = {
    "Identity": (
        _fixed(
            _number("loss", "loss", "loss to the chosen target"),
            _number("distance_source", "distance to the source", "squared distance"),
            _targets(
                "distance_target", "distance to the nearest target", "squared distance", np.min
            ),
            _targets("distance_target", "mean distance to targets", "squared distance", np.mean),
            _targets("gain", "largest gain", "gain", np.max),
            Curve("target switches so far", "switches", "switched", _switches),
        ),
        "Seen through the surrogates and the step's random view: the loss should fall, the distance to the "
        "source rise and that to the nearest target fall; a staircase of switches says when the search "
        "changes its mind. Gains are drawn where the search looked.",
    ),
    "Movement": (
        _fixed(
            _number(
                "gradient_norm", "gradient before normalisation", "ℓ2 norm per level", log=True
            ),
            _number("cos_gradients", "consecutive gradients", "cosine"),
            _number("cos_momentum", "gradient and momentum", "cosine"),
            _number("cos_momentum_mask", "−momentum and mask", "cosine"),
            _number("flips_gradient", "pixels whose gradient turns", "share"),
            _number("flips_move", "pixels whose move turns", "share"),
            _number("at_bound", "pixels at the ε bound", "share"),
            _number("step_rms", "effective step", "RMS, pixel levels"),
            _number("step_kept", "step that survives the projection", "share of RMS"),
            _number("mask_rms", "displacement from the photo", "RMS, pixel levels"),
            Curve("length of the path", "RMS, pixel levels", "step_rms", _path),
            Curve("displacement over path length", "share", "step_rms", _straightness),
        ),
        "A cosine near 1 means a steady direction, near 0 one that is new at every step; turning pixels "
        "waste steps. When most pixels sit at the bound, the projection eats the step. Displacement over "
        "path length is 1 for a straight way.",
    ),
    "Recognisers along the path": (
        _witnessed,
        "Cosines of the image as it is, without a random view, to the real photo (protection lowers it) and "
        "to the nearest target (impersonation raises it); the surrogates among them overfit first.",
    ),
    "Agreement of gradients": (
        _pairs("gradient_cosine", "cosine", "cosine of gradients"),
        "Cosine of the input gradients of two recognisers for the same goal at the same image: 0 is chance, "
        "and what is above it is what one recogniser's step can do on the other.",
    ),
    "Agreement of signs": (
        _pairs("gradient_sign", "same sign", "share of pixels"),
        "Share of pixels at which two recognisers want to go the same way; a half is chance. Sign steps "
        "move by signs alone, so this is the agreement that counts for them.",
    ),
    "Predicted change": (
        _places("predicted", "witness", "predicted", "change of margin"),
        "First-order prediction, from each recogniser's own gradient, of what the step does to its margin "
        "(cosine to the target minus cosine to the real photo).",
    ),
    "Realised change": (
        _places("realised", "witness", "realised", "change of margin"),
        "What the step did to the margin. Below the prediction: the recogniser bends away before the step "
        "is over. On surrogates it must be positive for the attack to work.",
    ),
    "Directions to choose from": (
        _fixed(
            _number("effective_rank", "effective rank of target gradients", "directions"),
            _number("condition", "condition of their Gram matrix", "λ max / λ min", log=True),
            _targets("target_gradient_norm", "mean norm of target gradients", "ℓ2 norm", np.mean),
        ),
        "An effective rank of 1 says that all targets pull the same way, so the choice hardly matters; T "
        "would be orthogonal directions. The condition is large where some target adds nothing new.",
    ),
    "Smoothness": (
        _fixed(
            _number("lipschitz_embedding", "stretch along the step", "‖Δf‖ / ‖Δx‖", log=True),
            _number("lipschitz_gradient", "change of the gradient", "‖Δ∇‖ / ‖Δx‖", log=True),
            _number("curvature_secant", "curvature over the step", "⟨Δ∇, Δx⟩ / ‖Δx‖²"),
        ),
        "Local Lipschitz estimates between consecutive images. Positive curvature over a step means that "
        "the loss falls less than the gradient promised.",
    ),
    "Hessian": (
        lambda r: [
            *_places("hessian_top", "index", "eigenvalue from the top", "per level²")(r),
            *_places("hessian_bottom", "index", "eigenvalue from the bottom", "per level²")(r),
            *_fixed(_number("curvature_update", "along the update", "dᵀHd / ‖d‖²"))(r),
        ],
        "Exact second derivatives. Networks of convolutions and ReLUs are piecewise linear, so these hold "
        "inside one linear piece; compare with the curvature over the whole step.",
    ),
    "Jacobian": (
        lambda r: [
            *_places("singular", "index", "singular value", "per level")(r),
            *_fixed(
                _number("update_in_singular", "update in the top directions", "share of energy"),
                _number(
                    "gradient_in_singular", "gradient in the top directions", "share of energy"
                ),
            )(r),
        ],
        "The largest is the local Lipschitz constant of the embedding: how far a mask of unit length can "
        "move it. The shares say how much of the update lies in these few directions.",
    ),
    "Energy of the gradient in the face": (
        _places("gradient_region", "region", "gradient", "share of energy"),
        "Where the gradient points: shares of its energy in eyes, nose, mouth and the rest of the canvas, "
        "which are {areas} of its area.",
    ),
    "Energy of the mask in the face": (
        _places("mask_region", "region", "mask", "share of energy"),
        "The same for the mask: a sign step spreads it by area, {areas}, whatever the gradient prefers.",
    ),
}


def curves(runs: Runs, chosen: list[Curve]) -> bytes:
    """Panels over the steps, a line for each run."""
    drawn = {
        c.title: {
            name: line(c.value(r), r.steps[c.quantity])
            for name, r in runs.items()
            if c.quantity in r.arrays and np.isfinite(c.value(r)).any()
        }
        for c in chosen
    }
    drawn = {title: lines for title, lines in drawn.items() if lines}
    axes = {c.title: Axes(STEP, c.label, share=False, log=c.log) for c in chosen}
    return plots.panels(drawn, axes)


def spectra(runs: Runs, quantity: str) -> bytes:
    """Radial spectra at the first, a middle and the last measured step."""
    steps = next(iter(runs.values())).steps[quantity]
    panels = {}
    for row in dict.fromkeys((0, len(steps) // 2, len(steps) - 1)):
        panels[f"step {steps[row]}"] = {
            name: line(r.arrays[quantity][:, row, 1:], _frequencies(r, quantity))
            for name, r in runs.items()
        }
    return plots.panels(
        panels, Axes("cycles per pixel", "power over white noise", share=False, log=True)
    )


def _frequencies(recording: Recording, quantity: str) -> np.ndarray:
    size = 2 * (recording.arrays[quantity].shape[-1] - 1)
    return spectrum.frequencies(size)[1:]


def grams(recording: Recording) -> bytes:
    """Mean cosines of the targets' gradients at the first and the last measured step."""
    steps, values = recording.steps["gram"], recording.arrays["gram"]
    place = np.arange(1, values.shape[-1] + 1)
    maps = {f"step {steps[row]}": (place, place, values[:, row].mean(axis=0)) for row in (0, -1)}
    return plots.maps(maps, Axes("target", "target"), "cosine of gradients")


def foretold(runs: Runs) -> bytes:
    """Predicted against realised change over all recorded steps, a cloud for each run."""
    names = next(iter(runs.values())).labels["witness"]
    panels = {
        witness: {
            name: Points(
                r.arrays["predicted"][..., i].sum(axis=1), r.arrays["realised"][..., i].sum(axis=1)
            )
            for name, r in runs.items()
        }
        for i, witness in enumerate(names)
    }
    return plots.clouds(panels, Axes("predicted change of margin", "realised change", share=False))


def pictures(runs: Runs) -> list[Picture]:
    """Every picture that the recordings hold something for; runs are compared in the same panels."""
    made = []
    areas = _areas()
    reference = next(iter(runs.values()))
    for title, (panels, note) in CURVES.items():
        chosen = panels(reference)
        if chosen:
            made.append(Picture(title, curves(runs, chosen), note.replace("{areas}", areas)))
    for quantity, what in (("gradient_power", "gradient"), ("mask_power", "mask")):
        having = _having(runs, quantity)
        if having:
            note = (
                f"Power of the {what} by spatial frequency, averaged over directions; white noise is 1 "
                "everywhere, values above 1 on the left say that it is smooth."
            )
            made.append(Picture(f"Spectrum of the {what}", spectra(having, quantity), note))
    for name, recording in _having(runs, "gram").items():
        note = "Mean cosine of the gradients towards two targets: bright off the diagonal is alike."
        made.append(Picture(f"Gram matrix of {name}", grams(recording), note))
    having = _having(runs, "predicted")
    if having:
        note = (
            "Each point is an image: the sum over the recorded steps of the predicted change against the "
            "realised one. On the diagonal a first-order prediction is exact; below it steps overshoot."
        )
        made.append(Picture("Predicted and realised", foretold(having), note))
    return made


def _having(runs: Runs, quantity: str) -> dict[str, Recording]:
    return {name: r for name, r in runs.items() if quantity in r.arrays}


def _areas() -> str:
    size = (CANVAS_SIZE, CANVAS_SIZE)
    masks = spectrum.regions(size, tuple(map(tuple, CANVAS_LANDMARKS.tolist())))
    return ", ".join(f"{share:.0%}" for share in masks.mean(axis=(1, 2)))
