"""The routes of the page: everything it shows and asks for."""

import json
import tempfile
import zipfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tipim_jax.errors import UserError
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.formats import FORMATS, check_quality, format_named, known
from tipim_jax.photos.presets import PRESETS
from tipim_jax.web import tasks
from tipim_jax.web.access import Access, Guard
from tipim_jax.web.session import ROLES, Album, Missing, Session, Shot, TooMuch
from tipim_jax.web.states import album_state
from tipim_jax.web.worker import Job, Worker

STATIC = Path(__file__).parent / "static"
_LONGEST_BODY = 2**20  # bytes of what is no photo
_NO_PHOTO = (
    'application/octet-stream; charset="binary"'  # never shown by a browser, whatever is in it
)


def make_app(session: Session, worker: Worker, access: Access) -> Starlette:
    """Makes the server of a session.

    Args:
      session: where photos are kept.
      worker: computes; started by the caller.
      access: who may speak to it.
    """
    pages = _Pages(session, worker)
    a = "/api/albums/{album}"
    p = a + "/photos/{photo}"
    routes = [
        Route("/", pages.page),
        Mount("/static", StaticFiles(directory=STATIC)),
        Route("/api/about", pages.about),
        Route("/api/albums", pages.open, methods=["POST"]),
        Route(a, pages.state),
        Route(a + "/photos", pages.upload, methods=["POST"]),
        Route(p, pages.remove, methods=["DELETE"]),
        Route(p + "/pictures/{name}", pages.picture),
        Route(p + "/result", pages.result),
        Route(a + "/preview", pages.preview, methods=["POST"]),
        Route(a + "/run", pages.run, methods=["POST"]),
        Route(a + "/run", pages.cancel, methods=["DELETE"]),
        Route(a + "/search", pages.search, methods=["POST"]),
        Route(a + "/zip", pages.zip),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={UserError: _refuse, ClientDisconnect: _gone},
    )


class _Pages:
    """The answers; each takes a request."""

    def __init__(self, session: Session, worker: Worker) -> None:
        self.held, self.worker = session, worker

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def about(self, request: Request) -> Response:
        formats = {
            key: format.name for key, format in FORMATS.items() if format.modes and key != "BMP"
        }
        limits = self.held.limits
        return JSONResponse(
            {
                "strengths": list(PRESETS),
                "formats": formats,
                "known": known(),
                "photo_bytes": limits.photo,
                "photos": limits.photos,
            }
        )

    async def open(self, request: Request) -> Response:
        return JSONResponse({"album": self.held.open().id}, 201)

    async def state(self, request: Request) -> Response:
        return JSONResponse(album_state(self._album(request), self.worker))

    async def upload(self, request: Request) -> Response:
        album = self._album(request)
        name, role = request.query_params.get("name", ""), request.query_params.get("role")
        if role not in ROLES:
            raise UserError(f"role is one of {', '.join(ROLES)}")
        length = request.headers.get("content-length", "")
        if length.isdigit():
            self.held.check_room(album, name, int(length))
        shot = await self.held.add(album, name, role, request.stream())
        shot.looking = Job(partial(tasks.look, shot), quick=True)
        self.worker.submit(shot.looking)
        return JSONResponse({"photo": shot.id}, 201)

    async def remove(self, request: Request) -> Response:
        album, shot = self._shot(request)
        await run_in_threadpool(self.held.remove, album, shot)
        return Response(status_code=204)

    async def picture(self, request: Request) -> Response:
        _, shot = self._shot(request)
        name = request.path_params["name"]
        if not _names_picture(name):
            raise Missing("there is no such picture")
        kind = "image/png" if name.endswith(("-before", "-after")) else "image/jpeg"
        return _file(shot.folder / name, kind)

    async def result(self, request: Request) -> Response:
        album, shot = self._shot(request)
        output = album.results.get(shot.id, {}).get("output")
        if output is None:
            raise Missing("this photo is not protected yet")
        return _file(shot.folder / "result", _NO_PHOTO, output)

    async def preview(self, request: Request) -> Response:
        album = self._album(request)
        asked = await _read_json(request)
        shot = self.held.shot(album, str(asked.get("photo")))
        strength, encoding = _strength(asked), _encoding(asked)
        number = asked.get("face")
        if number not in [face.number for face in shot.faces if not face.small]:
            raise UserError("choose a face that is large enough")
        key = (shot.id, number, strength, encoding.format or "own")
        known_one = album.previews.get(key)
        if known_one is None or known_one[0].error or known_one[0].unwanted:
            for job, _ in album.previews.values():
                if not job.over:
                    job.cancel()  # only what was asked for last is looked at
            result: dict[str, Any] = {}
            act = partial(tasks.preview, self.worker, shot, number, strength, encoding, result)
            album.previews[key] = (Job(act, quick=True, faces=1), result)
            self.worker.submit(album.previews[key][0])
        return JSONResponse({}, 202)

    async def run(self, request: Request) -> Response:
        album = self._album(request)
        if album.run is not None and not album.run.over and not album.run.unwanted:
            raise UserError("these photos are being protected already")
        asked = await _read_json(request)
        strength, encoding = _strength(asked), _encoding(asked)
        wanted = asked.get("faces")
        if not isinstance(wanted, dict):
            raise UserError("faces is an object: id of a photo -> numbers of its faces")
        shots = [
            shot for shot in album.with_role("protect") if shot.id in wanted and not shot.error
        ]
        chosen = {shot.id: _numbers(wanted[shot.id]) for shot in shots}
        faces = sum(
            face.number in chosen[shot.id] and not face.small
            for shot in shots
            for face in shot.faces
        )
        if not faces:
            raise UserError("no face is chosen; nothing to protect")
        album.results = {}
        act = partial(tasks.protect, self.worker, album, chosen, strength, encoding)
        album.run = self.worker.submit(Job(act, quick=False, faces=faces))
        return JSONResponse({}, 202)

    async def cancel(self, request: Request) -> Response:
        album = self._album(request)
        if album.run is not None:
            album.run.cancel()
        return JSONResponse({}, 202)

    async def search(self, request: Request) -> Response:
        album = self._album(request)
        if album.search is not None and not album.search.over:
            raise UserError("these photos are being looked up already")
        album.found = {}
        album.search = self.worker.submit(Job(partial(tasks.search, album), quick=True))
        return JSONResponse({}, 202)

    async def zip(self, request: Request) -> Response:
        album = self._album(request)
        done = [
            (shot.folder / "result", album.results[shot.id]["output"])
            for shot in album.with_role("protect")
            if album.results.get(shot.id, {}).get("output")
        ]
        if not done:
            raise Missing("no photo is protected yet")
        path = await run_in_threadpool(_zip, done, self.held.folder)
        return _file(path, "application/zip", "protected.zip", once=True)

    def _album(self, request: Request) -> Album:
        return self.held.album(request.path_params["album"])

    def _shot(self, request: Request) -> tuple[Album, Shot]:
        album = self._album(request)
        return album, self.held.shot(album, request.path_params["photo"])


def _names_picture(name: str) -> bool:
    """Whether this is the name of a picture that `tasks` makes, and of nothing else."""
    first, *rest = name.split("-")
    return name == "thumb" or (
        first in ("face", "preview") and all(part.isalnum() for part in rest)
    )


def _file(path: Path, kind: str, download: str = "", *, once: bool = False) -> Response:
    if not path.is_file():
        raise Missing("there is no such file any more")
    headers = {}
    if download:
        plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in download)
        headers["Content-Disposition"] = (
            f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(download, safe='')}"
        )
    remove = BackgroundTask(path.unlink, missing_ok=True) if once else None
    return FileResponse(path, media_type=kind, headers=headers, background=remove)


def _zip(files: list[tuple[Path, str]], folder: Path) -> Path:
    with (
        tempfile.NamedTemporaryFile(dir=folder, suffix=".zip", delete=False) as file,
        zipfile.ZipFile(file, "w") as archive,  # photos are compressed already
    ):
        for path, name in files:
            # Without the time, which would say when the photo was protected.
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return Path(file.name)


async def _read_json(request: Request) -> dict[str, Any]:
    body = b""
    async for part in _limited(request.stream()):
        body += part
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError("the request is no JSON object")
    return value


async def _limited(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for part in parts:
        size += len(part)
        if size > _LONGEST_BODY:
            raise TooMuch("the request is too long")
        yield part


def _strength(asked: dict[str, Any]) -> str:
    strength = asked.get("strength", "medium")
    if strength not in PRESETS:
        raise UserError(f"strength is one of {', '.join(PRESETS)}")
    return str(strength)


def _encoding(asked: dict[str, Any]) -> Encoding:
    format, quality = asked.get("format") or None, asked.get("quality", Encoding().quality)
    if type(quality) is not int:
        raise UserError("quality is a whole number")
    named = None if format is None else format_named(str(format))
    return Encoding(named, check_quality(quality), asked.get("keep_metadata") is True)


def _numbers(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise UserError("the faces of a photo are a list of numbers")
    return frozenset(value)


async def _refuse(request: Request, error: Exception) -> Response:
    kinds: dict[type[Exception], int] = {Missing: 404, TooMuch: 413}
    # What is left of an upload that is refused need not be read.
    headers = {"Connection": "close"} if isinstance(error, TooMuch) else None
    return JSONResponse({"error": str(error)}, kinds.get(type(error), 400), headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)
