"""What bulk protection costs beside the attack, whether its memory is flat, and what a million photos take.

    python -m experiments.bulk_measure --data_dir=LFW --num_photos=96 --workdir=results/bulk_measure
    python -m experiments.bulk_measure --memory_photos=10000 --workdir=results/bulk_memory

The first compares, in one process, the bulk pipeline on photos with the attack alone on their faces, aligned
beforehand, in turns, and prints a capacity table from the FLOPs that XLA counts. The second protects
synthetic photos of noise with a fixed finder and a dense network, and records the process' resident memory; it
resumes. --quick: the first on two demo photos with two steps.
"""

import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from PIL import Image

from experiments.launching import launch
from experiments.reporting import results
from experiments.speed import cost, machine
from ports import zoo
from tipim_jax.bulk import job, pipeline, sources, storage
from tipim_jax.bulk.job import BulkOptions, RunOptions
from tipim_jax.bulk.pipeline import Worker
from tipim_jax.bulk.shards import Assignment, Shards
from tipim_jax.core import attack, ensemble, search, updates
from tipim_jax.core.geometry import CANVAS_LANDMARKS, CANVAS_SIZE
from tipim_jax.core.types import Attack, Embed, Recogniser, l2_normalise
from tipim_jax.errors import UserError
from tipim_jax.photos import compilation, demo, engine, presets, targets, verify
from tipim_jax.photos.compilation import Dials
from tipim_jax.photos.faces import Face, align, finder
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import photos_below
from tipim_jax.photos.pending import detect, make_masks
from tipim_jax.photos.protect import Models

_NUM_PHOTOS = flags.DEFINE_integer("num_photos", 96, "Evenly spaced ones of them.")
_MEMORY_PHOTOS = flags.DEFINE_integer("memory_photos", 0, "Synthetic photos; 0 for throughput.")
_SURROGATES = flags.DEFINE_list("surrogates", list(zoo.SURROGATES), "Recognisers to attack.")
_STRENGTH = flags.DEFINE_enum("strength", "medium", list(presets.PRESETS), "Preset.")
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Turns of attack alone and bulk.")
flags.set_default(launch.BATCH_SIZE, 8)


def worker(made: Models, photos: Path, folder: Path) -> Worker:
    """All of a job, from `photos` to `folder / "out"`."""
    options = BulkOptions(
        input=str(photos.absolute()),
        out=storage.folder_at(folder.absolute() / "out"),
        workdir=str(folder),
        settings=made.engine.settings,
        surrogates=list(made.engine.surrogates),
        judges=[judge.name for judge in made.judges],
        encoding=Encoding(),
    )
    if not storage.exists(options.out, sources.LIST):
        found = sources.list_folder(storage.folder_at(options.input))
        sources.freeze(options.out, found.photos, None)
    source = job.open_source(options)
    assignment = Assignment(Shards(source.photos, 32), 0, 1)
    return job.make_worker(options, RunOptions(report_seconds=10.0), made, source, assignment)


def throughput(made: Models, photos: Path, workdir: Path, rounds: int) -> list[dict[str, Any]]:
    """Faces/s of the attack alone on aligned faces and of the pipeline from files to files, in turns."""
    pending = [detect(made.find, read_photo(path)) for path in sorted(photos_below(photos))]
    faces = [(photo, i) for photo in pending for i in photo.to_protect]
    size = made.engine.capacity
    batches = [faces[i : i + size] for i in range(0, len(faces), size)]
    make_masks(made.engine, made.engine.full(), batches[0])  # warm, as the finder is
    table = []
    for turn in range(rounds):
        started = time.perf_counter()
        for batch in batches:
            make_masks(made.engine, made.engine.full(), batch)
        alone = time.perf_counter() - started
        folder = workdir / f"turn-{turn}"
        shutil.rmtree(folder, ignore_errors=True)
        meter = pipeline.run(worker(made, photos, folder), threading.Event())
        figures = meter.figures()
        table.append(
            {
                "turn": turn,
                "faces": len(faces),
                "attack alone, faces/s": len(faces) / alone,
                "bulk, faces/s": figures["faces_per_second"],
                "share": figures["faces_per_second"] * alone / len(faces),
                "device busy": figures["device_busy"],
                "input-bound s": figures["input_seconds"],
                "compute-bound s": figures["compute_seconds"],
                "output-bound s": figures["output_seconds"],
            }
        )
        shutil.rmtree(folder)
    return table


def fixed(pixels: np.ndarray) -> list[Face]:
    """A face that fills the photo."""
    side = float(pixels.shape[0])
    return [align(pixels, np.asarray(CANVAS_LANDMARKS) * side / CANVAS_SIZE, (0, 0, side, side))]


def write_noise(folder: Path, count: int) -> None:
    """Photos of 64×64 pixels, a thousand to a folder."""
    for i in range(count):
        path = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)


def _light_engine() -> engine.Engine:
    """One step on a random dense network: the pipeline is what is watched."""
    rng = np.random.default_rng(0)
    params = jnp.asarray(rng.normal(size=(8, 147)), jnp.float32)

    def embed(params: jax.Array, crop: jax.Array) -> jax.Array:
        return l2_normalise(params @ crop.reshape(7, 16, 7, 16, 3).mean((1, 3)).reshape(-1))

    def composed(embed: Embed, dials: Dials) -> Attack:
        return attack.tip_im(embed, updates.mi_fgsm(1.0), search=search.at_random())

    small = Recogniser("dense", embed, params, (112, 112), np.asarray(CANVAS_LANDMARKS) - 24)
    settings = presets.PRESETS["low"]._replace(steps=1)
    goals = np.eye(2, 8, dtype=np.float32)
    return engine.from_recognisers([small], [1.0], ("a", "b"), goals, settings, composed=composed)


def memory(photos: int, workdir: Path) -> list[dict[str, Any]]:
    """Resident MiB after every shard of a run over synthetic photos, beside the photos done by then."""
    write_noise(workdir / "in", photos)
    made = Models(fixed, _light_engine(), [])
    path = workdir / "memory.csv"

    def watch(meter: Any) -> None:
        with path.open("a") as file:
            done = meter.before.photos + meter.counts.photos
            file.write(f"{done},{machine.resident() / 2**20:.1f}\n")

    part = worker(made, workdir / "in", workdir)
    pipeline.run(part._replace(checkpoint_seconds=5.0), threading.Event(), watch)
    points = [line.split(",") for line in path.read_text().splitlines()]
    return [{"photos": int(done), "MiB": float(size)} for done, size in points]


def copy_photos(folder: Path, into: Path, count: int) -> None:
    """Copies up to `count` evenly spaced photos of a tree to the same places in another."""
    found = sorted(photos_below(folder, leaving=into))
    for i in np.linspace(0, len(found) - 1, min(count, len(found))).astype(int):
        path = into / found[i].relative_to(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(found[i], path)


def main(_: list[str]) -> None:
    quick, count = launch.QUICK.value, _MEMORY_PHOTOS.value
    surrogates = ["dlib"] if quick else _SURROGATES.value
    settings = presets.PRESETS[_STRENGTH.value]._replace(batch_size=launch.BATCH_SIZE.value)
    settings = settings._replace(batch_size=1, steps=2) if quick else settings
    config = {"settings": settings._asdict(), "surrogates": surrogates, "memory_photos": count}
    workdir = launch.folder("bulk_measure", config)
    if count:
        points = memory(count, workdir)
        print(results.save(workdir, "memory", points, machine=results.machine()))
        late = [point["MiB"] for point in points if point["photos"] >= count // 5]
        print(
            f"resident memory from {count // 5} photos on: {min(late):.0f} to {max(late):.0f} MiB"
        )
        return
    folder = demo.demo_photos()[0].parent if quick else launch.DATA_DIR.value
    if folder is None:
        raise UserError("--data_dir is needed; or try --quick")
    copy_photos(Path(folder), workdir / "in", 2 if quick else _NUM_PHOTOS.value)
    made = engine.build(surrogates, targets.built_in(), settings)
    models = Models(finder(), made, [verify.load(name) for name in surrogates])
    table = throughput(models, workdir / "in", workdir, 1 if quick else _ROUNDS.value)
    print(results.save(workdir, "throughput", table, machine=results.machine()))
    each = cost.flops(ensemble.combine([zoo.load(name) for name in surrogates]))
    dials = compilation.dials(settings)
    compose = partial(compilation.compose, dials=dials, goal=settings.goal)
    counted = cost.passes(compose, len(made.targets), settings.steps)
    measured = {"this machine, measured": max(row["attack alone, faces/s"] for row in table)}
    hours = cost.capacity("+".join(surrogates), counted, each, measured)
    print(results.save(workdir, "capacity", hours))
    share = sum(row["share"] for row in table) / len(table)
    print(f"bulk reaches {share:.3f} of the attack alone")


if __name__ == "__main__":
    launch.run(main)
