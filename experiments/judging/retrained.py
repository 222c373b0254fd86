"""A judge that has learnt from protected photos of other people: a linear head on its embeddings.

The head maps what the judge makes of protected photos, and of the same photos before, to what it makes of those
before (ridge regression). The probes' people are split into folds; those of a fold are judged with a head
that has seen the others, at a threshold measured through it on people that it has not seen.
"""

import numpy as np

from experiments.judging import judges
from experiments.judging.judges import Known, threshold

PENALTY = 0.1  # of the squared weights, in units of the inputs' mean square


def head(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[D,D] the matrix that embeddings [...,D] are multiplied with, from pairs [N,D]."""
    inputs, outputs = np.concatenate([after, before]), np.concatenate([before, before])
    penalty = PENALTY * len(inputs) / inputs.shape[1] * np.eye(inputs.shape[1])
    return np.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ outputs)


def found(
    known: Known, before: np.ndarray, after: np.ndarray, identities: np.ndarray, folds: int
) -> dict[str, np.ndarray]:
    """As `judges.found`, by the judge with heads, of people each on one probe.

    Of two `folds` or more, person i is in fold i modulo their number.
    """
    fold = np.arange(len(identities)) % folds
    made: dict[str, np.ndarray] = {}
    for number in range(folds):
        judged = fold == number
        matrix = head(before[~judged], after[~judged])

        def through(embeddings: np.ndarray, matrix: np.ndarray = matrix) -> np.ndarray:
            mapped = embeddings @ matrix
            return mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)

        gallery = through(known.gallery)
        unseen = ~np.isin(known.people, identities[~judged])
        cosine = threshold(gallery[unseen], known.people[unseen]).cosine
        told = known._replace(threshold=cosine, gallery=gallery)
        part = judges.found(
            told, through(before[judged]), through(after[judged]), identities[judged]
        )
        for measure, values in part.items():
            made.setdefault(measure, np.zeros(len(identities)))[judged] = values
    return made
