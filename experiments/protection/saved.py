"""Protected photos as files: any protection of whole photos, written as `tipim protect` writes them.

A preset takes the very path of `tipim protect`. Controls and methods, which make masks on aligned faces, have
those of the main face pasted into the photo and saved in the same way. A file that is there already is not
made again, so a run that was stopped goes on.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from experiments.data import dataset
from experiments.protection import specs
from experiments.protection.runs import Run
from experiments.protection.specs import Name, Subjects
from ports.networks import yunet
from tipim_jax.errors import UserError
from tipim_jax.photos import engine
from tipim_jax.photos.encode import encode
from tipim_jax.photos.faces import find
from tipim_jax.photos.files import read_photo, write_atomically
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import Job
from tipim_jax.photos.paste import FaceMask, paste
from tipim_jax.photos.portrait import main_face
from tipim_jax.photos.protect import Models
from tipim_jax.photos.saving import protect_photos
from tipim_jax.photos.targets import Targets

ENCODING = Encoding()
CAP = 255.0  # pixel levels; what a method does to a canvas is bounded by its own ε


def protected(
    run: Run, name: Name, photos: dataset.Labelled, digests: Sequence[str], targets: Targets
) -> list[Path]:
    """The files of a protection, one a photo, made or found below --workdir.

    Args:
      run: where, and with which settings.
      name: from `specs.named`.
      photos: that show a face.
      digests: SHA-256 of each.
      targets: with embeddings of the protection's surrogates.

    Raises:
      UserError: a photo cannot be protected.
    """
    if name.best:
        raise UserError(f"{name.text}: leave out {specs.BEST}, which identification takes")
    folder = run.workdir / "photos" / name.folder
    outputs = [
        Path(f"{path.stem}-{digest[:12]}{path.suffix}")
        for path, digest in zip(photos.paths, digests, strict=True)
    ]
    jobs = {
        output: Job(path, output)
        for path, output in zip(photos.paths, outputs)
        if not (folder / output).exists()
    }
    if jobs and name.method in run.presets:
        _as_protect_does(run, name, list(jobs.values()), folder, targets)
    elif jobs:
        _pasted(run, name, list(jobs.values()), folder, targets)
    return [folder / output for output in outputs]


def _as_protect_does(
    run: Run, name: Name, jobs: Sequence[Job], folder: Path, targets: Targets
) -> None:
    settings = name.settings(run.presets)._replace(batch_size=run.batch_size, seed=run.seed)
    made = engine.build(name.surrogates, targets, settings)
    models = Models(partial(find, yunet.load()), made, [])
    done = protect_photos(models, jobs, folder, ENCODING, pictures=False)
    for result in tqdm(done, desc=name.text, total=len(jobs), unit="photo", disable=None):
        if problem := result.error or result.faceless:
            raise UserError(f"{name.text} of {result.source}: {problem}; leave the photo out")


def _pasted(run: Run, name: Name, jobs: Sequence[Job], folder: Path, targets: Targets) -> None:
    labelled = dataset.Labelled(tuple(job.source for job in jobs), ("",) * len(jobs))
    faces = dataset.faces(labelled, run.cache)
    subjects = Subjects(faces, targets.names, targets.embeddings)
    make = specs.maker(name, subjects, run.batch_size, run.seed, run.presets)
    detector = yunet.load()
    size = name.batch or run.batch_size
    for start in tqdm(range(0, len(jobs), size), desc=name.text, unit="part", disable=None):
        indices = np.arange(start, min(start + size, len(jobs)))
        for i, canvases in zip(indices, make(indices), strict=True):
            photo = read_photo(jobs[i].source)
            matrix = main_face(detector, photo.pixels).matrix
            mask = canvases[0].astype(np.float32) - faces.canvases[i]
            pasted = paste(photo.pixels, [FaceMask(mask @ photo.colours, matrix)], CAP)
            file, _ = encode(photo, pasted, **ENCODING._asdict())
            write_atomically(folder / jobs[i].output, file)
