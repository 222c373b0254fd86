"""What this machine and XLA say: the matrix-product rate, operations of a pass, memory."""

import importlib.util
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tipim_jax.core.ensemble import Ensemble
from tipim_jax.core.geometry import CANVAS_SIZE


def flops(used: Ensemble) -> tuple[float, float]:
    """Floating-point operations of one forward pass and of one pull-back, by XLA's cost analysis."""
    canvas = jnp.zeros((CANVAS_SIZE, CANVAS_SIZE, 3))
    cotangent = jnp.zeros(used.embed(used.params, canvas).shape)

    def both(params: Any, canvas: jax.Array, cotangent: jax.Array) -> jax.Array:
        return jax.vjp(partial(used.embed, params), canvas)[1](cotangent)[0]

    forward = jax.jit(used.embed).lower(used.params, canvas).compile()
    whole = jax.jit(both).lower(used.params, canvas, cotangent).compile()
    one, two = (float(known(c.cost_analysis())["flops"]) for c in (forward, whole))
    return one, two - one


def known(found: Any) -> Any:
    """What XLA tells of a compiled program; every backend that this runs on does."""
    assert found is not None
    return found


def matrix_rate(rounds: int = 9, size: int = 2048) -> float:
    """The machine's float32 matrix-product rate, GFLOP/s: JAX's median, or PyTorch's if that is better."""
    random = np.random.default_rng(0)
    a = random.normal(size=(size, size)).astype(np.float32)
    x, product = jnp.asarray(a), jax.jit(jnp.matmul)
    calls: list[Callable[[], Any]] = [lambda: product(x, x).block_until_ready()]
    if pytorch():
        import torch

        t = torch.from_numpy(a)
        calls.append(lambda: torch.mm(t, t))
    times = np.zeros((rounds, len(calls)))
    for turn in range(-1, rounds):
        for column, call in enumerate(calls):
            started = time.perf_counter()
            call()
            if turn >= 0:
                times[turn, column] = time.perf_counter() - started
    return float(2 * size**3 / np.median(times, 0).min() / 1e9)


def pytorch() -> bool:
    """Whether PyTorch, the extra `parity`, is installed."""
    return importlib.util.find_spec("torch") is not None


def memory(field: str) -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at most since `reset_peak`."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def reset_peak() -> None:
    """Forgets the largest memory so far."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
