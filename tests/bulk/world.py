"""A job that costs next to nothing: a small network, a finder that needs none, and photos of noise.

Everything else is the real thing. `start` runs it in a process of its own, forked from a server that has
imported everything and computed nothing.
"""

import getpass
import multiprocessing
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from tipim_jax.bulk import job, pipeline, shards, sinks, sources, storage
from tipim_jax.bulk.pipeline import Threads, Worker
from tipim_jax.bulk.telemetry import Meter
from tipim_jax.core import attack, search, updates
from tipim_jax.core.geometry import CANVAS_LANDMARKS
from tipim_jax.core.types import Attack, Embed, Recogniser, l2_normalise
from tipim_jax.photos import engine, verify
from tipim_jax.photos.compilation import Dials
from tipim_jax.photos.faces import Face, align
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.presets import Settings
from tipim_jax.photos.protect import Models

SETTINGS = Settings(level=8.0, epsilon=12.0, steps=2, batch_size=4)
TARGETS = 3


def embed(params: Any, crop: jax.Array) -> jax.Array:
    """Means of 8×8 blocks and two dense layers."""
    blocks = ((crop - 127.5) / 128).reshape(14, 8, 14, 8, 3).mean((1, 3))
    return l2_normalise(params["v"] @ jnp.tanh(params["w"] @ blocks.reshape(-1)))


def recogniser(name: str = "small") -> Recogniser:
    rng = np.random.default_rng(len(name))
    params = {
        "w": jnp.asarray(rng.normal(size=(24, 588)), jnp.float32),
        "v": jnp.asarray(rng.normal(size=(12, 24)), jnp.float32),
    }
    return Recogniser(name, embed, params, (112, 112), np.asarray(CANVAS_LANDMARKS) - 24)


def find(pixels: np.ndarray) -> list[Face]:
    """Two faces in a wide photo, one in another, none in a dark one; always at the same place."""
    if pixels.mean() < 16:
        return []
    height, width = pixels.shape[:2]
    landmarks = np.asarray(CANVAS_LANDMARKS) * height / 160
    faces = [align(pixels, landmarks, (0.0, 0.0, height * 0.9, height * 0.9))]
    if width > 1.5 * height:
        shifted = landmarks + np.array([width - height, 0])
        faces.append(align(pixels, shifted, (width - height, 0.0, height * 0.8, height * 0.8)))
    return faces


@cache
def small_engine(
    devices: int, *, shard_params: bool = False, first: int = 0, kept: Any = None
) -> engine.Engine:
    targets = np.random.default_rng(3).normal(size=(TARGETS, 12)).astype(np.float32)
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    names = tuple(f"virtual {i}" for i in range(TARGETS))
    return engine.from_recognisers(
        [recogniser()],
        [1.0],
        names,
        targets,
        SETTINGS,
        jax.local_devices()[first : first + devices],
        composed=light,
        shard_params=shard_params,
        kept=kept,
    )


def light(embed: Embed, dials: Dials) -> Attack:
    """A step in the blink of an eye: no search and no warps, but a random target by the face's key."""
    return attack.tip_im(
        embed, updates.mi_fgsm(dials.travel / dials.steps), search=search.at_random()
    )


@cache
def judge() -> verify.Verifier:
    return verify.from_recogniser(recogniser(), 0.5)


def models(devices: int = 1, judged: bool = True) -> Models:
    return Models(find, small_engine(devices), [judge()] if judged else [])


def write_photos(folder: Path, count: int, size: int = 48) -> None:
    """Photos of noise over a gradient, some of two faces, some of none, in subfolders."""
    for i in range(count):
        rng = np.random.default_rng(i)
        shape = (size, size * 2 if i % 7 == 3 else size, 3)
        pixels = rng.integers(0, 60, shape) + np.linspace(40, 180, shape[1])[None, :, None]
        if i % 11 == 5:
            pixels = rng.integers(0, 9, shape)
        path = folder / f"{i % 5}" / f"{i:05d}{('.png', '.jpg')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def begin(inputs: Path, out: Path) -> None:
    """What the first process does before the others begin."""
    here = storage.folder_at(out)
    storage.clear_staging(here)
    if not storage.exists(here, sources.LIST):
        found = sources.list_folder(storage.folder_at(inputs))
        sources.freeze(here, found.photos, None, found.others)


def worker(
    inputs: Path,
    out: Path,
    workdir: Path,
    *,
    process: int = 0,
    processes: int = 1,
    devices: int = 1,
    shard_size: int = 8,
    array_record: bool = False,
    judged: bool = True,
    sink: sinks.Sink | None = None,
    **changes: Any,
) -> Worker:
    """The part of one process, after `begin`; `changes` of the worker's fields."""
    here = storage.folder_at(out)
    source = sources.open_list(here, storage.folder_at(inputs))
    made = models(devices, judged)
    options = job.BulkOptions(
        input=str(inputs),
        out=here,
        workdir=str(workdir),
        settings=SETTINGS,
        surrogates=["small"],
        judges=["small"] if judged else [],
        encoding=Encoding(),
        sink="array_record" if array_record else "folder",
    )
    part = shards.Assignment(shards.Shards(source.photos, shard_size), process, processes)
    results = job.make_results(options, made, part)._replace(retry_wait=0.01)
    return Worker(
        models=made,
        source=source,
        results=results if sink is None else results._replace(sink=sink),
        encoding=Encoding(),
        error_budget=0.5,
        checkpoint_seconds=60,
        threads=Threads(in_flight=16),
    )._replace(**changes)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too: relative path -> bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(inputs: Path, out: Path, workdir: Path, **options: Any) -> Meter:
    """A job from start to end, in this process and as the only one."""
    begin(inputs, out)
    return pipeline.run(worker(inputs, out, workdir, **options), threading.Event())


def start(function: Callable[..., None], *arguments: Any, **options: Any) -> Any:
    """Starts `function` in a new process that has no devices yet, and returns the process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_settled, args=(function, arguments, options))
    process.start()
    return process


def _settled(function: Callable[..., None], arguments: Any, options: Any) -> None:
    keep_compilations()
    function(*arguments, **options)


def keep_compilations() -> None:
    """Processes compile once for all; some are killed in writing, hence a folder of their own."""
    folder = Path(tempfile.gettempdir()) / f"tipim-tests-{getpass.getuser()}" / "bulk"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def until_terminated(*arguments: Any, readable: int = sys.maxsize, **options: Any) -> None:
    """What a worker does: a job, until it is done or SIGTERM comes.

    Photos from number `readable` on are not to be had before SIGTERM comes.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    made = worker(*arguments, **options)

    def read(number: int) -> bytes:
        if number >= readable:
            stop.wait()
        return made.source.read(number)

    pipeline.run(made._replace(source=made.source._replace(read=read)), stop)
