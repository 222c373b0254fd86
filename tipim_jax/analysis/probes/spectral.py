"""Probes of where the energy of gradient and mask lies: spatial frequencies, and parts of the face."""

import jax
import numpy as np

from tipim_jax.analysis import spectrum
from tipim_jax.analysis.probes.probe import Probe
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.core.types import Step


def frequency() -> Probe:
    """Radially averaged power of gradient and mask (`spectrum.radial`); images must be square.

    Quantities, each [S/2+1], 1 everywhere for white noise: gradient_power, mask_power (after the step).
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        return {
            "gradient_power": spectrum.radial(step.choice.gradient),
            "mask_power": spectrum.radial(step.after.image - step.problem.image),
        }

    return Probe(measure, dict.fromkeys(("gradient_power", "mask_power"), ("frequency",)))


def face_regions(landmarks: np.ndarray = CANVAS_LANDMARKS) -> Probe:
    """Share of the energy of gradient and mask in eyes, nose, mouth and the rest (`spectrum.by_region`).

    Quantities, each [4]: gradient_region, mask_region (after the step).
    """

    def measure(step: Step) -> dict[str, jax.Array]:
        assert step.problem is not None
        mask = step.after.image - step.problem.image
        return {
            "gradient_region": spectrum.by_region(step.choice.gradient, landmarks),
            "mask_region": spectrum.by_region(mask, landmarks),
        }

    return Probe(measure, dict.fromkeys(("gradient_region", "mask_region"), ("region",)))
