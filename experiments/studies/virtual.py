"""Do virtual identities embed like separate people?

For every recogniser that the targets cover, or those of --models: cosines between the targets, and the
nearest photo of the gallery to each target (Rank-1) beside the nearest photo of a stranger to each probe.
"""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import dataset
from experiments.protection.runs import Run
from experiments.reporting import results
from tipim_jax.errors import UserError
from tipim_jax.photos import targets, verify


def likeness(
    made: np.ndarray, probes: np.ndarray, gallery: np.ndarray, strangers: np.ndarray
) -> dict[str, Any]:
    """How targets [T,D] lie among people: probes [P,D], gallery [G,D], strangers [P,G] bool masks."""
    nearest = (made @ gallery.T).max(axis=1)
    people = np.where(strangers, probes @ gallery.T, -1).max(axis=1)
    mean, largest = targets.likeness(made)
    return {
        "between targets, mean": mean,
        "between targets, largest": largest,
        "target to nearest photo, mean": float(nearest.mean()),
        "target to nearest photo, largest": float(nearest.max()),
        "person to nearest stranger, mean": float(people.mean()),
        "person to nearest stranger, largest": float(people.max()),
    }


def study(run: Run, file: str | None) -> str:
    """Looks at the targets of a file, or the built-in ones; returns the main figure."""
    protocol, cache = run.protocol, run.cache
    made = targets.load(Path(file)) if file else targets.built_in()
    aims = {name: made.joined([name], [1.0]) for name in run.models or made.embeddings}
    judges = [verify.load(name) for name in aims]
    probes, gallery = dataset.faces(protocol.probes, cache), dataset.faces(protocol.gallery, cache)
    strangers = probes.identities[:, None] != gallery.identities
    if alone := sorted(set(probes.identities[~strangers.any(axis=1)])):
        raise UserError(
            f"the gallery of {protocol.name} shows no stranger to compare {alone[0]} with"
        )
    rows = []
    for judge in judges:
        own, others = (dataset.embeddings(judge, some, cache) for some in (probes, gallery))
        found = likeness(aims[judge.name], own, others, strangers)
        rows.append({"recogniser": judge.name, **found, "threshold": judge.threshold})
    missing = [*probes.missing, *gallery.missing]
    print(results.save(run.workdir, "virtual_targets", rows, missing=missing))
    return (
        f"{rows[0]['recogniser']}: largest cosine between targets "
        f"{rows[0]['between targets, largest']:.3f}, threshold {rows[0]['threshold']:.3f}"
    )
