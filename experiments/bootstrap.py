"""Bootstrap percentile intervals over probes."""

from typing import NamedTuple

import numpy as np

DRAWS = 2000


class Interval(NamedTuple):
    """A mean and its 95 % interval."""

    mean: float
    low: float
    high: float


def interval(values: np.ndarray, seed: int = 0) -> Interval:
    """Of the mean of values [P] under resampling of the P probes."""
    values = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def paired(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Interval:
    """Of the mean of a − b, [P] each, for the same probes in the same order."""
    return interval(np.asarray(a, np.float64) - np.asarray(b, np.float64), seed)
