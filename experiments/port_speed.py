"""Times every port against the same network in PyTorch: forward, and forward + input gradient.

    python -m experiments.port_speed --workdir=results/port_speed

float32, frozen weights drawn from the tensors' names, two processor cores for both. The two take
turns and the median of the rounds counts. Finished networks are kept in --workdir. BatchNorms of the ports
are folded, as `zoo.load` does; the PyTorch modules run as they are released. Needs the extra `parity` and
the packages named at the head of tests/parity/test_parity.py; networks whose package is absent are left
out.
"""

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from experiments import entry, results
from ports import architectures, random_weights
from ports.architectures import ARCHITECTURES
from ports.convert import convert
from ports.layers import fold_batch_norm
from tipim_jax.errors import UserError

_WORKDIR = flags.DEFINE_string("workdir", "results/port_speed", "Where results go.")
_ARCHS = flags.DEFINE_list("archs", None, "Networks; all that have a PyTorch side by default.")
_BATCH = flags.DEFINE_integer("batch", 8, "Images at once.")
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Timed turns of each side.")
_QUICK = flags.DEFINE_bool("quick", False, "Two small networks, two images, two rounds.")

QUICK = ("mobilefacenet_112x96_128", "adaface_ir18")
CORES = 2


def flax_side(
    name: str, tensors: dict[str, np.ndarray], images: np.ndarray, cotangent: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """(forward, forward + backward) of a port; each call waits for its result."""
    known = ARCHITECTURES[name]
    model = convert(tensors, known.table, architectures.abstract(name), ignore=known.ignored)
    graph, params = nnx.split(fold_batch_norm(model))
    x, c = jnp.asarray(images), jnp.asarray(cotangent)
    embed = jax.jit(lambda params, x: nnx.merge(graph, params)(x))
    gradient = jax.jit(lambda params, x, c: jax.vjp(partial(embed, params), x)[1](c)[0])
    return (
        lambda: embed(params, x).block_until_ready(),
        lambda: gradient(params, x, c).block_until_ready(),
    )


def torch_side(
    reference: Any, images: np.ndarray, cotangent: np.ndarray
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same of the PyTorch module."""
    import torch

    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    c = torch.from_numpy(cotangent)

    def forward() -> Any:
        with torch.no_grad():
            return reference.module(x)

    def gradient() -> Any:
        leaf = x.detach().requires_grad_(True)
        return torch.autograd.grad(reference.module(leaf), leaf, c)[0]

    return forward, gradient


def measure(name: str, reference: Any, batch: int, rounds: int) -> dict[str, Any]:
    """One row: milliseconds per image of both sides, and port / PyTorch."""
    known = ARCHITECTURES[name]
    tensors = random_weights.tensors(reference.shapes())
    reference.load(tensors)
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (batch, *known.size, 3)).astype(np.float32)
    cotangent = random.normal(size=(batch, known.features)).astype(np.float32)
    calls = [
        *flax_side(name, tensors, images, cotangent),
        *torch_side(reference, images, cotangent),
    ]
    times = np.zeros((rounds, len(calls)))
    for turn in range(-1, rounds):  # the first turn compiles and is not counted
        for column, call in enumerate(calls):
            start = time.perf_counter()
            call()
            if turn >= 0:
                times[turn, column] = time.perf_counter() - start
    port, port_both, torch_, torch_both = (np.median(times, 0) / batch * 1e3).tolist()
    return {
        "network": name,
        "parameters (M)": round(sum(t.size for t in tensors.values()) / 1e6, 2),
        "port forward": round(port, 2),
        "PyTorch forward": round(torch_, 2),
        "port forward + backward": round(port_both, 2),
        "PyTorch forward + backward": round(torch_both, 2),
        "port / PyTorch": round(port_both / torch_both, 2),
    }


def main(_: list[str]) -> None:
    # before either framework counts the cores to make its threads
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    try:
        import torch

        from experiments.pytorch.networks import REFERENCES
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is absent; see the head of tests/parity/test_parity.py"
        ) from None
    torch.set_num_threads(CORES)
    names = _ARCHS.value or (QUICK if _QUICK.value else list(REFERENCES))
    unknown = [name for name in names if name not in REFERENCES]
    if unknown:
        raise UserError(f"no PyTorch side for {', '.join(unknown)}; known: {', '.join(REFERENCES)}")
    batch, rounds = (2, 2) if _QUICK.value else (_BATCH.value, _ROUNDS.value)
    folder = results.prepare(
        _WORKDIR.value, {"networks": list(names), "batch": batch, "rounds": rounds, "cores": CORES}
    )
    kept = folder / "port_speed.json"
    rows = json.loads(kept.read_text(encoding="utf-8"))["rows"] if kept.exists() else []
    done = {row["network"] for row in rows}
    for name in names:
        if name in done:
            continue
        try:
            reference = REFERENCES[name]()
        except ModuleNotFoundError as error:
            print(f"{name} is left out: {error.name} is absent")
            continue
        rows.append(measure(name, reference, batch, rounds))
        results.save(  # after every network, so that an interrupted run goes on where it stopped
            *(folder, "port_speed", rows),
            unit="milliseconds per image, median",
            batch=batch,
            rounds=rounds,
            torch=torch.__version__,
            **results.machine(),
        )
        print(rows[-1], flush=True)
    print((folder / "port_speed.md").read_text(encoding="utf-8"))
    ratios = {row["network"]: row["port / PyTorch"] for row in rows}
    slowest = max(ratios, key=lambda name: ratios[name])
    print(
        f"port / PyTorch: median {np.median(list(ratios.values())):.2f}, "
        f"largest {ratios[slowest]:.2f} ({slowest})"
    )


if __name__ == "__main__":
    entry.run(main)
