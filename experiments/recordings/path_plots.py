"""What a recording looks like: one picture for each kind of quantity, and how to read it.

Every picture is small multiples with a line for each run, so that one run and several are drawn alike:
medians over the images, the shade from the lower to the upper quartile.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.recordings.recording import places, quantiles
from experiments.reporting import plots
from experiments.reporting.plots import Axes, Line
from experiments.reporting.report import Picture
from tipim_jax.analysis import spectrum
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE

Runs = Mapping[str, xr.Dataset]  # name of a run -> its recording


class Curve(NamedTuple):
    """A panel, or one for each place on an axis: a number per image and step."""

    # title, label: of the panel and its vertical axis
    title: str
    label: str
    quantity: str  # that must have been recorded
    # recording -> [image, step, each]; the quantity itself by default
    value: Callable[[xr.Dataset], xr.DataArray] | None = None
    each: str = ""  # the axis with a panel for each of its places; none by default
    log: bool = False  # whether the vertical axis is logarithmic
    over: str = ""  # what is drawn of the targets: "min", "max" or "mean"

    def panels(self, made: xr.Dataset) -> dict[str, xr.DataArray]:
        """Title -> [image, step], of what has been recorded and is known somewhere."""
        if self.quantity not in made:
            return {}
        values = made[self.quantity] if self.value is None else self.value(made)
        values = getattr(values, self.over)("targets") if self.over else values
        panels = {self.title: values}
        if self.each:
            panels = {
                f"{self.title}: {name}": values.isel({self.each: i})
                for i, name in enumerate(places(values, self.each))
            }
        return {title: some for title, some in panels.items() if np.isfinite(some).any()}


def line(values: xr.DataArray) -> Line:
    """Median and quartiles over the images of values [image, x]."""
    low, middle, high = quantiles(values, [0.25, 0.5, 0.75])
    return Line(values[values.dims[1]].values, middle, low, high)


def path(made: xr.Dataset) -> xr.DataArray:
    """Length of the path so far."""
    return made["step_rms"].cumsum("step").assign_coords(step=made["step"])


def straightness(made: xr.Dataset) -> xr.DataArray:
    """Displacement over the length of the path."""
    return made["mask_rms"] / path(made)


def _switches(made: xr.Dataset) -> xr.DataArray:
    return made["switched"].fillna(0).cumsum("step").assign_coords(step=made["step"])


def _others(quantity: str, label: str) -> Curve:
    """A quantity of pairs of witnesses: of the first with each other one."""
    pairs = {"witness": 0, "other_witness": slice(1, None)}
    return Curve(
        "first witness and", label, quantity, lambda m: m[quantity].isel(pairs), "other_witness"
    )


# Title of the picture -> its panels, and how to read it.
CURVES: dict[str, tuple[list[Curve], str]] = {
    "Identity": (
        [
            Curve("loss", "loss to the chosen target", "loss"),
            Curve("distance to the source", "squared distance", "distance_source"),
            Curve(
                "distance to the nearest target", "squared distance", "distance_target", over="min"
            ),
            Curve("mean distance to targets", "squared distance", "distance_target", over="mean"),
            Curve("largest gain", "gain", "gain", over="max"),
            Curve("target switches so far", "switches", "switched", _switches),
        ],
        "Seen through the surrogates and the step's random view: the loss should fall, the distance to the "
        "source rise and that to the nearest target fall; a staircase of switches says when the search "
        "changes its mind. Gains are drawn where the search looked.",
    ),
    "Movement": (
        [
            Curve("gradient before normalisation", "ℓ2 norm per level", "gradient_norm", log=True),
            Curve("consecutive gradients", "cosine", "cos_gradients"),
            Curve("gradient and momentum", "cosine", "cos_momentum"),
            Curve("−momentum and mask", "cosine", "cos_momentum_mask"),
            Curve("pixels whose gradient turns", "share", "flips_gradient"),
            Curve("pixels whose move turns", "share", "flips_move"),
            Curve("pixels at the ε bound", "share", "at_bound"),
            Curve("effective step", "RMS, pixel levels", "step_rms"),
            Curve("step that survives the projection", "share of RMS", "step_kept"),
            Curve("displacement from the photo", "RMS, pixel levels", "mask_rms"),
            Curve("length of the path", "RMS, pixel levels", "step_rms", path),
            Curve("displacement over path length", "share", "step_rms", straightness),
        ],
        "A cosine near 1 means a steady direction, near 0 one that is new at every step; turning pixels "
        "waste steps. When most pixels sit at the bound, the projection eats the step. Displacement over "
        "path length is 1 for a straight way.",
    ),
    "Recognisers along the path": (
        [
            Curve("to the real photo", "cosine", "similarity_source", each="witness"),
            Curve(
                "to the nearest target", "cosine", "similarity_target", each="witness", over="max"
            ),
        ],
        "Cosines of the image as it is, without a random view, to the real photo (protection lowers it) and "
        "to the nearest target (impersonation raises it); the surrogates among them overfit first.",
    ),
    "Agreement of gradients": (
        [_others("gradient_cosine", "cosine of gradients")],
        "Cosine of the input gradients of two recognisers for the same goal at the same image: 0 is chance, "
        "and what is above it is what one recogniser's step can do on the other.",
    ),
    "Agreement of signs": (
        [_others("gradient_sign", "share of pixels")],
        "Share of pixels at which two recognisers want to go the same way; a half is chance. Sign steps "
        "move by signs alone, so this is the agreement that counts for them.",
    ),
    "Predicted change": (
        [Curve("predicted", "change of margin", "predicted", each="witness")],
        "First-order prediction, from each recogniser's own gradient, of what the step does to its margin "
        "(cosine to the target minus cosine to the real photo).",
    ),
    "Realised change": (
        [Curve("realised", "change of margin", "realised", each="witness")],
        "What the step did to the margin. Below the prediction: the recogniser bends away before the step "
        "is over. On surrogates it must be positive for the attack to work.",
    ),
    "Directions to choose from": (
        [
            Curve("effective rank of target gradients", "directions", "effective_rank"),
            Curve("condition of their Gram matrix", "λ max / λ min", "condition", log=True),
            Curve("mean norm of target gradients", "ℓ2 norm", "target_gradient_norm", over="mean"),
        ],
        "An effective rank of 1 says that all targets pull the same way, so the choice hardly matters; T "
        "would be orthogonal directions. The condition is large where some target adds nothing new.",
    ),
    "Smoothness": (
        [
            Curve("stretch along the step", "‖Δf‖ / ‖Δx‖", "lipschitz_embedding", log=True),
            Curve("change of the gradient", "‖Δ∇‖ / ‖Δx‖", "lipschitz_gradient", log=True),
            Curve("curvature over the step", "⟨Δ∇, Δx⟩ / ‖Δx‖²", "curvature_secant"),
        ],
        "Local Lipschitz estimates between consecutive images. Positive curvature over a step means that "
        "the loss falls less than the gradient promised.",
    ),
    "Hessian": (
        [
            Curve("eigenvalue from the top", "per level²", "hessian_top", each="index"),
            Curve("eigenvalue from the bottom", "per level²", "hessian_bottom", each="index"),
            Curve("along the update", "dᵀHd / ‖d‖²", "curvature_update"),
        ],
        "Exact second derivatives. Networks of convolutions and ReLUs are piecewise linear, so these hold "
        "inside one linear piece; compare with the curvature over the whole step.",
    ),
    "Jacobian": (
        [
            Curve("singular value", "per level", "singular", each="index"),
            Curve("update in the top directions", "share of energy", "update_in_singular"),
            Curve("gradient in the top directions", "share of energy", "gradient_in_singular"),
        ],
        "The largest is the local Lipschitz constant of the embedding: how far a mask of unit length can "
        "move it. The shares say how much of the update lies in these few directions.",
    ),
    "Energy of the gradient in the face": (
        [Curve("gradient", "share of energy", "gradient_region", each="region")],
        "Where the gradient points: shares of its energy in eyes, nose, mouth and the rest of the canvas, "
        "which are {areas} of its area.",
    ),
    "Energy of the mask in the face": (
        [Curve("mask", "share of energy", "mask_region", each="region")],
        "The same for the mask: a sign step spreads it by area, {areas}, whatever the gradient prefers.",
    ),
}


def curves(runs: Runs, chosen: list[Curve]) -> bytes | None:
    """Panels over the steps, a line for each run; None if nothing of it was recorded."""
    drawn: dict[str, dict[str, Line]] = {}
    axes = {}
    for curve in chosen:
        for name, made in runs.items():
            for title, values in curve.panels(made).items():
                drawn.setdefault(title, {})[name] = line(values)
                axes[title] = Axes("step", curve.label, share=False, log=curve.log)
    return plots.panels(drawn, axes) if drawn else None


def spectra(runs: Runs, quantity: str) -> bytes:
    """Radial spectra at the first, a middle and the last measured step."""
    panels: dict[str, dict[str, Line]] = {}
    for name, made in runs.items():
        values = made[quantity].isel(frequency=slice(1, None))
        cycles = spectrum.frequencies(2 * values.shape[2])[1:]
        for row in dict.fromkeys((0, values.shape[1] // 2, values.shape[1] - 1)):
            shown = values[:, row].assign_coords(frequency=cycles)
            panels.setdefault(f"step {int(shown[values.dims[1]])}", {})[name] = line(shown)
    axes = Axes("cycles per pixel", "power over white noise", share=False, log=True)
    return plots.panels(panels, axes)


def grams(values: xr.DataArray) -> bytes:
    """Mean cosines of the targets' gradients at the first and the last measured step."""
    steps, mean = values[values.dims[1]].values, values.mean("image").values
    place = np.arange(1, values.shape[-1] + 1)
    maps = {f"step {steps[row]}": (place, place, mean[row]) for row in (0, -1)}
    return plots.maps(maps, Axes("target", "target"), "cosine of gradients")


def foretold(runs: Runs) -> bytes:
    """Predicted against realised change over all recorded steps, a cloud for each run."""
    panels: dict[str, dict[str, Line]] = {}
    for name, made in runs.items():
        sums = [
            made[quantity].sum(str(made[quantity].dims[1]))
            for quantity in ("predicted", "realised")
        ]
        for i, witness in enumerate(places(sums[0], "witness")):
            panels.setdefault(witness, {})[name] = Line(*(values[:, i].values for values in sums))
    axes = Axes("predicted change of margin", "realised change", share=False)
    return plots.panels(panels, axes, cloud=True)


def pictures(runs: Runs) -> list[Picture]:
    """Every picture that the recordings hold something for; runs are compared in the same panels."""

    def having(quantity: str) -> Runs:
        return {name: made for name, made in runs.items() if quantity in made}

    made = []
    size = (CANVAS_SIZE, CANVAS_SIZE)
    masks = spectrum.regions(size, tuple(map(tuple, CANVAS_LANDMARKS.tolist())))
    areas = ", ".join(f"{share:.0%}" for share in masks.mean(axis=(1, 2)))
    for title, (chosen, note) in CURVES.items():
        if drawn := curves(runs, chosen):
            made.append(Picture(title, drawn, note.replace("{areas}", areas)))
    for what in ("gradient", "mask"):
        if some := having(f"{what}_power"):
            note = (
                f"Power of the {what} by spatial frequency, averaged over directions; white noise is 1 "
                "everywhere, values above 1 on the left say that it is smooth."
            )
            drawn = spectra(some, f"{what}_power")
            made.append(Picture(f"Spectrum of the {what}", drawn, note))
    for name, one in having("gram").items():
        note = "Mean cosine of the gradients towards two targets: bright off the diagonal is alike."
        made.append(Picture(f"Gram matrix of {name}", grams(one["gram"]), note))
    if some := having("predicted"):
        note = (
            "Each point is an image: the sum over the recorded steps of the predicted change against the "
            "realised one. On the diagonal a first-order prediction is exact; below it steps overshoot."
        )
        made.append(Picture("Predicted and realised", foretold(some), note))
    return made
