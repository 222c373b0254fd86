"""Times four implementations of TIP-IM side by side: seconds per face, memory, arithmetic rate.

    python -m experiments.benchmark --workdir=results/benchmark
    python -m experiments.benchmark --devices=8 --workdir=results/sharding

(a) PyTorch with the released structure: batch 1, weights that require gradients, T retained backward
passes, T candidate forwards; (b) PyTorch, frozen weights, batched; (c) ours, exhaustive search; (d) ours,
the default search. 50 ℓ∞ steps of α = 1.5 in ε = 12 with random affine views, on seeded random images.
Every implementation is timed for 1 and for 1 + k steps, in turns, and its time for 50 follows from the
medians. Peak memory is what the process grows by during a run beyond the memory it held before.
Finished cells are kept in --workdir. A network whose weights are not here gets random ones (`irse50`
always): times do not depend on them. --devices simulates that many devices and checks that sharding the
batch changes no image and adds no collective to the compiled step. Needs the extra `parity`.
--quick times (a) and (d) on one small network, 1 and 2 steps.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax.sharding import NamedSharding, PartitionSpec

from experiments import methods, results
from ports import architectures, random_weights, zoo
from ports.architectures import ARCHITECTURES
from ports.card import OwnFile
from ports.convert import export
from tipim_jax import attack, ensemble, search
from tipim_jax.geometry import CANVAS_SIZE
from tipim_jax.photos.engine import WEIGHTS
from tipim_jax.types import Recogniser

_MODELS = flags.DEFINE_list(
    "models", ["mobilefacenet_casia", "irse50", "sface+dlib"], "Surrogates; + joins several."
)
_TARGETS = flags.DEFINE_list("targets", ["1", "5", "10", "20"], "Numbers of targets T.")
_BATCHES = flags.DEFINE_list("batches", ["1", "8", "32"], "Images at once.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed turns of each implementation.")
_EXTRA_STEPS = flags.DEFINE_integer("extra_steps", 3, "k; fewer where a step takes long.")
_DEVICES = flags.DEFINE_integer("devices", 0, "Simulated devices for the sharding check.")
_WORKDIR = flags.DEFINE_string("workdir", "results/benchmark", "Where results go.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run.")

SETTING = methods.Setting()
# Architecture of a model that need not be registered here.
NETWORKS = {"mobilefacenet_casia": "mobilefacenet_112x96_128", "irse50": "irse50"}
LONG = 20.0  # seconds of one step beyond which a single extra step is timed


class Model(NamedTuple):
    """A surrogate or several: for JAX, and per recogniser what its PyTorch twin is filled with."""

    name: str
    combined: ensemble.Ensemble
    weights: list[float]
    parts: list[tuple[Recogniser, str, dict[str, np.ndarray]]]  # architecture, source tensors


def model(name: str) -> Model:
    """Loads `a+b`; networks that are not here get random weights."""
    parts = []
    for part in name.split("+"):
        try:
            card, network = zoo.network(part)
        except ValueError:
            if part not in NETWORKS:
                raise
            card = zoo.card(part, NETWORKS[part], OwnFile("random weights", ""), "none")
            network = random_weights.network(architectures.abstract(NETWORKS[part]))
        tensors = export(network, ARCHITECTURES[card.architecture].table)
        parts.append((zoo.ready(card, network), card.architecture, tensors))
    weights = [WEIGHTS.get(part, 1.0) for part in name.split("+")]
    return Model(name, ensemble.combine([part[0] for part in parts], weights), weights, parts)


class Inputs(NamedTuple):
    """images: [B,160,160,3]; targets: [T,D] unit norm."""

    images: np.ndarray
    targets: np.ndarray


def inputs(used: Model, count: int, batch: int) -> Inputs:
    """Seeded images, smooth enough to look like photos to a network, and targets of others like them."""
    random = np.random.default_rng(0)
    coarse = random.uniform(0, 255, (batch + count, 20, 20, 3)).astype(np.float32)
    images = np.asarray(
        jax.image.resize(coarse, (len(coarse), CANVAS_SIZE, CANVAS_SIZE, 3), "linear")
    )
    embed = jax.jit(used.combined.embed)
    targets = np.stack([embed(used.combined.params, image) for image in images[batch:]])
    return Inputs(np.rint(images[:batch]), targets)


Attempt = Callable[[int], np.ndarray]  # steps -> protected images [B,160,160,3]


def ours(used: Model, given: Inputs, strategy: str, *, views: bool = True) -> Attempt:
    """A JAX implementation; its inputs lie on the device before it is timed."""
    setting = SETTING._replace(search=strategy, diversity="affine" if views else "none")
    composed = methods.compose("tip_im", used.combined.embed, setting).attack
    problem = attack.prepare(
        *used.combined, given.images, given.targets, jnp.asarray(SETTING.epsilon)
    )
    keys = jax.random.split(jax.random.key(0), len(given.images))

    def attempt(steps: int) -> np.ndarray:
        state = attack.initial_state(composed, problem)
        state, _ = attack.run(
            *(composed, used.combined.params, keys, state, problem),
            num_steps=steps,
            record=attack.nothing,
        )
        return np.asarray(state.image)

    return attempt


def theirs(used: Model, given: Inputs, *, structure: str, views: bool = True) -> Attempt:
    """A PyTorch implementation: `structure` is "released" or "batched"."""
    import torch

    from experiments import torch_tip_im
    from tests.parity.torch_models import REFERENCES

    embeds = []
    for recogniser, architecture, tensors in used.parts:
        reference = REFERENCES[architecture]()
        reference.load(tensors)
        reference.module.requires_grad_(structure == "released")
        usual = ARCHITECTURES[architecture]
        embeds.append(
            torch_tip_im.on_canvas(
                *(reference.module, recogniser, usual.mean, usual.scale, usual.channels == "BGR")
            )
        )
    images = torch.from_numpy(given.images.transpose(0, 3, 1, 2).copy())
    targets = torch.tensor(given.targets)

    def attempt(steps: int) -> np.ndarray:
        made = getattr(torch_tip_im, structure)(
            *(torch_tip_im.joined(embeds, used.weights), images, targets),
            epsilon=SETTING.epsilon,
            alpha=SETTING.alpha,
            steps=steps,
            views=torch.Generator().manual_seed(0) if views else None,
        )
        return made.detach().numpy().transpose(0, 2, 3, 1)

    return attempt


def passes(name: str, targets: int, steps: int) -> tuple[float, float]:
    """Forward passes and pull-backs of one image over all steps (the table of `tipim_jax.search`)."""
    if name == "d":
        return steps + search.VIEWS, steps + search.VIEWS * targets
    return steps * (1 + targets), steps * targets


class Timing(NamedTuple):
    """seconds: of 50 steps on the whole batch; peak: bytes."""

    seconds: float
    peak: int


def timings(attempts: dict[str, Attempt], rounds: int, extra: int) -> dict[str, Timing]:
    """Times implementations in turns."""
    lengths, peaks, times = {}, {}, {}
    for name, attempt in attempts.items():
        attempt(1)  # compiles
        _reset_peak()
        held, started = _memory("VmRSS"), time.perf_counter()
        attempt(1)
        peaks[name] = max(_memory("VmHWM") - held, 0)
        lengths[name] = 1 + (1 if time.perf_counter() - started > LONG else extra)
        attempt(lengths[name])
        times[name] = np.zeros((rounds, 2))
    for turn, name in product(range(rounds), attempts):
        for column, steps in enumerate((1, lengths[name])):
            started = time.perf_counter()
            attempts[name](steps)
            times[name][turn, column] = time.perf_counter() - started
    timed = {}
    for name, (one, more) in ((name, np.median(t, 0)) for name, t in times.items()):
        each = max(more - one, 0.0) / (lengths[name] - 1)
        timed[name] = Timing(float(one + (SETTING.steps - 1) * each), peaks[name])
    return timed


def _memory(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def flops(used: Model) -> tuple[float, float]:
    """Floating-point operations of one forward pass and of one pull-back, by XLA's cost analysis."""
    canvas = jnp.zeros((CANVAS_SIZE, CANVAS_SIZE, 3))
    cotangent = jnp.zeros(used.combined.embed(used.combined.params, canvas).shape)

    def both(params: Any, canvas: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(partial(used.combined.embed, params), canvas)[1](cotangent)[0]

    forward = jax.jit(used.combined.embed).lower(used.combined.params, canvas).compile()
    whole = jax.jit(both).lower(used.combined.params, canvas, cotangent).compile()
    one, two = (float(_known(c.cost_analysis())["flops"]) for c in (forward, whole))
    return one, two - one


def _known(found: Any) -> Any:
    """What XLA tells of a compiled program; every backend that this runs on does."""
    assert found is not None
    return found


def matrix_rate(rounds: int = 9, size: int = 2048) -> float:
    """The machine's float32 matrix-product rate, GFLOP/s: the better of JAX's and PyTorch's median."""
    import torch

    random = np.random.default_rng(0)
    a = random.normal(size=(size, size)).astype(np.float32)
    x, t = jnp.asarray(a), torch.from_numpy(a)
    product_ = jax.jit(jnp.matmul)
    calls: list[Callable[[], Any]] = [
        lambda: product_(x, x).block_until_ready(),
        lambda: torch.mm(t, t),
    ]
    times = np.zeros((rounds, len(calls)))
    for turn in range(-1, rounds):
        for column, call in enumerate(calls):
            started = time.perf_counter()
            call()
            if turn >= 0:
                times[turn, column] = time.perf_counter() - started
    return float(2 * size**3 / np.median(times, 0).min() / 1e9)


IMPLEMENTATIONS = {
    "a": "PyTorch, released structure",
    "b": "PyTorch, frozen and batched",
    "c": "ours, exhaustive",
    "d": "ours, default",
}


def cell(
    used: Model,
    targets: int,
    batch: int,
    rounds: int,
    extra: int,
    per_pass: tuple[float, float],
    wanted: str = "abcd",
) -> list[dict[str, Any]]:
    """One table row per wanted implementation; (a) only with its one image at a time."""
    given = inputs(used, targets, batch)
    made: dict[str, Callable[[], Attempt]] = {
        "a": lambda: theirs(used, given, structure="released"),
        "b": lambda: theirs(used, given, structure="batched"),
        "c": lambda: ours(used, given, "exhaustive"),
        "d": lambda: ours(used, given, "default"),
    }
    attempts = {name: made[name]() for name in wanted if batch == 1 or name != "a"}
    rows = []
    for name, timed in timings(attempts, rounds, extra).items():
        forward, back = passes(name, targets, SETTING.steps)
        seconds = timed.seconds / batch
        rows.append(
            {
                "model": used.name,
                "T": targets,
                "batch": batch,
                "implementation": IMPLEMENTATIONS[name],
                "s/face": seconds,
                "peak MiB": round(timed.peak / 2**20),
                "passes/step": (forward + back) / SETTING.steps,
                "GFLOP/s": (forward * per_pass[0] + back * per_pass[1]) / seconds / 1e9,
            }
        )
    return rows


def first_steps(used: Model, targets: int = 10, steps: int = 5) -> float:
    """Share of pixels on which (a) and (c) agree after some steps without random views.

    Sign steps make a pixel whose gradient rounds to the other side of zero differ by whole steps.
    """
    given = inputs(used, targets, 1)
    released = theirs(used, given, structure="released", views=False)(steps)
    exhaustive = ours(used, given, "exhaustive", views=False)(steps)
    return float(np.mean(np.abs(released - exhaustive) < 1e-3))


COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def sharding(used: Model, devices: int, steps: int = 3) -> list[dict[str, Any]]:
    """Whether sharding the batch changes images, and which collectives the compiled steps contain."""
    given = inputs(used, 10, devices)
    mesh = jax.make_mesh((devices,), ("images",), axis_types=(jax.sharding.AxisType.Auto,))
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("images",), ()))
    composed = methods.compose("tip_im", used.combined.embed, SETTING).attack
    problem = attack.prepare(
        *used.combined, given.images, given.targets, jnp.asarray(SETTING.epsilon)
    )
    keys = jax.random.split(jax.random.key(0), devices)
    params = used.combined.params
    rows = []
    for gamma in (0.0, 1.0):
        run = partial(attack.run, composed, num_steps=steps, gamma=gamma, record=attack.nothing)
        alone, _ = run(params, keys, attack.initial_state(composed, problem), problem)
        shared = (
            jax.device_put(params, whole),
            *jax.device_put((keys, attack.initial_state(composed, problem), problem), split),
        )
        lowered = attack.run.lower(
            composed, *shared, num_steps=steps, gamma=gamma, record=attack.nothing
        )
        text = _known(lowered.compile().as_text())
        sharded, _ = run(*shared)
        difference = np.abs(np.asarray(sharded.image) - np.asarray(alone.image))
        rows.append(
            {
                "model": used.name,
                "devices": devices,
                "γ": gamma,
                "largest difference": float(difference.max()),
                "collectives": ", ".join(c for c in COLLECTIVES if c in text) or "none",
            }
        )
    return rows


# Peak dense bfloat16 rate, FLOP/s, as the makers state it (H100 SXM without sparsity; TPU v5e).
ACCELERATORS = {"H100": 989e12, "TPU v5e": 197e12}
UTILISATION = 0.4


def roofline(used: Model, targets: int, per_pass: tuple[float, float]) -> list[dict[str, Any]]:
    """Faces per second that the arithmetic allows at a utilisation of 40 %."""
    forward, back = passes("d", targets, SETTING.steps)
    per_face = forward * per_pass[0] + back * per_pass[1]
    return [
        {
            "model": used.name,
            "GFLOP forward": per_pass[0] / 1e9,
            "GFLOP pull-back": per_pass[1] / 1e9,
            "forward passes": forward,
            "pull-backs": back,
            "GFLOP/face": per_face / 1e9,
            "accelerator": name,
            "TFLOP/s at 40 %": UTILISATION * peak / 1e12,
            "faces/s": UTILISATION * peak / per_face,
        }
        for name, peak in ACCELERATORS.items()
    ]


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds per face against the number of targets, a panel per model."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = pyplot.subplots(1, len(names), figsize=(4.2 * len(names), 3.6), squeeze=False)
    for axis, name in zip(axes[0], names):
        for label in IMPLEMENTATIONS.values():
            mine = [r for r in rows if r["model"] == name and r["implementation"] == label]
            best: dict[int, float] = {}
            for row in mine:  # the batch size that suits the implementation best
                best[row["T"]] = min(best.get(row["T"], np.inf), row["s/face"])
            axis.plot(sorted(best), [best[t] for t in sorted(best)], marker="o", label=label)
        axis.set(title=name, xlabel="targets", ylabel="seconds per face", yscale="log")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def speedup(rows: Iterable[dict[str, Any]], name: str, targets: int) -> float:
    """How many times faster (d) at its best batch size is than (a)."""
    best = {
        label: min(
            row["s/face"]
            for row in rows
            if (row["model"], row["T"], row["implementation"]) == (name, targets, label)
        )
        for label in (IMPLEMENTATIONS["a"], IMPLEMENTATIONS["d"])
    }
    return best[IMPLEMENTATIONS["a"]] / best[IMPLEMENTATIONS["d"]]


def check_sharding(devices: int, names: Sequence[str], workdir: str) -> None:
    """Main of --devices."""
    jax.config.update("jax_num_cpu_devices", devices)
    folder = results.prepare(workdir, {"devices": devices, "models": list(names)})
    rows = [row for name in names for row in sharding(model(name), devices)]
    print(results.save(folder, "sharding", rows, machine=results.machine()))
    worst = max(row["largest difference"] for row in rows)
    print(f"{devices} devices: largest difference {worst:g} levels")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    quick = _QUICK.value
    names = ["mobilefacenet_casia"] if quick else _MODELS.value
    if _DEVICES.value:
        return check_sharding(_DEVICES.value, names, _WORKDIR.value)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise app.UsageError("PyTorch is absent; run pip install -e .[parity]") from None
    counts = [10] if quick else [int(t) for t in _TARGETS.value]
    batches = [1] if quick else [int(b) for b in _BATCHES.value]
    rounds, extra = (1, 1) if quick else (_ROUNDS.value, _EXTRA_STEPS.value)
    folder = results.prepare(
        _WORKDIR.value, {**SETTING._asdict(), "rounds": rounds, "extra_steps": extra}
    )
    rows, bounds = [], []
    for name in names:
        used = model(name)
        per_pass = flops(used)
        for count, batch in product(counts, batches):
            kept = folder / f"cell-{name}-T{count}-B{batch}.json"
            if not kept.exists():
                wanted = "ad" if quick else "abcd"
                made = cell(used, count, batch, rounds, extra, per_pass, wanted)
                results.write(kept, json.dumps(made, indent=1) + "\n")
            rows += json.loads(kept.read_text(encoding="utf-8"))
        bounds += roofline(used, counts[-1] if 10 not in counts else 10, per_pass)
    notes = folder / "notes.json"
    if not notes.exists():
        agreement = {} if quick else {name: first_steps(model(name)) for name in names}
        record = {"matrix product GFLOP/s": matrix_rate(), "same pixels after 5 steps": agreement}
        results.write(notes, json.dumps(record, indent=1) + "\n")
    record = json.loads(notes.read_text(encoding="utf-8"))
    print(results.save(folder, "benchmark", rows, **record, machine=results.machine()))
    print(results.save(folder, "roofline", bounds))
    if not quick:
        plot(rows, folder / "benchmark.png")
    print(json.dumps(record))
    factor = speedup(rows, names[0], counts[-1] if 10 not in counts else 10)
    print(f"{names[0]}: ours default {factor:.1f} times faster than the released structure")


if __name__ == "__main__":
    app.run(main)
