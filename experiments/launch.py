"""What launches share: flags, the frozen config of a run, and the protections it measures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from experiments import cells, data, protections, ranking, results
from experiments.protections import Name, Subjects
from ports import zoo
from tipim_jax.photos.presets import PRESETS, Settings

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Identity folder, person/photo.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Manifest of the photos below it.")
_NUM_PROBES = flags.DEFINE_integer(
    "num_probes", 100, "Evenly spaced ones; a row's @N overrules it."
)
_MODELS = flags.DEFINE_list("models", None, "Recognisers that judge; all that are here by default.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Faces attacked at once.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where results go; results/NAME by default.")
_CACHE = flags.DEFINE_string("cache", "results/cache", "Where aligned faces are kept.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")

# What --quick runs protections with: enough to see that everything works, too little to judge by.
QUICK_STEPS = 2


class Launch(NamedTuple):
    """One run of an experiment.

    Attributes:
      name: of the experiment.
      protocol: the photos.
      workdir, cache: folders.
      models: recognisers that judge; None for all.
      probes: how many of the probes.
      batch_size: faces attacked at once.
      seed: of all randomness.
      quick: whether this is the smallest honest run.
    """

    name: str
    protocol: data.Protocol
    workdir: Path
    cache: Path
    models: list[str] | None
    probes: int
    batch_size: int
    seed: int
    quick: bool

    @property
    def presets(self) -> Mapping[str, Settings]:
        """The presets, of few steps in a quick run."""
        if not self.quick:
            return PRESETS
        return {name: preset._replace(steps=QUICK_STEPS) for name, preset in PRESETS.items()}

    def named(self, rows: Sequence[str]) -> list[Name]:
        """The protections of these names.

        Raises:
          app.UsageError: one of them is not understood.
        """
        setting = protections.Setting(steps=QUICK_STEPS if self.quick else 50)
        try:
            return [protections.named(row, setting) for row in rows]
        except ValueError as error:
            raise app.UsageError(str(error)) from error


def begin(name: str, **config: Any) -> Launch:
    """Reads the common flags, makes the folder, prints and keeps the frozen config.

    The rows that a run measures are not part of it: more may be added to the same folder.

    Raises:
      app.UsageError: the flags do not say which photos, or the folder holds another run.
    """
    quick = _QUICK.value
    protocol = data.chosen_protocol(quick, _DATA_DIR.value, _PROTOCOL.value)
    models = list(zoo.SURROGATES) if quick else _MODELS.value
    batch_size = 2 if quick else _BATCH_SIZE.value
    frozen = {
        "protocol": protocol.name,
        "models": models,
        "batch_size": batch_size,
        "seed": _SEED.value,
        "quick": quick,
        **config,
    }
    try:
        workdir = results.prepare(_WORKDIR.value or f"results/{name}", frozen)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    return Launch(
        name,
        protocol,
        workdir,
        Path(_CACHE.value),
        models,
        _NUM_PROBES.value,
        batch_size,
        _SEED.value,
        quick,
    )


class Row(NamedTuple):
    """A protection of some probes, made and kept part by part.

    Attributes:
      name: the protection.
      probes: [P] indices of the bench's probes.
      clean: [P,160,160,3] uint8.
      canvases: [P,V,160,160,3] uint8, protected.
    """

    name: Name
    probes: np.ndarray
    clean: np.ndarray
    canvases: np.ndarray

    @property
    def cell(self) -> str:
        """The folder of its cells."""
        return f"{self.name.folder}@{len(self.probes)}"


def protect(launch: Launch, bench: ranking.Bench, name: Name) -> Row:
    """Makes a protection of a bench's probes, or finds what was made of it already."""
    total = len(bench.probes.paths)
    count = min(name.probes or launch.probes, total)
    chosen = np.unique(np.arange(count) * total // count)
    subjects = Subjects(
        bench.probes.at(chosen),
        tuple(str(target) for target in bench.targets.identities),
        bench.target_embeddings,
    )
    make = protections.maker(name, subjects, launch.batch_size, launch.seed, launch.presets)
    made = cells.in_parts(
        launch.workdir,
        f"{name.folder}@{count}",
        count,
        name.batch or launch.batch_size,
        lambda indices: {"canvases": make(indices)},
    )
    return Row(name, chosen, subjects.faces.canvases, made["canvases"])


def judged(launch: Launch, bench: ranking.Bench, row: Row) -> dict[str, dict[str, np.ndarray]]:
    """What every recogniser finds: recogniser -> measure -> [P,V] bool, kept."""
    identities = bench.probes.identities[row.probes]
    return {
        judge.name: cells.kept(
            launch.workdir,
            f"{row.cell}/on {judge.name}",
            lambda judge=judge: ranking.found(bench, judge, row.canvases, identities),  # type: ignore[misc]
        )
        for judge in bench.judges
    }


def quality(launch: Launch, row: Row) -> dict[str, np.ndarray]:
    """PSNR and SSIM [P] of a protection, kept."""
    return cells.kept(
        launch.workdir, f"{row.cell}/quality", lambda: ranking.quality(row.clean, row.canvases)
    )
