"""Who judges a protection, and what it hides from one judge: who is found, and which photos are linked.

Networks from files and this project's own are judges alike, with thresholds of one kind. Every measure has one
value a probe, a truth or a share of pairs, so that all have the same intervals and can be compared in pairs.
"Matches" is a cosine above the judge's threshold, at which a share `FAR` of the pairs of unprotected strangers
match.
"""

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
DEPTHS = (1, 5)
SAME_PHOTO = "same photo hidden"
HIDING = ("Rank-1-UT", "Rank-5-UT", "gallery hidden", SAME_PHOTO)
BECOMING = ("Rank-1-T", "Rank-5-T")
LINKING = ("linked", "linked to old", "strangers linked")
LESS_IS_BETTER = LINKING
NOTES = """Rank-N-UT: none of the N nearest photos of the whole gallery is of the person; Rank-N-T: one is of
a target. Gallery hidden: no photo of the person in the gallery matches; same photo hidden: nor does the photo
before. Linked: share of the person's other protected photos that match; linked to old: of their unprotected
ones; strangers linked: of other people's protected photos."""


class Judge(NamedTuple):
    """A recogniser."""

    name: str  # for tables
    digest: str  # changes with its weights and with what it sees
    template: np.ndarray  # [5,2] landmarks (x, y) in its crop
    size: tuple[int, int]  # (height, width) of its crop
    # crops [N,h,w,3] float32, pixel levels -> [N,D] of unit norm
    embed: Callable[[np.ndarray], np.ndarray]

    def crop(self, photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """[h,w,3] float32: the face at landmarks [5,2] of a photo [H,W,3], cut from the photo itself."""
        return crop(photo, invert(fit_similarity(landmarks, self.template)), self.size)


def load(places: Sequence[Path], models: Sequence[str] | None) -> list[Judge]:
    """The judges of folders with a `judges.json` (see `networks`), or such files, and this project's
    `models`, by default all that are here and calibrated; no two may share a name."""
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
    """The cosine above which a judge says "same person"."""

    cosine: float  # at `FAR`
    accepted: float  # share of genuine pairs above it
    # genuine, impostors: numbers of pairs
    genuine: int
    impostors: int


def pairs(embeddings: np.ndarray, identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of photos of one person, and of two, by embeddings [N,D] of people [N]."""
    cosines = embeddings @ embeddings.T
    once = np.triu(np.ones(cosines.shape, bool), 1)
    same = identities[:, None] == identities
    return cosines[once & same], cosines[once & ~same]


def threshold(embeddings: np.ndarray, identities: np.ndarray) -> Threshold:
    """From every pair of labelled photos, embeddings [N,D] of people [N]."""
    genuine, impostors = pairs(embeddings, identities)
    if not len(genuine) or not len(impostors):
        raise UserError(
            "thresholds need two people or more, one of them on two photos; take a protocol with those"
        )
    known = metrics.calibrate(genuine, impostors, (FAR,))
    return Threshold(known.thresholds[FAR], known.rates[FAR], len(genuine), len(impostors))


class Known(NamedTuple):
    """What one judge knows."""

    threshold: float  # cosine above which photos match
    gallery: np.ndarray  # [G,D] embeddings of unprotected photos
    people: np.ndarray  # [G] whom they show
    targets: Sequence[str]  # names of the target people


def same_photo_hidden(before: np.ndarray, after: np.ndarray, threshold: float) -> np.ndarray:
    """[P] whether embeddings [P,D] of photos no longer match those before."""
    return np.sum(before * after, axis=1) <= threshold


def found(
    known: Known, before: np.ndarray, after: np.ndarray, identities: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure -> [P], of `HIDING` and `BECOMING`, by embeddings [P,D] of the probes before and after; the
    gallery shows their people [P]."""
    cosines = after @ known.gallery.T
    ranks = metrics.rank(cosines, known.people, identities, np.asarray(known.targets), DEPTHS)
    own = np.where(known.people == identities[:, None], cosines, -np.inf)
    return {
        "Rank-1-UT": ranks.untargeted[1],
        "Rank-5-UT": ranks.untargeted[5],
        "gallery hidden": own.max(1) <= known.threshold,
        SAME_PHOTO: same_photo_hidden(before, after, known.threshold),
        "Rank-1-T": ranks.targeted[1],
        "Rank-5-T": ranks.targeted[5],
    }


def linked(
    known: Known, after: np.ndarray, identities: np.ndarray, probes: int
) -> dict[str, np.ndarray]:
    """Measure of `LINKING` -> [P], the share of pairs of each of P `probes` that match.

    `after` [M,D] are protected photos of people [M], the probes first, every probe's person more than once.
    """
    first = identities[:probes, None]
    matches = after[:probes] @ after.T > known.threshold
    old = after[:probes] @ known.gallery.T > known.threshold
    same = (first == identities) & ~np.eye(probes, len(after), dtype=bool)
    return {
        "linked": _share(matches, same),
        "linked to old": _share(old, first == known.people),
        "strangers linked": _share(matches, first != identities),
    }


def _share(matches: np.ndarray, of: np.ndarray) -> np.ndarray:
    """[P] of matches [P,N] among the pairs `of` [P,N]; NaN where there is none."""
    count = of.sum(1)
    return np.where(count, (matches & of).sum(1) / np.maximum(count, 1), np.nan)
