"""What this machine says: seconds of calls taken in turns, the rate of its matrix product, memory."""

import importlib.util
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def in_turns(calls: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, np.ndarray]:
    """Seconds [rounds] of each call until its arrays are there, in turns; call before, to compile."""
    times = {name: np.zeros(rounds) for name in calls}
    for turn in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name][turn] = time.perf_counter() - started
    return times


def matrix_rate(rounds: int = 9, size: int = 2048) -> float:
    """The machine's float32 matrix-product rate, GFLOP/s: JAX's median, or PyTorch's if that is better."""
    a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    x, product = jnp.asarray(a), jax.jit(jnp.matmul)
    calls: dict[str, Callable[[], Any]] = {"JAX": lambda: product(x, x)}
    if pytorch():
        import torch

        t = torch.from_numpy(a)
        calls["PyTorch"] = lambda: torch.mm(t, t)
    in_turns(calls, 1)
    best = min(float(np.median(seconds)) for seconds in in_turns(calls, rounds).values())
    return 2 * size**3 / best / 1e9


def pytorch() -> bool:
    """Whether PyTorch, the extra `parity`, is installed."""
    return importlib.util.find_spec("torch") is not None


def growth(call: Callable[[], Any]) -> int:
    """Bytes by which the process grows during a call beyond what it held before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak so far
    held = resident()
    call()
    return max(resident("VmHWM") - held, 0)


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process: "VmRSS" now, "VmHWM" at most."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
