"""An attack run on a bench's probes while probes watch it: the recording, and what became of each image."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr

from experiments.judging import ranking
from experiments.protection import cells, methods, runs, specs
from experiments.protection.runs import Row, Run
from experiments.protection.specs import Name, Subjects
from ports import zoo
from tipim_jax.analysis import probes, spectrum
from tipim_jax.analysis.probes import Probe
from tipim_jax.core import attack, batching, ensemble
from tipim_jax.core.objectives import Objective
from tipim_jax.core.types import Embed, Problem, Witnesses
from tipim_jax.errors import UserError

_LAST = "last target"  # the entry of a cell; no quantity of a probe

Updates = Callable[[optax.GradientTransformation], optax.GradientTransformation]
# Name -> (embedding of the attack, its loss, embeddings of the witnesses) -> the probe.
PROBES: dict[str, Callable[[Embed, Objective, Sequence[Embed]], Probe]] = {
    "identity": lambda embed, loss, witnesses: probes.identity(),
    "movement": lambda embed, loss, witnesses: probes.movement(),
    "frequency": lambda embed, loss, witnesses: probes.frequency(),
    "face_regions": lambda embed, loss, witnesses: probes.face_regions(),
    "similarity": lambda embed, loss, witnesses: probes.similarity(witnesses),
    "agreement": lambda embed, loss, witnesses: probes.agreement(witnesses),
    "gram": lambda embed, loss, witnesses: probes.gram(embed, loss),
    "smoothness": lambda embed, loss, witnesses: probes.smoothness(embed, loss),
    "hessian": lambda embed, loss, witnesses: probes.hessian(embed, loss),
    "jacobian": lambda embed, loss, witnesses: probes.jacobian(embed),
}
DEFAULT = ("identity", "movement")  # at every step; the others at those of a stride


class Watch(NamedTuple):
    """What to watch."""

    name: Name  # the protection, of a method
    chosen: tuple[str, ...] = DEFAULT  # keys of `PROBES`
    witnesses: tuple[str, ...] = ()  # recognisers that `similarity` and `agreement` look through
    stride: int = 5  # of the probes that are not in `DEFAULT`
    updates: Updates = probes.watched  # what becomes of the method's updates
    # how protected images become whole levels; as the method does it by default
    rounded: methods.Rounding | None = None


class Recorder(NamedTuple):
    """Everything loaded and composed for a `Watch`; compiled programs belong to it."""

    method: methods.Method
    ensemble: ensemble.Ensemble
    chosen: tuple[Probe, ...]
    record: attack.Record
    embeds: tuple[Embed, ...]
    params: tuple[Any, ...]


@cache
def on_canvas(name: str) -> tuple[Embed, Any]:
    """(embed, params) of a recogniser, one function per name."""
    recogniser = zoo.load(name)
    return ensemble.on_canvas(recogniser), recogniser.params


def load(watch: Watch) -> Recorder:
    """Loads the recognisers and composes attack and probes."""
    if unknown := [name for name in watch.chosen if name not in PROBES]:
        raise UserError(f"there is no probe {unknown[0]!r}; use {', '.join(PROBES)}")
    name = watch.name
    setting = methods.settled(name.method, name.setting)
    surrogates, seen = specs.combined(name.surrogates), [on_canvas(w) for w in watch.witnesses]
    embeds, params = tuple(f for f, _ in seen), tuple(p for _, p in seen)
    loss = Objective(setting.attract, setting.repel)
    chosen = []
    for text in watch.chosen:
        probe = PROBES[text](surrogates.embed, loss, embeds)
        chosen.append(probe if text in DEFAULT else probes.every(probe, watch.stride))
    method = methods.compose(name.method, surrogates.embed, name.setting, around=watch.updates)
    return Recorder(method, surrogates, tuple(chosen), probes.record(chosen), embeds, params)


class Batch(NamedTuple):
    """What an attack is started with. `only` [B] is the index of the one target that a single-target method got
    of the set; None for others, whose problems hold the whole set."""

    problem: Problem
    keys: jax.Array
    mask: jax.Array
    witnesses: Witnesses
    only: jax.Array | None

    def chosen(self, target: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        """Indices [..., B] into the whole set, of targets as the attack counts its own."""
        return target if self.only is None else target + self.only


def batch(
    recorder: Recorder, watch: Watch, who: Subjects, part: np.ndarray, seed: int, size: int
) -> Batch:
    """A padded batch of some of the subjects, indices [n] ≤ size; a single-target method gets the target
    nearest to each."""
    padded, mask = batching.pad(who.faces.canvases[part], size)
    images = jnp.asarray(padded, jnp.float32)
    epsilon = jnp.asarray(recorder.method.epsilon, jnp.float32)
    targets = jnp.asarray(who.joined(watch.name.surrogates))
    problem = attack.prepare(*recorder.ensemble, images, targets, epsilon)
    goals = [jnp.broadcast_to(t, (size, *t.shape)) for t in witness_targets(who, watch)]
    nearest = None
    if recorder.method.single:
        nearest = jnp.argmax(jnp.einsum("bd,btd->bt", problem.embedding, problem.targets), axis=1)

        def pick(rows: jax.Array) -> jax.Array:
            return jnp.take_along_axis(rows, nearest[:, None, None], axis=1)

        problem = problem._replace(targets=pick(problem.targets))
        goals = [pick(rows) for rows in goals]
    sources = _sources(recorder.embeds, recorder.params, images)
    witnesses = Witnesses(recorder.params, sources, tuple(goals))
    return Batch(problem, methods.keys(padded, seed), jnp.asarray(mask), witnesses, nearest)


_sources = jax.jit(probes.witness_sources, static_argnums=0)


def attack_batch(recorder: Recorder, ready: Batch) -> tuple[Any, Any]:
    """The attack of a batch, watched: its end, and what the probes saw."""
    watching = recorder.record, ready.witnesses
    return methods.started(
        recorder.method, recorder.ensemble, ready.keys, ready.problem, ready.mask, *watching
    )


def witness_targets(who: Subjects, watch: Watch) -> list[np.ndarray]:
    """The targets [T,D] as every witness embeds them; the library's virtual ones know few."""
    for name in watch.witnesses:
        if name not in who.targets:
            raise UserError(
                f"{watch.name.text}: the targets have no embeddings by {name}; "
                f"give --witnesses out of {', '.join(who.targets)}, or add it to --models"
            )
    return [who.targets[name] for name in watch.witnesses]


class Watched(NamedTuple):
    """A watched attack."""

    recording: xr.Dataset  # what the probes saw, the ranks of every judge, and the quality
    subjects: Subjects  # whom it protected, P photos, and from what targets
    canvases: np.ndarray  # [P,160,160,3] uint8, protected
    targets: np.ndarray  # [P] index of the target that each was moved to at the last step


def watched(run: Run, bench: ranking.Bench, watch: Watch, cell: str) -> Watched:
    """Records a method on the run's probes, part by part.

    The targets of surrogates and witnesses are among the bench's embeddings. Parts are kept below `cell`, which
    must tell this watch from any other of the run.
    """
    indices, who = runs.subjects_of(run, bench, watch.name)
    size, recorder = watch.name.batch or run.batch_size, load(watch)

    def make(part: np.ndarray) -> dict[str, np.ndarray]:
        ready = batch(recorder, watch, who, part, run.seed, size)
        state, seen = attack_batch(recorder, ready)
        kept = probes.thinned(recorder.chosen, seen)
        if "target" in kept:
            kept["target"] = np.asarray(ready.chosen(kept["target"]))
        how = watch.rounded or recorder.method.rounded
        return {
            "canvases": np.asarray(methods.rounded(how, state.image, ready.problem))[: len(part)],
            _LAST: np.asarray(ready.chosen(state.target))[: len(part)],
            **{k: np.moveaxis(v, 1, 0)[: len(part)] for k, v in kept.items()},
        }

    where = f"{cell}@{len(indices)}"
    arrays = cells.in_parts(run.workdir, where, len(indices), size, make)
    canvases, last = arrays.pop("canvases"), arrays.pop(_LAST)
    row = Row(watch.name, indices, who.faces.canvases, canvases[:, None])
    outcome = runs.assessed(run, bench, row, where)
    hits = outcome.found.isel(variant=0)
    values: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        **{
            quantity: (("image", "step" if probe.stride == 1 else "look", *axes), arrays[quantity])
            for probe in recorder.chosen
            for quantity, axes in probe.axes.items()
        },
        **{str(m): (("image", "judge"), found.values.T) for m, found in hits.items()},
        **{measure: (("image",), figures) for measure, figures in outcome.quality.items()},
    }
    steps = np.arange(recorder.method.steps)
    # Of a single-target method every image sees one target, its own: `target` says which.
    targets = ["nearest"] if recorder.method.single else list(who.target_names)
    names = {
        "image": [path.stem for path in who.faces.paths],
        "step": steps,
        "look": steps[:: watch.stride],
        "judge": hits["judge"].values,
        "witness": list(watch.witnesses),
        "other_witness": list(watch.witnesses),
        "targets": targets,
        "other_targets": targets,
        "region": list(spectrum.REGIONS),
    }
    used = {axis for axes, _ in values.values() for axis in axes}
    coordinates = {axis: places for axis, places in names.items() if axis in used}
    return Watched(xr.Dataset(values, coordinates), who, canvases, last)
