"""Which layout convolutions like, and what a step of the attack costs beside its network passes.

    python -m experiments.layouts --workdir=results/layouts

The first table times the convolutions that face networks are made of, and their pull-backs to the image, in
NHWC, which the ports are written in, and in NCHW, PyTorch's; the second times the passes of whole networks
and the steps of an attack on them, whose difference is what views, updates and projection take; the third
says which operations of the compiled passes the time goes to. All in turns, medians; GFLOP/s stand beside
the machine's matrix-product rate in the same run. On GPU and TPU XLA assigns layouts itself, whatever the
program says (`experiments.ahead` shows which). Networks that are not here get random weights. Needs the
extra `parity`. --quick times one small network and the smallest convolution.
"""

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import contenders, entry, machine, methods, results
from experiments.contenders import SETTING, Model
from experiments.convolutions import SHAPES, Shape, variants, with_pull_back
from tipim_jax import attack

_MODELS = flags.DEFINE_list("models", ["mobilefacenet_casia", "sface", "dlib", "irse50"], "Which.")
_BATCH = flags.DEFINE_integer("batch", 8, "Images at once.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed turns.")
_WORKDIR = flags.DEFINE_string("workdir", "results/layouts", "Where results go.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run.")

STEPS = 6  # of an attack, beyond the first
MOST_KINDS = 6  # of operations in a table


def medians(calls: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, float]:
    """Seconds of each call, in turns after a first one that does not count."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def compare(shape: Shape, batch: int, rounds: int) -> dict[str, Any]:
    """A row: milliseconds an image of the convolution and of its pull-back, in every layout."""
    random = np.random.default_rng(0)
    images = random.normal(size=(batch, shape.size, shape.size, shape.inputs)).astype(np.float32)
    fan_in = (shape.kernel, shape.kernel, shape.inputs // shape.groups)
    kernel = random.normal(size=(*fan_in, shape.outputs)).astype(np.float32)
    calls: dict[Any, Callable[[], Any]] = {}
    for layout, function in variants(shape).items():
        swapped = layout == "NCHW"
        x = jnp.asarray(images.transpose(0, 3, 1, 2) if swapped else images)
        k = jnp.asarray(kernel.transpose(3, 2, 0, 1) if swapped else kernel)
        c = function(x, k)
        calls[layout, "forward"] = partial(jax.jit(function), x, k)
        # A convolution is linear: its pull-back needs no forward pass, and none is compiled.
        calls[layout, "pull-back"] = partial(jax.jit(with_pull_back(function)), x, k, c)
    timed = medians(calls, rounds)
    row: dict[str, Any] = {"convolution": shape.name, "GFLOP forward": shape.flops / 1e9}
    for (layout, part), seconds in timed.items():
        row[f"{layout} {part}, ms"] = 1e3 * seconds / batch
    for part in ("forward", "pull-back"):
        row[f"ports {part}, GFLOP/s"] = shape.flops * batch / timed["ports", part] / 1e9
    return row


def steps(used: Model, batch: int, rounds: int) -> dict[str, Any]:
    """A row: milliseconds an image of a forward pass, of both passes, and of a step of the attack."""
    given = contenders.inputs(used, 1, batch)
    images, embed = jnp.asarray(given.images), used.combined.embed
    forward = jax.vmap(lambda image, params: embed(params, image), (0, None))
    params = used.combined.params
    cotangent = jnp.ones_like(forward(images, params))
    # A step of one forward pass and one pull-back, as all but the first are by default.
    method = methods.compose("tip_im", embed, SETTING._replace(search="nearest")).attack
    problem = attack.prepare(embed, params, images, given.targets, jnp.asarray(SETTING.epsilon))
    keys = jax.random.split(jax.random.key(0), batch)

    def attacked(count: int) -> Any:
        state = attack.initial_state(method, problem)
        return attack.run(
            method, params, keys, state, problem, num_steps=count, record=attack.nothing
        )

    timed = medians(
        {
            "forward": partial(jax.jit(forward), images, params),
            "both": partial(jax.jit(with_pull_back(forward)), images, params, cotangent),
            "one": partial(attacked, 1),
            "more": partial(attacked, 1 + STEPS),
        },
        rounds,
    )
    one, back = machine.flops(used.combined)
    step = (timed["more"] - timed["one"]) / STEPS
    rate = (one + back) * batch / timed["both"] / 1e9
    return {
        "model": used.name,
        "GFLOP of both passes": (one + back) / 1e9,
        "forward, ms": 1e3 * timed["forward"] / batch,
        "both passes, ms": 1e3 * timed["both"] / batch,
        "a step, ms": 1e3 * step / batch,
        "passes' share of a step": timed["both"] / step,
        "both passes, GFLOP/s": rate,
    }


def operations(used: Model, batch: int, runs: int = 5) -> list[dict[str, Any]]:
    """Rows: the share of a forward pass and pull-back that each kind of operation takes, by JAX's profiler.

    A kind is the name of an operation of the compiled program without its number: `ynn_fusion` is a matrix
    product or a convolution with what is fused into it, `select_…` an activation, `add_…` a sum of shifted
    images, which depthwise convolutions are.
    """
    given, embed = contenders.inputs(used, 1, batch), used.combined.embed
    forward = jax.vmap(lambda image, params: embed(params, image), (0, None))
    images, params = jnp.asarray(given.images), used.combined.params
    arguments = (images, params, jnp.ones_like(forward(images, params)))
    program = jax.jit(with_pull_back(forward)).lower(*arguments).compile()
    names = set(re.findall(r"%?([\w.\-]+) = ", machine.known(program.as_text())))
    jax.block_until_ready(program(*arguments))
    times: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(runs):
                jax.block_until_ready(program(*arguments))
        (path,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for event in (e for line in plane.lines for e in line.events):
                if event.name in names:
                    times[re.sub(r"[.\d]+$", "", event.name)] += event.duration_ns
    total = sum(times.values())
    return [
        {"model": used.name, "operation": kind, "share": spent / total}
        for kind, spent in times.most_common(MOST_KINDS)
    ]


def measured(names: Sequence[str], shapes: Sequence[Shape], batch: int, rounds: int) -> Any:
    """The three tables and the matrix-product rate, GFLOP/s."""
    rate = machine.matrix_rate()
    convolutions = [compare(shape, batch, rounds) for shape in shapes]
    models = [contenders.model(name) for name in names]
    passes = [steps(used, batch, rounds) for used in models]
    for row in passes:
        row["of the matrix-product rate"] = row["both passes, GFLOP/s"] / rate
    kinds = [row for used in models for row in operations(used, batch)]
    return convolutions, passes, kinds, rate


def main(_: list[str]) -> None:
    quick = _QUICK.value
    names = ["mobilefacenet_casia"] if quick else _MODELS.value
    batch, rounds = (2, 1) if quick else (_BATCH.value, _ROUNDS.value)
    folder = results.prepare(_WORKDIR.value, {"batch": batch, "rounds": rounds})
    convolutions, passes, kinds, rate = measured(
        names, SHAPES[-1:] if quick else SHAPES, batch, rounds
    )
    about = {"matrix product GFLOP/s": rate, "machine": results.machine()}
    print(results.save(folder, "convolutions", convolutions, **about))
    print(results.save(folder, "steps", passes, **about))
    print(results.save(folder, "operations", kinds, **about))
    share = passes[0]["of the matrix-product rate"]
    print(f"{names[0]}: both passes at {share:.0%} of the matrix-product rate")


if __name__ == "__main__":
    entry.run(main)
