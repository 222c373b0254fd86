"""Times implementations of TIP-IM side by side: seconds per face, memory, arithmetic rate, protection.

    python -m experiments.benchmark --workdir=results/benchmark
    python -m experiments.benchmark --models=mobilefacenet_casia --targets=10 --batches=1 \
        --data_dir=LFW --protocol=protocol.json --workdir=results/benchmark

The implementations are those of `experiments.speed.contenders`: (a) PyTorch with the released structure, (b)
PyTorch, frozen weights, batched; (r) JAX with the released structure; (c) ours, exhaustive search; (d) ours,
default search. They are timed on seeded random images for 1 and for 1 + k steps, in turns, and the time of 50
steps follows from the medians. Peak memory is what the process grows by during a run beyond what it held
before. With --data_dir every implementation also protects --num_probes photos of the protocol, and the
recognisers say what became of them. Finished cells are kept in --workdir with what they were made of, and
made anew where that has changed: weights, photos, judges. A network whose weights are not here gets random
ones (`irse50` always): times do not depend on them. (a) and (b) need the extra `parity`.
--quick times (d) beside (r) on one small network, 1 and 1 + k steps.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.data import dataset
from experiments.judging import ranking
from experiments.launching import launch
from experiments.protection import runs
from experiments.reporting import plots, results
from experiments.speed import contenders, cost, machine
from experiments.speed.contenders import IMPLEMENTATIONS, SETTING, Attempt, Inputs, Model
from experiments.speed.cost import Passes

_TARGETS = flags.DEFINE_list("targets", ["1", "5", "10", "20"], "Numbers of targets T.")
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "32"], "Images at once.")
_WANTED = flags.DEFINE_string("implementations", "abcd", "Which of (a) to (d), and (r).")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed turns of each implementation.", lower_bound=1)
_EXTRA_STEPS = flags.DEFINE_integer(
    "extra_steps", 3, "k; fewer where a step takes long.", lower_bound=1
)
flags.set_default(launch.NUM_PROBES, 20)
NAMES = ["mobilefacenet_casia", "irse50", "sface+dlib"]  # of --models, unless some are given

LONG = 20.0  # seconds of one step beyond which a single extra step is timed
LATER = {"d": 8}  # (d) searches in its first step alone: so many more of the short ones after it
TOGETHER = 10  # photos that (b), (c) and (d) protect at once


class Timing(NamedTuple):
    """seconds: of 50 steps on the whole batch; peak: bytes."""

    seconds: float
    peak: int


def timings(attempts: Mapping[str, Attempt], rounds: int, extra: int) -> dict[str, Timing]:
    """Times implementations in turns."""
    lengths, peaks = {}, {}
    for name, attempt in attempts.items():
        attempt(1)  # compiles
        started = time.perf_counter()
        peaks[name] = machine.growth(partial(attempt, 1))
        long = time.perf_counter() - started > LONG
        lengths[name] = 1 + (1 if long else extra * LATER.get(name, 1))
        attempt(lengths[name])
    calls = {
        (name, steps): partial(attempt, steps)
        for name, attempt in attempts.items()
        for steps in (1, lengths[name])
    }
    times = {key: float(np.median(t)) for key, t in machine.in_turns(calls, rounds).items()}
    timed = {}
    for name, length in lengths.items():
        one = times[name, 1]
        each = max(times[name, length] - one, 0.0) / (length - 1)
        timed[name] = Timing(one + (SETTING.steps - 1) * each, peaks[name])
    return timed


def cell(
    used: Model, each: Passes, wanted: str, rounds: int, extra: int, targets: int, batch: int
) -> list[dict[str, Any]]:
    """One table row per wanted implementation; (a) and (r) only with their one image at a time."""
    given = contenders.inputs(used, targets, batch)
    attempts = {
        name: contenders.contender(name, used, given)
        for name in wanted
        if batch == 1 or name not in contenders.ONE_BY_ONE
    }
    rows = []
    for name, timed in timings(attempts, rounds, extra).items():
        made, seconds = contenders.passes(name, targets), timed.seconds / batch
        rows.append(
            {
                "model": used.name,
                "T": targets,
                "batch": batch,
                "implementation": IMPLEMENTATIONS[name],
                "s/face": seconds,
                "peak MiB": round(timed.peak / 2**20),
                "passes/step": sum(made) / SETTING.steps,
                "GFLOP/s": cost.operations(made, each) / seconds / 1e9,
            }
        )
    return rows


def protection(used: Model, bench: ranking.Bench, name: str) -> dict[str, Any]:
    """What recognisers find of the photos of a bench that one implementation protected, in percent."""
    clean = bench.probes.canvases.astype(np.float32)
    goals = np.concatenate(
        [
            np.sqrt(weight / sum(used.weights)) * bench.target_embeddings[part[0].name]
            for weight, part in zip(used.weights, used.parts)
        ],
        axis=1,
    )
    made = np.concatenate(
        [
            contenders.contender(name, used, Inputs(clean[i : i + TOGETHER], goals))(SETTING.steps)
            for i in range(0, len(clean), TOGETHER)
        ]
    )
    protected = np.rint(made).astype(np.uint8)[:, None]
    row: dict[str, Any] = {
        "model": used.name,
        "implementation": IMPLEMENTATIONS[name],
        "probes": len(clean),
        "PSNR": float(ranking.quality(bench.probes.canvases, protected)["PSNR"].mean()),
    }
    for judge in bench.judges:
        seen = ranking.found(bench, judge, protected, bench.probes.identities)
        for kind in (ranking.T, ranking.UT):
            row[f"Rank-1-{kind} {judge.name}"] = round(100 * float(seen[f"Rank-1-{kind}"].mean()))
    return row


def curves(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, plots.Line]]:
    """Model -> implementation -> seconds per face against targets, with the batch size that suits it best."""
    best: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        times = best.setdefault(row["model"], {}).setdefault(row["implementation"], {})
        times[row["T"]] = min(times.get(row["T"], np.inf), row["s/face"])
    return {
        model: {label: plots.Line(*zip(*sorted(times.items()))) for label, times in labels.items()}
        for model, labels in best.items()
    }


def speedup(rows: Sequence[dict[str, Any]], name: str, targets: int) -> str:
    """How many times faster (d) is at its best batch size than the first of the others at its own."""
    best = {n: dict(zip(line.x, line.y))[targets] for n, line in curves(rows)[name].items()}
    ours = best.pop(IMPLEMENTATIONS["d"])
    than, theirs = next(iter(best.items()))
    return f"{name}: {IMPLEMENTATIONS['d']} {theirs / ours:.1f} times faster than {than}"


def compare_protection(folder: Path, names: Sequence[str]) -> None:
    """The part of --data_dir: every implementation on the same photos."""
    photos, count = launch.protocol(), launch.NUM_PROBES.value
    bench = ranking.bench(dataset.thinned(photos, count), None, Path(launch.CACHE.value))
    rows = []
    judges = {judge.name: runs.digest(judge.name) for judge in bench.judges}
    for name, implementation in product(names, _WANTED.value):
        path = folder / f"protection-{name}-{implementation}-{count}.json"
        used = contenders.model(name)
        made_of = {"weights": used.digest, "photos": photos.digest, "judges": judges}
        rows.append(results.kept(path, made_of, partial(protection, used, bench, implementation)))
    print(results.save(folder, "protection", rows))


def main(_: list[str]) -> None:
    quick = launch.QUICK.value
    names = ["dlib"] if quick else launch.MODELS.value or NAMES
    counts = [2] if quick else launch.numbers("targets", _TARGETS.value)
    batches = [1] if quick else launch.numbers("batches", _BATCHES.value)
    rounds, extra = (1, 1) if quick else (_ROUNDS.value, _EXTRA_STEPS.value)
    wanted = "rd" if quick else _WANTED.value
    contenders.check_wanted(wanted)
    config = {**SETTING._asdict(), "rounds": rounds, "extra_steps": extra}
    folder = launch.folder("benchmark", config)
    usual = 10 if 10 in counts else counts[-1]
    rows, bounds = [], []
    for name in names:
        used = contenders.model(name)
        each = cost.flops(used.combined)
        for count, batch in product(counts, batches):
            rows += results.kept(
                folder / f"cell-{name}-T{count}-B{batch}-{wanted}.json",
                {"weights": used.digest},
                partial(cell, used, each, wanted, rounds, extra, count, batch),
            )
        bounds += cost.capacity(name, contenders.passes("d", usual), each, {})
    compared = names if {"a", "c"} <= set(wanted) else []
    record = results.kept(
        folder / "notes.json",
        {name: contenders.model(name).digest for name in compared},
        lambda: {
            "matrix product GFLOP/s": machine.matrix_rate(),
            "same pixels after 5 steps": {
                name: contenders.first_steps(contenders.model(name)) for name in compared
            },
        },
    )
    print(results.save(folder, "benchmark", rows, **record, machine=results.machine()))
    print(results.save(folder, "capacity", bounds))
    if not quick:
        axes = plots.Axes("targets", "seconds per face", log=True)
        results.write(folder / "benchmark.png", plots.panels(curves(rows), axes))
    if launch.DATA_DIR.value and not quick:
        compare_protection(folder, names)
    print(json.dumps(record))
    if "d" in wanted and len({row["implementation"] for row in rows}) > 1:
        print(speedup(rows, names[0], usual))


if __name__ == "__main__":
    launch.run(main)
