"""Do virtual identities embed like separate people?

    python -m experiments.virtual_targets --data_dir=LFW --protocol=protocol.json --workdir=results/virtual

For every recogniser that the targets cover: cosines between the targets, and the nearest photo of the
gallery to each target (Rank-1) beside the nearest photo of a stranger to each probe. --quick uses the demo
photos.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments import data, results
from tipim_jax.photos import targets, verify

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Identity folder, person/photo.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Manifest of probes and gallery.")
_TARGETS = flags.DEFINE_string("targets", None, "File of targets; the built-in ones by default.")
_WORKDIR = flags.DEFINE_string("workdir", "results/virtual", "Where results go.")
_CACHE = flags.DEFINE_string("cache", "results/cache", "Where aligned faces are kept.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")


def likeness(
    made: np.ndarray,
    probes: np.ndarray,
    gallery: np.ndarray,
    strangers: np.ndarray,
    threshold: float,
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
        "threshold": threshold,
    }


def main(_: list[str]) -> None:
    protocol = data.chosen_protocol(_QUICK.value, _DATA_DIR.value, _PROTOCOL.value)
    config = {"protocol": protocol.name, "targets": _TARGETS.value or "built-in"}
    workdir, cache = results.prepare(_WORKDIR.value, config), Path(_CACHE.value)
    made = targets.load(Path(_TARGETS.value)) if _TARGETS.value else targets.built_in()
    probes, gallery = data.faces(protocol.probes, cache), data.faces(protocol.gallery, cache)
    strangers = probes.identities[:, None] != gallery.identities
    rows = []
    for name, embeddings in made.embeddings.items():
        judge = verify.load(name)
        found = likeness(
            embeddings,
            data.embeddings(judge, probes, cache),
            data.embeddings(judge, gallery, cache),
            strangers,
            judge.threshold,
        )
        rows.append({"recogniser": name, **found})
    missing = [*probes.missing, *gallery.missing]
    print(results.save(workdir, "virtual_targets", rows, missing=missing))
    first = rows[0]
    print(
        f"{first['recogniser']}: largest cosine between targets "
        f"{first['between targets, largest']:.3f}, threshold {first['threshold']:.3f}"
    )


if __name__ == "__main__":
    app.run(main)
