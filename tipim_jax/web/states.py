"""The state of a tab as JSON: everything that its page shows."""

from typing import Any

from tipim_jax.web.session import Album, Shot
from tipim_jax.web.worker import DONE, RUNNING, WAITING, Job, Worker


def album_state(album: Album, worker: Worker) -> dict[str, Any]:
    """The state of a tab.

    Args:
      album: of the tab.
      worker: that computes for it.
    """
    return {
        "loading": worker.phase,
        "error": worker.error,
        "photos": [_shot(shot) for shot in list(album.shots.values())],
        "previews": [
            {"photo": photo, "face": face, "strength": strength, "format": format}
            | {"result": result if job.state == DONE else None, **_job(job, worker)}
            for (photo, face, strength, format), (job, result) in list(album.previews.items())
        ],
        "run": None if album.run is None else _job(album.run, worker),
        "results": album.results,
        "search": None if album.search is None else _job(album.search, worker),
        "found": album.found,
        "busy": any(not job.over for job in album.jobs),
    }


def _shot(shot: Shot) -> dict[str, Any]:
    looking = shot.looking is None or not shot.looking.over
    error = shot.error or (shot.looking.error if shot.looking else "")
    return {
        "id": shot.id,
        "name": shot.name,
        "role": shot.role,
        "bytes": shot.bytes,
        "looking": looking,
        "error": error,
        "width": shot.width,
        "height": shot.height,
        "faces": [
            {**face._asdict(), "box": [round(value, 1) for value in face.box]}
            for face in shot.faces
        ],
    }


def _job(job: Job, worker: Worker) -> dict[str, Any]:
    left = job.seconds_left(worker.usual)
    return {
        "state": job.state,
        "unwanted": job.unwanted,
        "error": job.error,
        "ahead": worker.ahead(job) if job.state == WAITING else 0,
        "faces": job.faces,
        "masked": job.progress.masked,
        "left": None if left is None or job.state != RUNNING else round(left, 1),
    }
