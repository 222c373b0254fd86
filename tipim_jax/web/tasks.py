"""What the page asks for, done by the library: look at a photo, preview, protect, look up."""

import contextlib
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ports import zoo
from tipim_jax.errors import UserError
from tipim_jax.photos import engine, targets, verify
from tipim_jax.photos import faces as find_faces
from tipim_jax.photos.check import look_up
from tipim_jax.photos.decode import decode
from tipim_jax.photos.faces import located
from tipim_jax.photos.finish import Encoding, Finished
from tipim_jax.photos.folders import output_names
from tipim_jax.photos.gallery import Gallery
from tipim_jax.photos.photo import Photo, PhotoError
from tipim_jax.photos.presets import PRESETS, Settings
from tipim_jax.photos.protect import Models, Outcome, Progress, protect_stream
from tipim_jax.web import verdict
from tipim_jax.web.session import Album, Missing, Shot, Spot
from tipim_jax.web.worker import Job, Load, Tools, Worker, fault

THUMB, CHIP = 720, 128  # pixels of the longer side of a thumbnail, and of the picture of a face
_MARGIN = 0.45  # of a face's size, shown around it
_PERSON = "person"  # the name of the one who is looked for


def loader(surrogates: Sequence[str] = zoo.SURROGATES, **changed: Any) -> Load:
    """Makes what loads the tools of `tipim protect`: the finder at once, the rest while photos come in.

    Args:
      surrogates: the recognisers that masks are made on.
      changed: settings that are not those of the presets.
    """

    def load(told: Callable[[str], None]) -> Tools:
        rest: Future[tuple[Sequence[verify.Verifier], dict[str, engine.Engine]]] = Future()

        def work() -> None:
            try:
                rest.set_result(load_rest(told))
            except BaseException as error:
                rest.set_exception(error)
            finally:
                told("")

        # Like the worker's thread: nobody can interrupt it.
        threading.Thread(target=work, name="tipim loader", daemon=True).start()
        return Tools(
            find_faces.finder(), lambda: rest.result()[0], lambda name: rest.result()[1][name]
        )

    def load_rest(
        told: Callable[[str], None],
    ) -> tuple[Sequence[verify.Verifier], dict[str, engine.Engine]]:
        settings = {name: preset._replace(**changed) for name, preset in PRESETS.items()}
        made = engine.build(surrogates, targets.built_in(), settings["medium"], photos=1, told=told)
        told("loading recognisers")
        judges = verify.ready(verify.verifiers())
        # One program serves all strengths: what tells them apart is among its arguments.
        return judges, {name: _with_settings(made, s) for name, s in settings.items()}

    return load


def _with_settings(made: engine.Engine, settings: Settings) -> engine.Engine:
    return made._replace(settings=settings._replace(precision=made.settings.precision))


def look(shot: Shot, job: Job, tools: Tools) -> None:
    """Finds the faces of a photo and makes its thumbnail, or notes why it cannot be used."""
    try:
        photo = read(shot)
    except PhotoError as error:
        shot.error = str(error)
        return
    found = located(tools.find(photo.pixels), photo.pixels.shape)
    _save(photo.pixels, shot.folder / "thumb", THUMB)
    for one in found:
        _save(_crop(photo.pixels, one.face.box, 0.15), shot.folder / f"face-{one.number}", CHIP)
    shot.height, shot.width = photo.pixels.shape[:2]
    shot.faces = tuple(Spot(one.number, one.place, one.face.box, one.face.small) for one in found)


def preview(
    worker: Worker,
    shot: Shot,
    number: int,
    strength: str,
    encoding: Encoding,
    result: dict[str, Any],
    job: Job,
    tools: Tools,
) -> None:
    """Protects one face of a photo, as it would be protected if it were alone.

    Args:
      worker: is told of the progress.
      shot: the photo.
      number: of the face, from 1.
      strength: a key of `presets.PRESETS`.
      encoding: of the file.
      result: filled with what the page shows.
      job: this one.
      tools: what to compute with.
    """
    photo = read(shot)
    [outcome] = protect_stream(
        Models(tools.find, tools.engine(strength), tools.judges()),
        [(shot, lambda: photo)],
        encoding,
        choose=lambda _: lambda faces: {number - 1},
        asked=1,
        told=lambda progress: worker.progressed(job, progress),
    )
    if outcome.error is not None:
        raise outcome.error
    if outcome.finished is None:
        raise UserError(outcome.faceless)
    done = outcome.finished
    face = done.faces[number - 1]
    name = f"preview-{number}-{strength}-{encoding.format or 'own'}"
    _save_pair(photo.pixels, done.pixels, face.box, shot.folder, name)
    result.update(verdict.describe(face, number))


def protect(
    worker: Worker,
    album: Album,
    chosen: Mapping[str, Collection[int]],
    strength: str,
    encoding: Encoding,
    job: Job,
    tools: Tools,
) -> None:
    """Protects photos of a tab together, as `tipim protect` does with the same photos.

    Args:
      worker: is told of the progress.
      album: of the tab; its results are filled.
      chosen: id of each photo, in order -> the numbers of the faces to protect, from 1.
      strength: a key of `presets.PRESETS`.
      encoding: of the files.
      job: this one.
      tools: what to compute with.

    Raises:
      Cancelled: as `Worker.progressed`.
    """
    shots = [album.shots[id] for id in chosen if id in album.shots]
    names = output_names([shot.name for shot in shots], encoding.format)
    outputs = {shot.id: name for shot, name in zip(shots, names, strict=True)}
    originals: dict[str, np.ndarray] = {}

    def get(shot: Shot) -> Photo:
        photo = read(shot)
        originals[shot.id] = photo.pixels
        return photo

    def told(progress: Progress) -> None:
        worker.progressed(job, progress)

    stream = protect_stream(
        Models(tools.find, tools.engine(strength), tools.judges()),
        [(shot, partial(get, shot)) for shot in shots],
        encoding,
        choose=lambda shot: lambda faces: {number - 1 for number in chosen[shot.id]},
        asked=len(shots),
        told=told,
    )
    for outcome in stream:
        shot = outcome.key
        before = originals.pop(shot.id, None)
        result = _result(outcome, outputs[shot.id])
        with contextlib.suppress(Missing):  # it was removed meanwhile
            if outcome.finished is not None and before is not None:
                _write(shot, before, outcome.finished)
            if shot.id in album.shots:
                album.results[shot.id] = result


def _result(outcome: Outcome[Shot], output: str) -> dict[str, Any]:
    """What the page shows of a photo that is done, as JSON."""
    shot, done, error = outcome.key, outcome.finished, outcome.error
    if error is not None:
        text = str(error) if isinstance(error, UserError) else fault(error)
        return {"error": text, "faces": []}
    if done is None:
        return {"error": outcome.faceless, "faces": []}
    renamed = Path(output).stem not in (Path(shot.name).stem, shot.name)
    note = [f"saved as {output}, since another photo has its name"] if renamed else []
    return {
        "error": "",
        "output": output,
        "bytes": len(done.data),
        "notes": [*note, *done.notes],
        "faces": [verdict.describe(face, i) for i, face in enumerate(done.faces, 1)],
    }


def _write(shot: Shot, before: np.ndarray, done: Finished) -> None:
    try:
        (shot.folder / "result").write_bytes(done.data)
        for number, face in enumerate(done.faces, 1):
            if not face.skipped:
                _save_pair(before, done.pixels, face.box, shot.folder, f"face-{number}")
    except FileNotFoundError:
        raise Missing(f"{shot.name} was removed") from None


def search(album: Album, job: Job, tools: Tools) -> None:
    """Looks up the faces of photos among other photos of one person, and fills the tab's `found`."""
    notes: list[str] = []
    canvases, files = [], []
    for shot in album.with_role("known"):
        if shot.error:
            continue
        faces = [face for face in tools.find(read(shot).pixels) if not face.small]
        if faces:
            canvases.append(faces[0].canvas)
            files.append(shot.file.read_bytes())
        else:
            notes.append(f"{shot.name} shows no face that is large enough")
    if not canvases:
        raise UserError("no photo of the person shows a face to compare with; add another one")
    judges = tools.judges()
    embedded = {judge.name: verify.embed_canvases(judge, np.stack(canvases)) for judge in judges}
    photos: dict[str, Any] = {}
    for shot in album.with_role("check"):
        if shot.error:
            continue
        data = shot.file.read_bytes()
        kept = [i for i, file in enumerate(files) if file != data]
        if len(kept) < len(files):
            notes.append(
                f"{shot.name} is among the photos of the person; it is not compared with itself"
            )
        if not kept:
            photos[shot.id] = {"error": "there is no other photo of the person", "faces": []}
            continue
        gallery = Gallery(
            (_PERSON,),
            np.zeros(len(kept), int),
            tuple(Path(str(i)) for i in kept),
            {name: rows[kept] for name, rows in embedded.items()},
            (),
        )
        found = look_up(read(shot).pixels, None, gallery, tools.find, judges)
        faces_found = verdict.describe_search(found, _PERSON)
        error = "" if faces_found else "; ".join(found.notes)
        photos[shot.id] = {"error": error, "faces": faces_found}
    album.found = {"photos": photos, "notes": notes, "known": len(canvases)}


def read(shot: Shot) -> Photo:
    """The photo, which errors call by its own name.

    Raises:
      PhotoError: as `decode`.
      Missing: it was removed.
    """
    try:
        with shot.file.open("rb") as file:
            return decode(file, shot.name)
    except FileNotFoundError:
        raise Missing(f"{shot.name} was removed") from None


def _crop(pixels: np.ndarray, box: tuple[float, float, float, float], margin: float) -> np.ndarray:
    left, top, width, height = box
    reach = margin * max(width, height)
    x, y = max(0, int(left - reach)), max(0, int(top - reach))
    right, bottom = int(left + width + reach) + 1, int(top + height + reach) + 1
    return pixels[y:bottom, x:right]


def _save_pair(
    before: np.ndarray,
    after: np.ndarray,
    box: tuple[float, float, float, float],
    folder: Path,
    name: str,
) -> None:
    """Saves a face before and after without loss, at its own resolution."""
    for when, pixels in (("before", before), ("after", after)):
        picture = Image.fromarray(np.ascontiguousarray(_crop(pixels, box, _MARGIN)))
        picture.save(folder / f"{name}-{when}", "PNG", compress_level=1)


def _save(pixels: np.ndarray, path: Path, longest: int) -> None:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    picture.save(path, "JPEG", quality=88)
