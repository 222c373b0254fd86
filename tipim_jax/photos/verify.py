"""What recognisers say of two faces, in files as they lie on disk."""

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
      threshold: cosine above which it says "same person", FAR 1e-3.
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
    found = []
    for name in names:
        calibration = zoo.thresholds(name)
        if calibration is None:
            raise ValueError(
                f"{name} has no threshold yet; run `python -m experiments.calibrate --models={name}`"
            )
        recogniser = zoo.load(name)
        embed = _batched(on_canvas(recogniser))
        found.append(Verifier(name, embed, recogniser.params, calibration["far_1e-3"]))
    return found


@lru_cache(maxsize=64)
def _batched(embed: Embed) -> Any:
    return jax.jit(jax.vmap(embed, (None, 0)))


def embeddings(verifier: Verifier, faces: Sequence[Face]) -> np.ndarray:
    """[N,D] embeddings of faces."""
    canvases = np.stack([face.canvas for face in faces])
    padded = np.concatenate([canvases, np.repeat(canvases[-1:], -len(canvases) % _BATCH, axis=0)])
    parts = [
        verifier.embed(verifier.params, jnp.asarray(padded[i : i + _BATCH]))
        for i in range(0, len(padded), _BATCH)
    ]
    return np.concatenate(parts)[: len(canvases)]


def cosines(verifier: Verifier, a: Sequence[Face], b: Sequence[Face]) -> np.ndarray:
    """[N] cosine of each pair of faces."""
    return np.sum(embeddings(verifier, a) * embeddings(verifier, b), axis=1)
