"""A bench of random faces and a network that compiles in no time, for what needs neither."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import dataset
from experiments.judging import ranking
from experiments.protection import runs, specs
from experiments.protection.runs import Run
from tipim_jax.core.ensemble import Ensemble
from tipim_jax.core.types import l2_normalise
from tipim_jax.photos.verify import Verifier


def embed(params, canvas):
    """[160,160,3] -> [8]: a random projection of coarse blocks."""
    blocks = canvas.reshape(20, 8, 20, 8, 3).mean((1, 3)) / 128 - 1
    return l2_normalise(jnp.tanh(params @ blocks.reshape(-1)))


def faces(count: int, people: list[str], seed: int) -> dataset.Faces:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 20, 20, 3))
    canvases = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
    names = tuple(f"{seed}-{i}" for i in range(count))
    return dataset.Faces(tuple(map(Path, names)), canvases, np.array(people), names, ())


@pytest.fixture(autouse=True)
def quick_compile():
    """Less time to compile what computes next to nothing."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def bench(monkeypatch) -> ranking.Bench:
    """Six probes, a gallery of eleven, two targets; the recognisers `tiny` and `other`."""
    rng = np.random.default_rng(0)
    params = {
        name: jnp.asarray(rng.normal(size=(8, 1200)) * 0.1, jnp.float32)
        for name in ("tiny", "other")
    }
    judges = tuple(
        Verifier(name, jax.jit(jax.vmap(embed, (None, 0))), p, 0.5) for name, p in params.items()
    )
    probes = faces(6, list("abcdef"), 1)
    gallery, targets = faces(11, list("abcdefxyzst"), 2), faces(2, list("st"), 3)
    nothing = dataset.Labelled((), ())

    def embedded(found):
        canvases = jnp.asarray(found.canvases, jnp.float32)
        return {judge.name: np.asarray(judge.embed(judge.params, canvases)) for judge in judges}

    monkeypatch.setattr(
        specs, "combined", lambda names, frame=None: Ensemble(embed, params[names[0]])
    )
    monkeypatch.setattr(specs.Subjects, "joined", lambda self, names: self.targets[names[0]])
    return ranking.Bench(
        dataset.Protocol("random", nothing, nothing, nothing),
        probes,
        gallery,
        targets,
        judges,
        embedded(gallery),
        embedded(targets),
    )


@pytest.fixture
def run_in(monkeypatch):
    """workdir -> a run of batches of two; its recognisers are in no zoo."""
    monkeypatch.setattr(runs, "digest", lambda name: name)

    def made(workdir: Path) -> Run:
        nothing = dataset.Labelled((), ())
        protocol = dataset.Protocol("random", nothing, nothing, nothing)
        return Run(protocol, workdir, workdir, None, 6, 2, 0, True)

    return made
