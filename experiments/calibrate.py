"""Measures every recogniser on pairs of photos and writes the thresholds that the rest uses.

All pairs of photos of the same probe person are genuine, as many pairs of different people impostors.

    python -m experiments.calibrate --data_dir=LFW --protocol=protocol.json --workdir=results/calibrate

The last two columns are the mean and the smallest cosine between the float32 and the bfloat16 embedding of
the same face. With --install the thresholds go where models are looked up: `ports/calibration.json` for
known models, the model's own folder for registered ones. --quick uses the demo photos.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.data import dataset
from experiments.launching import entry, launch
from experiments.reporting import results
from ports import store, zoo
from tipim_jax.analysis import metrics
from tipim_jax.errors import UserError
from tipim_jax.photos import verify

_BFLOAT16 = flags.DEFINE_integer(
    "bfloat16", 64, "Faces embedded in bfloat16 as well.", lower_bound=1
)
_INSTALL = flags.DEFINE_bool("install", False, "Write the thresholds where models are looked up.")


def pairs(identities: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All genuine pairs [P,2], and as many impostor pairs [P,2] drawn without repetition.

    Raises:
      UserError: nobody has two photos, or there are fewer impostor pairs than genuine ones.
    """
    first, second = np.triu_indices(len(identities), 1)
    same = identities[first] == identities[second]
    both = np.stack([first, second], axis=1)
    genuine, strangers = both[same], both[~same]
    if not 0 < len(genuine) <= len(strangers):
        raise UserError(
            f"{len(genuine)} genuine and {len(strangers)} impostor pairs are not enough to calibrate; "
            "take a protocol with more people, some with several photos"
        )
    chosen = np.random.default_rng(seed).choice(len(strangers), len(genuine), replace=False)
    return genuine, strangers[np.sort(chosen)]


def calibrate(embeddings: np.ndarray, identities: np.ndarray, seed: int) -> metrics.Calibration:
    """The figures of one recogniser from unit-norm embeddings [N,D] of labelled photos [N]."""
    genuine, impostor = (
        np.sum(embeddings[part[:, 0]] * embeddings[part[:, 1]], axis=1)
        for part in pairs(identities, seed)
    )
    return metrics.calibrate(genuine, impostor)


def bfloat16_cosines(name: str, canvases: np.ndarray, count: int) -> np.ndarray:
    """[count] cosines of float32 with bfloat16 embeddings, on evenly spaced canvases [N,160,160,3]."""
    chosen = canvases[np.linspace(0, len(canvases) - 1, min(count, len(canvases))).astype(int)]
    wide, narrow = (
        verify.embed_canvases(verify.load(name, dtype), chosen)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    return np.sum(wide * narrow, axis=1)


def install(name: str, figures: dict[str, Any]) -> Path:
    """Puts the figures of a model where `zoo.thresholds` finds them."""
    if name in zoo.CARDS:
        path = Path(zoo.__file__).with_name("calibration.json")
        shipped = json.loads(path.read_text(encoding="utf-8"))
        results.write(path, json.dumps({**shipped, name: figures}, indent=1, sort_keys=True) + "\n")
    else:
        path = store.directory() / name / "calibration.json"
        results.write(path, json.dumps(figures, indent=1) + "\n")
    return path


def main(_: list[str]) -> None:
    run = launch.begin("calibrate")
    protocol = run.protocol
    people = set(protocol.probes.identities)
    known = [i in people for i in protocol.gallery.identities]
    gallery = dataset.Labelled(
        tuple(itertools.compress(protocol.gallery.paths, known)),
        tuple(itertools.compress(protocol.gallery.identities, known)),
    )
    names = run.models or [card.name for card in zoo.available() if not card.missing]
    if not names:
        raise UserError("no recogniser can be loaded here; see `tipim models`")
    verifiers = [verify.load(name) for name in names]
    found = dataset.faces(protocol.probes + gallery, run.cache)
    count = len(pairs(found.identities, run.seed)[0])
    rows = []
    for name, verifier in zip(names, verifiers, strict=True):
        c = calibrate(dataset.embeddings(verifier, found, run.cache), found.identities, run.seed)
        figures = {
            "accuracy": round(c.accuracy, 5),
            "auc": round(c.auc, 6),
            **{
                f"far_{far:.0e}".replace("e-0", "e-"): round(t, 6)
                for far, t in c.thresholds.items()
            },
            "tar_1e-2": round(c.rates[1e-2], 5),
            "tar_1e-3": round(c.rates[1e-3], 5),
            "protocol": f"{protocol.name}: {count} genuine and {count} impostor pairs, seed {run.seed}",
        }
        turned = bfloat16_cosines(name, found.canvases, 4 if run.quick else _BFLOAT16.value)
        rows.append(
            {
                "model": name,
                **figures,
                "bfloat16, mean": round(float(turned.mean()), 5),
                "bfloat16, least": round(float(turned.min()), 5),
            }
        )
        if _INSTALL.value:
            print(f"wrote {install(name, figures)}")
    missing = [list(item) for item in found.missing]
    print(
        results.save(run.workdir, "calibration", rows, missing=missing, machine=results.machine())
    )
    print(f"accuracy of {rows[0]['model']}: {rows[0]['accuracy']:.4f}")


if __name__ == "__main__":
    entry.run(main)
