"""What a protection hides from one judge: who is found in the gallery, and which photos are linked.

Every measure has one value a probe, a truth or a share of pairs, so that all have the same intervals and
can be compared in pairs. "Matches" is a cosine above the judge's threshold, at which a share `judges.FAR` of
the pairs of unprotected strangers match.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tipim_jax.analysis import metrics

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


class Known(NamedTuple):
    """What one judge knows.

    Attributes:
      threshold: cosine above which photos match.
      gallery: [G,D] embeddings of unprotected photos.
      people: [G] whom they show.
      targets: names of the target people.
    """

    threshold: float
    gallery: np.ndarray
    people: np.ndarray
    targets: Sequence[str]


def same_photo_hidden(before: np.ndarray, after: np.ndarray, threshold: float) -> np.ndarray:
    """[P] whether embeddings [P,D] of photos no longer match those before."""
    return np.sum(before * after, axis=1) <= threshold


def found(
    known: Known, before: np.ndarray, after: np.ndarray, identities: np.ndarray
) -> dict[str, np.ndarray]:
    """Measure -> [P], of `HIDING` and `BECOMING`.

    Args:
      known: of the judge.
      before: [P,D] of the probes as they were.
      after: [P,D] of the protected ones.
      identities: [P] of people whom the gallery shows.
    """
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
    """Measure of `LINKING` -> [P], the share of pairs of each probe that match.

    Args:
      known: of the judge.
      after: [M,D] of protected photos, the probes first.
      identities: [M] whom they show, every probe's person more than once.
      probes: how many are probes.
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
