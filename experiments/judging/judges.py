"""Who judges a protection: networks from files and this project's own, alike, with thresholds of one kind."""

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.judging import networks
from ports import zoo
from tipim_jax.analysis import metrics
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE, fit_similarity, invert
from tipim_jax.errors import UserError
from tipim_jax.photos import verify
from tipim_jax.photos.crops import crop

FAR = 1e-3  # share of pairs of strangers that a threshold lets pass


class Judge(NamedTuple):
    """A recogniser.

    Attributes:
      name: for tables.
      digest: changes with its weights and with what it sees.
      template: [5,2] landmarks (x, y) in its crop.
      size: (height, width) of its crop.
      embed: crops [N,h,w,3] float32, pixel levels -> [N,D] of unit norm.
    """

    name: str
    digest: str
    template: np.ndarray
    size: tuple[int, int]
    embed: Callable[[np.ndarray], np.ndarray]

    def crop(self, photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """[h,w,3] float32: the face at landmarks [5,2] of a photo [H,W,3], cut from the photo itself."""
        return crop(photo, invert(fit_similarity(landmarks, self.template)), self.size)


def load(places: Sequence[Path], models: Sequence[str] | None) -> list[Judge]:
    """The judges of folders (see `networks`) and of this project.

    Args:
      places: folders with a `judges.json`, or such files.
      models: names of this project's recognisers; all that are here and calibrated by default.

    Raises:
      UserError: a description or a model is not understood or absent, two share a name, or there is none.
    """
    from_files = [network for place in places for network in networks.described(place)]
    own = verify.verifiers() if models is None else [verify.load(name) for name in models]
    made = [*map(_from_file, from_files), *map(_own, own)]
    names = [judge.name for judge in made]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two judges are called {twice[0]}; rename one in its judges.json")
    if not made:
        raise UserError("nobody judges; give --judges or --models")
    return made


def _from_file(network: networks.Network) -> Judge:
    embed = networks.embedder(network)
    return Judge(network.name, network.digest, network.template, network.crop[::-1], embed)


def _own(verifier: verify.Verifier) -> Judge:
    digest = sha256(zoo.fingerprint(verifier.name).encode()).hexdigest()[:12]
    embed = partial(verify.embed_canvases, verifier)
    return Judge(verifier.name, digest, CANVAS_LANDMARKS, (CANVAS_SIZE, CANVAS_SIZE), embed)


class Threshold(NamedTuple):
    """The cosine above which a judge says "same person".

    Attributes:
      cosine: at `FAR`.
      accepted: share of genuine pairs above it.
      genuine, impostors: numbers of pairs.
    """

    cosine: float
    accepted: float
    genuine: int
    impostors: int


def threshold(embeddings: np.ndarray, identities: np.ndarray) -> Threshold:
    """From every pair of labelled photos, embeddings [N,D] of people [N].

    Raises:
      UserError: nobody has two photos, or there are no two people.
    """
    cosines = embeddings @ embeddings.T
    pairs = np.triu(np.ones(cosines.shape, bool), 1)
    same = identities[:, None] == identities
    genuine, impostors = cosines[pairs & same], cosines[pairs & ~same]
    if not len(genuine) or not len(impostors):
        raise UserError(
            "thresholds need two people or more, one of them on two photos; take a protocol with those"
        )
    known = metrics.calibrate(genuine, impostors, (FAR,))
    return Threshold(known.thresholds[FAR], known.rates[FAR], len(genuine), len(impostors))
