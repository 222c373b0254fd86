"""Bootstrap percentile intervals over probes."""

from collections.abc import Callable
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


def worst(values: np.ndarray, pick: Callable[..., np.ndarray] = np.min, seed: int = 0) -> Interval:
    """Of the worst of J means, of values [J,P] for the same P probes; `pick` says which is the worst."""
    values = np.asarray(values, np.float64)
    count = values.shape[1]
    drawn = np.random.default_rng(seed).integers(0, count, (DRAWS, count))
    low, high = np.percentile(pick(values[:, drawn].mean(2), axis=0), [2.5, 97.5])
    return Interval(float(pick(values.mean(1))), float(low), float(high))
