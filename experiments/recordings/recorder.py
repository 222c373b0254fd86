"""An attack run on a bench's probes while probes watch it: the recording, and what became of each image."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.judging import ranking
from experiments.protection import cells, methods, runs
from experiments.protection.runs import Run
from experiments.protection.specs import Name, Subjects
from experiments.recordings.recording import Recording
from ports import zoo
from tipim_jax.analysis import probes, spectrum
from tipim_jax.analysis.probes import Probe
from tipim_jax.core import attack, batching, ensemble
from tipim_jax.core.objectives import Objective
from tipim_jax.core.types import Embed, Problem, Witnesses
from tipim_jax.errors import UserError
from tipim_jax.photos import engine

_LAST = "last target"  # the entry of a cell; no quantity of a probe

Updates = Callable[[optax.GradientTransformation], optax.GradientTransformation]


class ProbedAttack(NamedTuple):
    """What probes are made for: the attack's embedding and loss, the witnesses, the stride of those that
    make passes."""

    embed: Embed
    objective: Objective
    witnesses: tuple[Embed, ...]
    stride: int


PROBES: dict[str, Callable[[ProbedAttack], Probe]] = {
    "identity": lambda of: probes.identity(),
    "movement": lambda of: probes.movement(),
    "frequency": lambda of: probes.every(probes.frequency(), of.stride),
    "face_regions": lambda of: probes.every(probes.face_regions(), of.stride),
    "similarity": lambda of: probes.every(probes.similarity(of.witnesses), of.stride),
    "agreement": lambda of: probes.every(probes.agreement(of.witnesses), of.stride),
    "gram": lambda of: probes.every(probes.gram(of.embed, of.objective), of.stride),
    "smoothness": lambda of: probes.every(probes.smoothness(of.embed, of.objective), of.stride),
    "hessian": lambda of: probes.every(probes.hessian(of.embed, of.objective), of.stride),
    "jacobian": lambda of: probes.every(probes.jacobian(of.embed), of.stride),
}
DEFAULT = ("identity", "movement")


class Watch(NamedTuple):
    """What to watch.

    Attributes:
      name: the protection, of a method (`protections.named`).
      chosen: keys of `PROBES`.
      witnesses: recognisers that `similarity` and `agreement` look through.
      stride: of the probes that do more than look on.
      updates: what becomes of the method's updates.
      rounded: how protected images become whole levels; as the method does it by default.
    """

    name: Name
    chosen: tuple[str, ...] = DEFAULT
    witnesses: tuple[str, ...] = ()
    stride: int = 5
    updates: Updates = probes.watched
    rounded: Callable[[jax.Array, jax.Array, jax.Array], jax.Array] | None = None


class Recorder(NamedTuple):
    """Everything loaded and composed for a `Watch`; compiled programs belong to it."""

    method: methods.Method
    ensemble: ensemble.Ensemble
    chosen: dict[str, Probe]
    record: attack.Record
    rounded: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    embeds: tuple[Embed, ...]
    params: tuple[Any, ...]


@cache
def on_canvas(name: str) -> tuple[Embed, Any]:
    """(embed, params) of a recogniser, one function per name."""
    recogniser = zoo.load(name)
    return ensemble.on_canvas(recogniser), recogniser.params


@cache
def combined(surrogates: tuple[str, ...]) -> ensemble.Ensemble:
    """The surrogates as one embedding, one function per choice."""
    weights = [engine.WEIGHTS.get(name, 1.0) for name in surrogates]
    return ensemble.combine([zoo.load(name) for name in surrogates], weights)


def load(watch: Watch) -> Recorder:
    """Loads the recognisers and composes attack and probes.

    Raises:
      UserError: an unknown method, probe or recogniser.
    """
    unknown = [name for name in watch.chosen if name not in PROBES]
    if unknown:
        raise UserError(f"there is no probe {unknown[0]!r}; use {', '.join(PROBES)}")
    setting = methods.settled(watch.name.method, watch.name.setting)
    surrogates = combined(watch.name.surrogates)
    pairs = [on_canvas(name) for name in watch.witnesses]
    embeds, params = tuple(f for f, _ in pairs), tuple(p for _, p in pairs)
    probed = ProbedAttack(
        surrogates.embed, Objective(setting.attract, setting.repel), embeds, watch.stride
    )
    chosen = {name: PROBES[name](probed) for name in watch.chosen}
    method = methods.compose(
        watch.name.method, surrogates.embed, watch.name.setting, around=watch.updates
    )
    rounded = jax.jit(jax.vmap(watch.rounded or method.rounded))
    return Recorder(
        method, surrogates, chosen, probes.record(chosen.values()), rounded, embeds, params
    )


class Batch(NamedTuple):
    """What an attack is started with: arguments of `attack.run` for one batch.

    `only` [B] is the index of the one target that a single-target method got of the set; None for others,
    whose problems hold the whole set.
    """

    problem: Problem
    keys: jax.Array
    mask: jax.Array
    witnesses: Witnesses
    only: jax.Array | None

    def chosen(self, target: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
        """Indices [..., B] into the whole set, of targets as the attack counts its own."""
        return target if self.only is None else target + self.only


def batch(
    recorder: Recorder,
    canvases: np.ndarray,
    targets: np.ndarray,
    witness_targets: Sequence[np.ndarray],
    seed: int,
    size: int,
) -> Batch:
    """A padded batch of canvases [n,160,160,3]; a single-target method gets the target nearest to each.

    Args:
      recorder: of the attack.
      canvases: uint8, n ≤ size.
      targets: [T,D] as joined for the ensemble.
      witness_targets: K × [T,D_k].
      seed: of the attack's keys.
      size: of the compiled batch.
    """
    padded, mask = batching.pad(canvases, size)
    images = jnp.asarray(padded, jnp.float32)
    epsilon = jnp.asarray(recorder.method.epsilon, jnp.float32)
    problem = attack.prepare(*recorder.ensemble, images, jnp.asarray(targets), epsilon)
    goals = [jnp.broadcast_to(jnp.asarray(t), (size, *t.shape)) for t in witness_targets]
    nearest = None
    if recorder.method.single:
        nearest = jnp.argmax(jnp.einsum("bd,btd->bt", problem.embedding, problem.targets), axis=1)

        def pick(rows: jax.Array) -> jax.Array:
            return jnp.take_along_axis(rows, nearest[:, None, None], axis=1)

        problem = problem._replace(targets=pick(problem.targets))
        goals = [pick(rows) for rows in goals]
    sources = _sources(recorder.embeds, recorder.params, images)
    keys = methods.keys(padded, seed)
    witnesses = Witnesses(recorder.params, sources, tuple(goals))
    return Batch(problem, keys, jnp.asarray(mask), witnesses, nearest)


_sources = jax.jit(probes.witness_sources, static_argnums=0)


def attack_batch(recorder: Recorder, ready: Batch, record: attack.Record) -> tuple[Any, Any]:
    """`attack.run` of a batch from the start."""
    return attack.run(
        recorder.method.attack,
        recorder.ensemble.params,
        ready.keys,
        attack.initial_state(recorder.method.attack, ready.problem),
        ready.problem,
        num_steps=recorder.method.steps,
        gamma=recorder.method.gamma,
        mask=ready.mask,
        record=record,
        witnesses=ready.witnesses,
    )


def witness_targets(who: Subjects, watch: Watch) -> list[np.ndarray]:
    """The targets [T,D] as every witness embeds them.

    Raises:
      UserError: the library's virtual targets have none for one of them.
    """
    for name in watch.witnesses:
        if name not in who.targets:
            raise UserError(
                f"{watch.name.text}: the targets have no embeddings by {name}; "
                f"give --witnesses out of {', '.join(who.targets)}, or add it to --models"
            )
    return [who.targets[name] for name in watch.witnesses]


class Watched(NamedTuple):
    """A watched attack.

    Attributes:
      recording: what the probes saw, with the ranks of every judge and the quality as quantities of axes
        (image, judge) and (image,).
      subjects: whom it protected, P photos, and from what targets.
      canvases: [P,160,160,3] uint8, protected.
      targets: [P] index of the target that each was moved to at the last step.
    """

    recording: Recording
    subjects: Subjects
    canvases: np.ndarray
    targets: np.ndarray


def watched(run: Run, bench: ranking.Bench, watch: Watch, cell: str) -> Watched:
    """Records a method on the run's probes, part by part.

    Args:
      run: where parts are kept.
      bench: photos and judges; the targets of surrogates and witnesses are among its embeddings.
      watch: what.
      cell: name below which the parts are kept; it must tell this watch from any other of the run.

    Raises:
      UserError: a witness cannot embed the targets.
    """
    indices, who = runs.subjects_of(run, bench, watch.name)
    goals, size = witness_targets(who, watch), watch.name.batch or run.batch_size
    loaded = cache(lambda: load(watch))

    def make(part: np.ndarray) -> dict[str, np.ndarray]:
        recorder = loaded()
        canvases = who.faces.canvases[part]
        ready = batch(
            recorder,
            canvases,
            who.joined(watch.name.surrogates),
            goals,
            run.seed,
            size,
        )
        state, seen = attack_batch(recorder, ready, recorder.record)
        kept = probes.thinned(recorder.chosen.values(), seen)
        if "target" in kept:
            kept["target"] = np.asarray(ready.chosen(kept["target"]))
        rounded = recorder.rounded(state.image, ready.problem.image, ready.problem.epsilon)
        return {
            "canvases": np.asarray(rounded)[: len(part)],
            _LAST: np.asarray(ready.chosen(state.target))[: len(part)],
            **{k: np.moveaxis(v, 1, 0)[: len(part)] for k, v in kept.items()},
        }

    where = f"{cell}@{len(indices)}"
    arrays = cells.in_parts(run.workdir, where, len(indices), size, make)
    canvases, last = arrays.pop("canvases"), arrays.pop(_LAST)
    axes, steps = _described(watch)
    outcome = outcomes(run, bench, where, indices, canvases, watch.name.targets)
    single = methods.settled(watch.name.method, watch.name.setting).search == "fixed"
    labels = {
        "image": tuple(path.stem for path in who.faces.paths),
        "judge": tuple(judge.name for judge in bench.judges),
        "witness": watch.witnesses,
        "other": watch.witnesses,
        # Of a single-target method every image sees one target, its own: `target` says which.
        "target": ("nearest",) if single else who.target_names,
        "region": spectrum.REGIONS,
    }
    own = {k: ("image", "judge") if v.ndim == 2 else ("image",) for k, v in outcome.items()}
    made_of_it = Recording({**arrays, **outcome}, {**axes, **own}, steps, labels)
    return Watched(made_of_it, who, canvases, last)


def _described(watch: Watch) -> tuple[dict[str, tuple[str, ...]], dict[str, np.ndarray]]:
    """Axes, images first, and measured steps of the quantities of a watch; nothing is loaded."""

    def nowhere(params: Any, image: Any) -> Any:
        raise AssertionError("only described")

    objective = Objective()
    probed = ProbedAttack(nowhere, objective, (nowhere,) * len(watch.witnesses), watch.stride)
    chosen = [PROBES[name](probed) for name in watch.chosen]
    named = {k: ("image", "step", *v[2:]) for k, v in probes.axes(chosen).items()}
    setting = methods.settled(watch.name.method, watch.name.setting)
    return named, probes.steps(chosen, setting.steps)


def outcomes(
    run: Run,
    bench: ranking.Bench,
    cell: str,
    indices: np.ndarray,
    canvases: np.ndarray,
    targets: int | None,
) -> dict[str, np.ndarray]:
    """What became of each image, kept below `cell`: {measure: [P, judges] bool}, PSNR and SSIM [P].

    Rank-N-T counts the first `targets` of the bench alone.
    """
    identities = bench.probes.identities[indices]
    found = [
        cells.kept(
            run.workdir,
            f"{cell}/on {judge.name}",
            lambda judge=judge: ranking.found(  # type: ignore[misc]
                bench, judge, canvases[:, None], identities, targets
            ),
        )
        for judge in bench.judges
    ]
    quality = cells.kept(
        run.workdir,
        f"{cell}/quality",
        lambda: ranking.quality(bench.probes.canvases[indices], canvases[:, None]),
    )
    ranks = {m: np.concatenate([f[m] for f in found], axis=1) for m in ranking.MEASURES}
    return {**ranks, **quality}
