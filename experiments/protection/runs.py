"""A run: where it keeps what it made, and the protections of a bench's probes that it makes or finds."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.data import dataset
from experiments.judging import ranking
from experiments.protection import cells, specs
from experiments.protection.methods import Setting
from experiments.protection.specs import Name, Subjects
from experiments.reporting import results
from ports import zoo
from tipim_jax.errors import UserError
from tipim_jax.photos.presets import PRESETS, Settings
from tipim_jax.photos.targets import Targets, built_in

# What --quick runs protections with: enough to see that everything works, too little to judge by.
QUICK_STEPS = 2


def note_weights(workdir: Path, models: Iterable[str]) -> None:
    """Notes in `workdir` what the models that its results are made with hold.

    Raises:
      UserError: results of another model by the name of one are there already.
    """
    path, weights = workdir / results.WEIGHTS, {name: digest(name) for name in models}
    noted = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name, found in weights.items():
        if noted.get(name, found) != found:
            raise UserError(
                f"{workdir} holds results of another model that was called {name}; choose another --workdir"
            )
    if weights.keys() - noted.keys():
        results.write(path, json.dumps(noted | weights, indent=1, sort_keys=True) + "\n")


def digest(model: str) -> str:
    """Changes with a model's weights, network, input or alignment; a name may be registered anew."""
    card = zoo.find(model)
    return hashlib.sha256(repr(card._replace(missing="")).encode()).hexdigest()[:16]


class Run(NamedTuple):
    """One run of an experiment."""

    protocol: dataset.Protocol  # the photos
    # workdir, cache: folders
    workdir: Path
    cache: Path
    models: list[str] | None  # recognisers that judge; None for all
    probes: int  # how many of the probes
    batch_size: int  # faces attacked at once
    seed: int  # of all randomness
    quick: bool  # whether this is the smallest honest run

    @property
    def presets(self) -> Mapping[str, Settings]:
        """The presets, of few steps in a quick run."""
        if not self.quick:
            return PRESETS
        return {name: preset._replace(steps=QUICK_STEPS) for name, preset in PRESETS.items()}

    def named(
        self, rows: Iterable[str], setting: Setting | None = None, *, every_target: bool = False
    ) -> dict[str, Name]:
        """The protections of these names (see `specs`).

        What they do not say is in `setting`, the paper's by default, of few steps in a quick run; those that
        are run on every target are refused unless `every_target` are wanted.

        Raises:
          UserError: one of them is not understood, not wanted, or made on a model that does not judge.
        """
        if setting is None:
            setting = Setting(steps=QUICK_STEPS) if self.quick else Setting()
        names = {row: specs.named(row, setting) for row in rows}
        note_weights(self.workdir, {s for name in names.values() for s in name.surrogates})
        for row, name in names.items():
            absent = set(name.surrogates) - set(self.models or name.surrogates)
            if absent:
                raise UserError(f"{row}: add {', '.join(sorted(absent))} to --models")
            if name.best and not every_target:
                raise UserError(f"{row}: leave out {specs.BEST}, which identification takes")
        return names


class Row(NamedTuple):
    """A protection of some probes, made and kept part by part."""

    name: Name  # the protection
    probes: np.ndarray  # [P] indices of the bench's probes
    clean: np.ndarray  # [P,160,160,3] uint8
    canvases: np.ndarray  # [P,V,160,160,3] uint8, protected

    @property
    def cell(self) -> str:
        """The folder of its cells."""
        return f"{self.name.folder}@{len(self.probes)}"


def subjects_of(run: Run, bench: ranking.Bench, name: Name) -> tuple[np.ndarray, Subjects]:
    """Indices [P] of the probes that a protection is measured on, evenly spaced; those and its targets."""
    chosen = dataset.spaced(name.probes or run.probes, len(bench.probes.paths))
    people = tuple(str(target) for target in bench.targets.identities)
    targets = built_in() if name.virtual else Targets(people, bench.target_embeddings)
    return chosen, Subjects(bench.probes.at(chosen), *targets).first(name.targets)


def protect(run: Run, bench: ranking.Bench, name: Name) -> Row:
    """Makes a protection of a bench's probes, or finds what was made of it already."""
    chosen, subjects = subjects_of(run, bench, name)
    count = len(chosen)
    make = specs.maker(name, subjects, run.batch_size, run.seed, run.presets)
    made = cells.in_parts(
        run.workdir,
        f"{name.folder}@{count}",
        count,
        name.batch or run.batch_size,
        lambda indices: {"canvases": make(indices)},
    )
    return Row(name, chosen, subjects.faces.canvases, made["canvases"])


class Measured(NamedTuple):
    """A row with what recognisers find, and PSNR and SSIM [P]."""

    row: Row
    found: xr.Dataset  # what recognisers find, a variable per measure [judge, photo, variant] bool
    quality: Mapping[str, np.ndarray]


def measured(run: Run, bench: ranking.Bench, name: Name) -> Measured:
    """A protection made and judged; every recogniser's judgement is a cell of its own."""
    return assessed(run, bench, protect(run, bench, name))


def assessed(run: Run, bench: ranking.Bench, row: Row, cell: str = "") -> Measured:
    """What was made judged, and its quality, all kept below `cell`, the row's own by default."""
    cell = cell or row.cell
    quality = partial(ranking.quality, row.clean, row.canvases)
    figures = cells.kept(run.workdir, f"{cell}/quality", quality)
    return Measured(row, judged(run, bench, cell, row), figures)


def judged(run: Run, bench: ranking.Bench, cell: str, row: Row) -> xr.Dataset:
    """What every recogniser finds, kept below `cell`: a variable per measure [judge, photo, variant] bool."""
    identities = bench.probes.identities[row.probes]
    found = [
        cells.kept(
            run.workdir,
            f"{cell}/on {judge.name}",
            partial(ranking.found, bench, judge, row.canvases, identities, row.name.targets),
        )
        for judge in bench.judges
    ]
    axes = ("judge", "photo", "variant")
    values = {m: (axes, np.stack([hits[m] for hits in found])) for m in ranking.MEASURES}
    return xr.Dataset(values, {"judge": [judge.name for judge in bench.judges]})
