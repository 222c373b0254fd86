"""The paper's identification protocol: Rank-N-T and Rank-N-UT of protected probes, on every recogniser.

    python -m experiments.identification --data_dir=LFW --protocol=protocol.json --num_probes=100 \\
        --rows=unprotected,low,medium,high,paper --paper_source=mobilefacenet_casia \\
        --workdir=results/identification

A preset goes the way of `tipim protect`: the mask is made on the aligned face, pasted into the photo, and
the photo is cropped anew. `paper` is the published setting on the aligned crop: ε = 12, 50 ℓ∞ steps of
α = 1.5, exhaustive search, random affine views, one surrogate. Finished rows are kept in --workdir and
not computed again. --quick protects the demo probes with `low` at 5 steps.
"""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from tqdm import tqdm

from experiments import data, results
from ports import yunet, zoo
from tipim_jax import attack, batching, diversity, ensemble, metrics, updates
from tipim_jax.constraints import round_within
from tipim_jax.photos import engine, verify
from tipim_jax.photos.faces import align
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.paste import FaceMask, paste
from tipim_jax.photos.presets import PRESETS, Settings
from tipim_jax.photos.targets import Targets
from tipim_jax.types import Attack

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Identity folder, person/photo.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Manifest of probes, gallery and targets.")
_ROWS = flags.DEFINE_list("rows", ["unprotected", *PRESETS, "paper"], "What to measure.")
_NUM_PROBES = flags.DEFINE_integer("num_probes", 100, "Evenly spaced among the probes.")
_SURROGATES = flags.DEFINE_list("surrogates", list(zoo.SURROGATES), "Of the presets.")
_PAPER_SOURCE = flags.DEFINE_string("paper_source", "sface", "The surrogate of row `paper`.")
_MODELS = flags.DEFINE_list("models", None, "Recognisers that judge; all that are here by default.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Faces attacked at once.")
_SEED = flags.DEFINE_integer("seed", 0, "Of all randomness.")
_WORKDIR = flags.DEFINE_string("workdir", "results/identification", "Where results go.")
_CACHE = flags.DEFINE_string("cache", "results/cache", "Where aligned faces are kept.")
_QUICK = flags.DEFINE_bool("quick", False, "The smallest honest run, on the demo photos.")


class Bench(NamedTuple):
    """Everything a row is measured with: embeddings are recogniser -> array."""

    protocol: data.Protocol
    probes: data.Faces
    gallery: data.Faces
    targets: data.Faces
    verifiers: list[verify.Verifier]
    gallery_embeddings: dict[str, np.ndarray]
    target_embeddings: dict[str, np.ndarray]


def bench(protocol: data.Protocol, models: list[str] | None, cache: Path) -> Bench:
    """Aligns and embeds the photos of a protocol."""
    judges = verify.verifiers(models)
    gallery = data.faces(protocol.gallery, cache)
    targets = data.faces(protocol.targets, cache)
    return Bench(
        protocol,
        data.faces(protocol.probes, cache),
        gallery,
        targets,
        judges,
        {judge.name: data.embeddings(judge, gallery, cache) for judge in judges},
        {judge.name: data.embeddings(judge, targets, cache) for judge in judges},
    )


def measure(bench: Bench, canvases: np.ndarray) -> list[dict[str, Any]]:
    """Rank-N-T and Rank-N-UT (shares) of protected canvases [P,160,160,3], a row per recogniser."""
    rows = []
    for judge in bench.verifiers:
        embedded = verify.embed_canvases(judge, canvases)
        ranks = metrics.rank(
            embedded @ bench.gallery_embeddings[judge.name].T,
            bench.gallery.identities,
            bench.probes.identities,
            np.unique(bench.targets.identities),
        )
        rows.append(
            {
                "recogniser": judge.name,
                **{f"Rank-{n}-T": float(hits.mean()) for n, hits in ranks.targeted.items()},
                **{f"Rank-{n}-UT": float(hits.mean()) for n, hits in ranks.untargeted.items()},
            }
        )
    return rows


class Protected(NamedTuple):
    """Probes before and after: clean, canvases [P,160,160,3] uint8; seconds of attack per face."""

    clean: np.ndarray
    canvases: np.ndarray
    seconds: float


def by_preset(bench: Bench, settings: Settings, surrogates: list[str]) -> Protected:
    """Probes protected as `tipim protect` does, with the protocol's targets."""
    names = tuple(str(name) for name in bench.targets.identities)
    made = engine.build(surrogates, Targets(names, bench.target_embeddings), settings)
    detector, size = yunet.load(), settings.batch_size
    clean, protected, seconds = [], [], 0.0
    for start in tqdm(range(0, len(bench.probes.paths), size), desc="protect", disable=None):
        part = []
        for path in bench.probes.paths[start : start + size]:
            pixels = read_photo(path).pixels
            part.append((pixels, data.main_face(detector, pixels)))
        masks = engine.protect(
            made,
            [face.canvas for _, face in part],
            [face.scale for _, face in part],
            [batching.content_key(settings.seed, pixels.tobytes()) for pixels, _ in part],
        )
        seconds += masks.seconds
        for (pixels, face), mask in zip(part, masks.masks, strict=True):
            pasted = paste(pixels, [FaceMask(mask, face.matrix)], settings.epsilon)
            clean.append(_levels(face.canvas))
            protected.append(_levels(align(pasted, face.landmarks, face.box).canvas))
    return Protected(np.stack(clean), np.stack(protected), seconds / len(clean))


def _levels(canvas: np.ndarray) -> np.ndarray:
    return np.rint(canvas).astype(np.uint8)


class Method(NamedTuple):
    """An attack on aligned crops: the composition, its surrogates, ε in pixel levels, steps."""

    attack: Attack
    ensemble: ensemble.Ensemble
    epsilon: float
    steps: int


def paper(source: str) -> Method:
    """The published setting."""
    combined = ensemble.combine([zoo.load(source)])
    method = attack.tip_im(combined.embed, updates.mi_fgsm(1.5 / 12), diversity=diversity.affine())
    return Method(method, combined, 12.0, 50)


def on_crops(
    method: Method, canvases: np.ndarray, targets: np.ndarray, batch_size: int, seed: int
) -> Protected:
    """Protects aligned crops [P,160,160,3]; targets [T,D] as joined for the ensemble."""
    protected, seconds = [], 0.0
    round_all = jax.jit(jax.vmap(round_within))
    for start in tqdm(range(0, len(canvases), batch_size), desc="protect", disable=None):
        part = canvases[start : start + batch_size]
        padded, mask = batching.pad(part, batch_size)
        images = jnp.asarray(padded, jnp.float32)
        keys = jnp.stack([batching.content_key(seed, canvas.tobytes()) for canvas in padded])
        started = time.perf_counter()
        problem = attack.prepare(
            *method.ensemble, images, jnp.asarray(targets), jnp.asarray(method.epsilon)
        )
        state, _ = attack.run(
            method.attack,
            method.ensemble.params,
            keys,
            attack.initial_state(method.attack, problem),
            problem,
            num_steps=method.steps,
            mask=jnp.asarray(mask),
        )
        protected.append(np.asarray(round_all(state.image, images, problem.epsilon))[: len(part)])
        seconds += time.perf_counter() - started
    return Protected(canvases, np.concatenate(protected), seconds / len(canvases))


class Choices(NamedTuple):
    """What a row depends on: surrogates and settings of the presets, source of the paper's setting."""

    surrogates: list[str]
    presets: dict[str, Settings]
    source: str
    batch_size: int
    seed: int


def row(bench: Bench, name: str, choices: Choices) -> tuple[Protected, list[str]]:
    """One protection by its name, and its surrogates.

    Raises:
      ValueError: an unknown name.
    """
    clean = bench.probes.canvases
    if name == "unprotected":
        return Protected(clean, clean, 0.0), []
    if name == "paper":
        targets = bench.target_embeddings[choices.source]
        method = paper(choices.source)
        done = on_crops(method, clean, targets, choices.batch_size, choices.seed)
        return done, [choices.source]
    if name in choices.presets:
        settings = choices.presets[name]._replace(batch_size=choices.batch_size, seed=choices.seed)
        return by_preset(bench, settings, choices.surrogates), choices.surrogates
    raise ValueError(f"unknown row {name!r}; use unprotected, paper, {', '.join(choices.presets)}")


def measured(
    bench: Bench, name: str, workdir: Path, make: Callable[[], Any]
) -> list[dict[str, Any]]:
    """The rows of a table for one protection, from `workdir` if they are there already."""
    kept = workdir / f"row-{name}.json"
    if not kept.exists():
        done, used = make()
        quality = {
            "PSNR": float(np.mean([metrics.psnr(*pair) for pair in zip(*done[:2])])),
            "SSIM": float(np.mean([metrics.ssim(*pair) for pair in zip(*done[:2])])),
            "s/face": done.seconds,
        }
        rows = [
            {"protection": name, **found, "surrogate": found["recogniser"] in used, **quality}
            for found in measure(bench, done.canvases)
        ]
        results.write(kept, json.dumps(rows, indent=1) + "\n")
    return json.loads(kept.read_text(encoding="utf-8"))


def main(_: list[str]) -> None:
    quick = _QUICK.value
    protocol = data.chosen_protocol(quick, _DATA_DIR.value, _PROTOCOL.value)
    protocol = data.thinned(protocol, _NUM_PROBES.value)
    names = ["unprotected", "low"] if quick else _ROWS.value
    models = list(zoo.SURROGATES) if quick else _MODELS.value
    presets = {"low": PRESETS["low"]._replace(steps=5)} if quick else PRESETS
    batch_size = 2 if quick else _BATCH_SIZE.value
    choices = Choices(_SURROGATES.value, presets, _PAPER_SOURCE.value, batch_size, _SEED.value)
    config = {
        "protocol": protocol.name,
        "probes": len(protocol.probes.paths),
        "models": models,
        **choices._asdict(),
    }
    workdir = results.prepare(_WORKDIR.value, config)
    setup = bench(protocol, models, Path(_CACHE.value))
    rows = []
    for name in names:
        rows += measured(setup, name, workdir, partial(row, setup, name, choices))
    missing = [*setup.probes.missing, *setup.gallery.missing, *setup.targets.missing]
    print(results.save(workdir, "identification", rows, missing=missing, machine=results.machine()))
    last = rows[-1]
    print(f"{last['protection']}: Rank-1-UT {last['Rank-1-UT']:.2f} on {last['recogniser']}")


if __name__ == "__main__":
    app.run(main)
