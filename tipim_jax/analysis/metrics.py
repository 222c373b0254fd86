"""How well a photo is protected (Rank-N) and how little it changed (PSNR, SSIM); NumPy, on the host."""

from typing import NamedTuple

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of two images of levels 0–255; infinite for equal images."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Mean structural similarity (Wang et al., 2004) of two images [H,W,C] of levels 0–255.

    7×7 uniform windows and sample covariances per channel, as scikit-image does by default.

    Raises:
      ValueError: for images smaller than the window.
    """
    size = 7
    if min(a.shape[:2]) < size:
        raise ValueError(f"SSIM needs images of at least {size}×{size} pixels, got {a.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    mean_a, mean_b = _windows(a, size), _windows(b, size)
    unbiased = size**2 / (size**2 - 1)
    var_a = unbiased * (_windows(a * a, size) - mean_a**2)
    var_b = unbiased * (_windows(b * b, size) - mean_b**2)
    covariance = unbiased * (_windows(a * b, size) - mean_a * mean_b)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return float(np.mean(luminance * structure))


def _windows(x: np.ndarray, size: int) -> np.ndarray:
    """Means over all whole windows: [H,W,C] -> [H−size+1, W−size+1, C]."""
    total = np.pad(x, ((1, 0), (1, 0), (0, 0))).cumsum(0).cumsum(1)
    sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    return sums / size**2


class Ranks(NamedTuple):
    """Per probe, from one ranking of the gallery.

    Attributes:
      targeted: {N: [P] bool} at least one of the N nearest gallery photos is of a target identity.
      untargeted: {N: [P] bool} none of the N nearest is of the true identity.
    """

    targeted: dict[int, np.ndarray]
    untargeted: dict[int, np.ndarray]


def rank(
    similarity: np.ndarray,
    gallery: np.ndarray,
    probes: np.ndarray,
    targets: np.ndarray,
    depths: tuple[int, ...] = (1, 5),
) -> Ranks:
    """Rank-N-T and Rank-N-UT of the paper's identification protocol.

    Equal similarities are ranked in gallery order; a depth beyond the gallery takes all of it.

    Args:
      similarity: [P,G] cosines of probes and gallery photos.
      gallery: [G] identity of each gallery photo.
      probes: [P] true identity of each probe.
      targets: [K] identities that are targets.
      depths: the N.

    Raises:
      ValueError: when the shapes disagree or the gallery is empty.
    """
    if similarity.shape != (len(probes), len(gallery)) or not len(gallery):
        raise ValueError(
            f"similarity {similarity.shape} does not fit {len(probes)} probes and a gallery of "
            f"{len(gallery)} photos"
        )
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : max(depths)]
    nearest = np.asarray(gallery)[order]
    is_target = np.isin(nearest, targets)
    is_true = nearest == np.asarray(probes)[:, None]
    return Ranks(
        {n: np.any(is_target[:, :n], axis=1) for n in depths},
        {n: ~np.any(is_true[:, :n], axis=1) for n in depths},
    )


class Calibration(NamedTuple):
    """Verification figures of a recogniser on genuine and impostor pairs.

    Attributes:
      auc: area under the ROC curve.
      accuracy, threshold: the best accuracy and the cosine that gives it.
      thresholds, rates: {FAR: cosine} and {FAR: share of genuine pairs above it}.
    """

    auc: float
    accuracy: float
    threshold: float
    thresholds: dict[float, float]
    rates: dict[float, float]


def calibrate(
    genuine: np.ndarray, impostor: np.ndarray, fars: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
) -> Calibration:
    """Thresholds from cosines of genuine [P] and impostor [Q] pairs.

    The threshold at a false-accept rate is the smallest cosine that at most that share of impostors
    exceeds; a pair matches when its cosine is above the threshold. −1 accepts every pair.

    Raises:
      ValueError: without a genuine or without an impostor pair.
    """
    if not len(genuine) or not len(impostor):
        raise ValueError("calibration needs genuine and impostor pairs, at least one of each")
    genuine, impostor = np.sort(genuine), np.sort(impostor)
    below = np.searchsorted(impostor, genuine, side="left")
    ties = np.searchsorted(impostor, genuine, side="right") - below
    auc = float(np.mean(below + ties / 2) / len(impostor))
    cuts = np.concatenate([[-1.0], genuine, impostor])
    accepted = len(genuine) - np.searchsorted(genuine, cuts, side="right")
    rejected = np.searchsorted(impostor, cuts, side="right")
    accuracy = (accepted + rejected) / (len(genuine) + len(impostor))
    best = int(np.argmax(accuracy))
    thresholds = {}
    for far in fars:
        # 0.29 of 100 pairs is 28.999… in floating point.
        allowed = int(np.floor(far * len(impostor) + 1e-6))
        thresholds[far] = float(impostor[-1 - allowed]) if allowed < len(impostor) else -1.0
    rates = {far: float(np.mean(genuine > t)) for far, t in thresholds.items()}
    return Calibration(auc, float(accuracy[best]), float(cuts[best]), thresholds, rates)
