"""The paper's identification bench: a protocol's photos aligned and embedded, and who is found in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import dataset
from tipim_jax.analysis import metrics
from tipim_jax.photos import verify

DEPTHS = (1, 5)
T, UT = "T", "UT"
MEASURES = tuple(f"Rank-{n}-{kind}" for kind in (T, UT) for n in DEPTHS)


class Bench(NamedTuple):
    """Everything a row is measured with: embeddings are recogniser -> array."""

    protocol: dataset.Protocol
    probes: dataset.Faces
    gallery: dataset.Faces
    targets: dataset.Faces
    judges: tuple[verify.Verifier, ...]
    gallery_embeddings: Mapping[str, np.ndarray]
    target_embeddings: Mapping[str, np.ndarray]

    @property
    def missing(self) -> list[list[str]]:
        """Photos without a face, and why."""
        parts = (self.probes, self.gallery, self.targets)
        return [list(item) for part in parts for item in part.missing]


def bench(protocol: dataset.Protocol, models: Sequence[str] | None, cache: Path) -> Bench:
    """Aligns and embeds the photos of a protocol, kept in `cache`, for the recognisers that judge: those of the
    surrogates must be among them; all that are here by default."""
    # Ranks need no threshold, so that a model named here may be one without.
    judges = tuple(verify.verifiers() if models is None else map(verify.load, models))
    gallery = dataset.faces(protocol.gallery, cache)
    targets = dataset.faces(protocol.targets, cache)
    return Bench(
        protocol,
        dataset.faces(protocol.probes, cache),
        gallery,
        targets,
        judges,
        {judge.name: dataset.embeddings(judge, gallery, cache) for judge in judges},
        {judge.name: dataset.embeddings(judge, targets, cache) for judge in judges},
    )


def found(
    bench: Bench,
    judge: verify.Verifier,
    canvases: np.ndarray,
    identities: np.ndarray,
    targets: int | None = None,
) -> dict[str, np.ndarray]:
    """What one recogniser finds of people [P] on canvases [P,V,160,160,3]: measure -> [P,V] bool.

    V are variants of the protection of one photo, such as one per target; `targets` is how many of the targets
    were allowed, all by default.
    """
    variants = canvases.shape[1]
    embedded = verify.embed_canvases(judge, canvases.reshape(-1, *canvases.shape[2:]))
    ranks = metrics.rank(
        embedded @ bench.gallery_embeddings[judge.name].T,
        bench.gallery.identities,
        np.repeat(identities, variants),
        np.unique(bench.targets.identities[:targets]),
        DEPTHS,
    )
    return {
        f"Rank-{n}-{kind}": hits[n].reshape(-1, variants)
        for kind, hits in ((T, ranks.targeted), (UT, ranks.untargeted))
        for n in DEPTHS
    }


def nearest(judge: verify.Verifier, canvases: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Index [P,V] of the target [T,D] that one recogniser finds nearest to canvases [P,V,160,160,3]."""
    embedded = verify.embed_canvases(judge, canvases.reshape(-1, *canvases.shape[2:]))
    return np.argmax(embedded @ targets.T, axis=1).reshape(canvases.shape[:2])


def quality(clean: np.ndarray, canvases: np.ndarray) -> dict[str, np.ndarray]:
    """PSNR and SSIM [P] of canvases [P,V,160,160,3], means over the V variants."""

    def mean(measure) -> np.ndarray:
        return np.array(
            [np.mean([measure(real, x) for x in made]) for real, made in zip(clean, canvases)]
        )

    return {"PSNR": mean(metrics.psnr), "SSIM": mean(metrics.ssim)}
