"""What recognisers say of two faces, in files as they lie on disk."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ports import zoo
from tipim_jax.ensemble import on_canvas
from tipim_jax.photos.faces import Face
from tipim_jax.types import Embed, PyTree

_BATCH = 4  # canvases embedded at once: one compiled shape for photos with any number of faces


class Verifier(NamedTuple):
    """A recogniser with its threshold.

    Attributes:
      name: of the model.
      embed: (params, canvases [4,160,160,3]) -> [4,D], compiled.
      params: its parameters.
      threshold: cosine above which it says "same person", FAR 1e-3; NaN if never measured.
    """

    name: str
    embed: Any
    params: PyTree
    threshold: float


def verifiers(names: Sequence[str] | None = None) -> list[Verifier]:
    """The recognisers that can be loaded here and have been calibrated.

    Args:
      names: these only; all that are available by default.

    Raises:
      ValueError: a named model is unknown, absent or not calibrated.
    """
    if names is None:
        names = [card.name for card in zoo.available() if not card.missing]
        names = [name for name in names if zoo.thresholds(name)]
    found = [load(name) for name in names]
    for verifier in found:
        if math.isnan(verifier.threshold):
            raise ValueError(
                f"{verifier.name} has no threshold yet; measure it with "
                f"`python -m experiments.calibrate --models={verifier.name}`"
            )
    return found


def load(name: str, dtype: Any = jnp.float32) -> Verifier:
    """One recogniser, computing in `dtype`; its threshold is NaN if it has not been calibrated.

    Raises:
      ValueError: it is unknown or absent.
    """
    recogniser = zoo.load(name, dtype)
    calibration = zoo.thresholds(name)
    threshold = calibration["far_1e-3"] if calibration else math.nan
    return Verifier(name, _batched(on_canvas(recogniser)), recogniser.params, threshold)


@lru_cache(maxsize=64)
def _batched(embed: Embed) -> Any:
    return jax.jit(jax.vmap(embed, (None, 0)))


def embed_canvases(verifier: Verifier, canvases: np.ndarray) -> np.ndarray:
    """[N,160,160,3] -> [N,D], a few at a time in one compiled shape."""
    count = len(canvases)
    padded = np.concatenate([canvases, np.repeat(canvases[-1:], -count % _BATCH, axis=0)])
    parts = [
        verifier.embed(verifier.params, jnp.asarray(padded[i : i + _BATCH], jnp.float32))
        for i in range(0, len(padded), _BATCH)
    ]
    return np.concatenate(parts)[:count]


def embeddings(verifier: Verifier, faces: Sequence[Face]) -> np.ndarray:
    """[N,D] embeddings of faces."""
    return embed_canvases(verifier, np.stack([face.canvas for face in faces]))


def cosines(verifier: Verifier, a: Sequence[Face], b: Sequence[Face]) -> np.ndarray:
    """[N] cosine of each pair of faces."""
    return np.sum(embeddings(verifier, a) * embeddings(verifier, b), axis=1)
