"""A server that computes next to nothing: a small network, and photos of noise (see `tests/bulk/world.py`)."""

import contextlib
import io
import time
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.bulk import world
from tipim_jax.photos.presets import PRESETS
from tipim_jax.web.access import HEADER, Access
from tipim_jax.web.app import make_app
from tipim_jax.web.session import Limits, Session
from tipim_jax.web.worker import Tools, Worker

PORT = 8123
TOKEN = "a-token-of-the-tests"
HOME = f"http://127.0.0.1:{PORT}"
LIMITS = Limits(photo=3 * 2**20, photos=30, total=20 * 2**20, tabs=200)


def engine(strength: str):
    """The small engine, more steps for more strength."""
    made = world.small_engine(1)
    steps = 1 + list(PRESETS).index(strength)
    return made._replace(settings=made.settings._replace(steps=steps))


TOOLS = Tools(world.find, lambda: [world.judge()], engine)


def load(told) -> Tools:
    told("")
    return TOOLS


class Served(NamedTuple):
    """A server, and a client that it lets in."""

    client: TestClient
    session: Session
    worker: Worker
    access: Access


@contextlib.contextmanager
def serving(load, limits=LIMITS):
    worker = Worker(load)
    with Session(limits) as session:
        access = Access("127.0.0.1", PORT, TOKEN)
        app = make_app(session, worker, access)
        worker.start()
        with TestClient(app, base_url=HOME, headers={HEADER: TOKEN}) as client:
            yield Served(client, session, worker, access)
        assert worker.stop(60)


@pytest.fixture(scope="module")
def server():
    with serving(load) as served:
        yield served


def picture(number: int = 0, width: int = 64, format: str = "PNG") -> bytes:
    """A photo of noise; the finder sees one face in it, two if it is wide."""
    pixels = np.random.default_rng(number).integers(60, 200, (64, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def nobody() -> bytes:
    """A photo without a face."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


class Tab:
    """What a page does, without a page."""

    def __init__(self, served: Served) -> None:
        self.client = served.client
        self.base = f"/api/albums/{self.client.post('/api/albums').json()['album']}"

    def upload(self, name: str, data: bytes, role: str = "protect"):
        return self.client.post(
            f"{self.base}/photos", params={"name": name, "role": role}, content=data
        )

    def add(self, name: str, data: bytes, role: str = "protect") -> dict:
        """Uploads a photo and returns what became of it."""
        answer = self.upload(name, data, role)
        assert answer.status_code == 201, answer.text
        photos = self.settled()["photos"]
        return next(photo for photo in photos if photo["id"] == answer.json()["photo"])

    def state(self) -> dict:
        return self.client.get(self.base).json()

    def settled(self) -> dict:
        """The state once nothing is being done."""
        for _ in range(15_000):
            state = self.state()
            if not state["busy"] and not state["loading"]:
                return state
            time.sleep(0.02)
        raise TimeoutError(state)

    def run(self, faces: dict, **asked):
        return self.client.post(f"{self.base}/run", json={"faces": faces, **asked})

    def download(self, photo: dict):
        return self.client.get(f"{self.base}/photos/{photo['id']}/result")


@pytest.fixture
def tab(server):
    return Tab(server)
