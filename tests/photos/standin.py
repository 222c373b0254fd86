"""The command with stand-ins for networks: `python -m tests.photos.standin protect …`.

Masks are noise drawn from the photo, faces lie where `world.find` says. Nothing is compiled; options, files,
the journal, reports and signals are the real thing.
"""

import itertools
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ports import zoo
from ports.networks import yunet
from tests.bulk import world
from tipim_jax import cli
from tipim_jax.commands import protect as command
from tipim_jax.photos import engine, faces, programs, protect, verify
from tipim_jax.photos.paste import FaceMask
from tipim_jax.photos.pending import Attacked
from tipim_jax.photos.verify import Verifier

NAME = "small"
BATCH = 4


def install(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Puts the stand-ins in the place of the networks."""
    fingerprint = zoo.fingerprint
    setattr(yunet, "load", lambda: None)
    setattr(faces, "find", lambda detector, pixels: world.find(pixels))
    setattr(engine, "build", build)
    setattr(protect, "make_masks", make_masks)
    setattr(
        verify, "verifiers", lambda names=None: [judge(name, t) for name, t in thresholds().items()]
    )
    setattr(command, "_thresholds", lambda: thresholds())
    setattr(zoo, "SURROGATES", (NAME,))
    setattr(zoo, "fingerprint", lambda name: "weights" if name == NAME else fingerprint(name))
    setattr(programs, "keep_in_cache", lambda: None)


def thresholds() -> dict[str, float]:
    return {NAME: 2.0}


def judge(name: str, threshold: float) -> Verifier:
    def embed(params, canvases):
        z = np.asarray(canvases)[:, ::8, ::8, 0].reshape(len(canvases), -1) - 128
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    return Verifier(name, embed, None, threshold)


def build(surrogates, goals, settings, devices=None, **_):
    program = SimpleNamespace(faces=BATCH)
    return SimpleNamespace(
        settings=settings,
        surrogates=tuple(surrogates),
        capacity=BATCH,
        compile_seconds=0.0,
        alone=lambda faces, photos: False,
        single=lambda: program,
        full=lambda: program,
    )


def make_masks(engine, program, batch):
    """Takes some time, so that there is a moment to be killed in."""
    time.sleep(0.01 * len(batch))
    for pending, i in batch:
        rng = np.random.default_rng([pending.digest, i, engine.settings.seed])
        e = engine.settings.epsilon
        mask = rng.uniform(-e, e, (160, 160, 3)).astype(np.float32)
        pending.masks[i] = FaceMask(mask, pending.faces[i].matrix)
        pending.targets[i] = ""
    return Attacked(0.01 * len(batch), len(batch))


def start(arguments: Sequence[str], batches: float = math.inf) -> multiprocessing.Process:
    """The command in a process of its own, forked from a server that has imported everything.

    After so many `batches` it waits for a signal.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    words = [str(argument) for argument in arguments]
    process = context.Process(target=_main, args=(words, batches))
    process.start()
    return process


def _main(arguments: list[str], batches: float) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    install()
    # Shells start what runs in the background deaf to it, and the tests with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    made = itertools.count()

    def make_some(*given):
        while next(made) >= batches:
            time.sleep(0.1)
        return make_masks(*given)

    protect.make_masks = make_some
    sys.exit(cli.main(arguments))


if __name__ == "__main__":
    install()
    sys.exit(cli.main())
