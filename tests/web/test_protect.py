"""What the page asks for: looking at photos, previews, protection, downloads, and who would be found."""

import errno
import io
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import album as albums
from tests.web.conftest import LIMITS, TOOLS, Tab, engine, load, nobody, picture, serving
from tipim_jax.errors import UserError
from tipim_jax.photos.files import read_photo
from tipim_jax.photos.finish import Encoding
from tipim_jax.photos.folders import discover
from tipim_jax.photos.photo import PhotoError
from tipim_jax.photos.protect import Models
from tipim_jax.photos.saving import protect_photos
from tipim_jax.web import tasks


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album") / "all"
    albums.write(folder)
    return folder


def image(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_faces_of_a_photo_are_found_and_shown(tab, server):
    photo = tab.add("two.png", picture(1, 128))
    assert (photo["error"], photo["width"], photo["height"]) == ("", 128, 64)
    assert [(face["number"], face["place"], face["small"]) for face in photo["faces"]] == [
        (1, "left", False),
        (2, "right", False),
    ]
    base = f"{tab.base}/photos/{photo['id']}/pictures"
    for name, size in (("thumb", (64, 128)), ("face-1", (66, 66))):
        shown = server.client.get(f"{base}/{name}")
        assert shown.headers["content-type"] == "image/jpeg"
        assert image(shown.content).shape[0] <= size[1]


@pytest.mark.parametrize("name", albums.BAD)
def test_what_is_no_photo_is_refused_in_the_words_of_the_command(tab, bad, name):
    path = bad / name
    with pytest.raises(PhotoError) as told:
        read_photo(path)
    photo = tab.add(path.name, path.read_bytes())
    assert photo["error"] == str(told.value).replace(str(path), path.name)
    assert tab.run({photo["id"]: [1]}).json() == {"error": "no face is chosen; nothing to protect"}


def test_a_film_is_referred_to_the_command(tab):
    photo = tab.add("clip.MP4", b"\0\0\0\x18ftypmp42" + bytes(100))
    assert photo["error"] == (
        "clip.MP4 is a film; protect it with `tipim protect`, or save one picture"
    )


def test_a_photo_without_a_face_says_so_in_the_words_of_the_command(tab):
    empty, one = tab.add("empty.png", nobody()), tab.add("one.png", picture())
    assert (empty["faces"], empty["error"]) == ([], "")
    assert tab.run({empty["id"]: [], one["id"]: [1]}).status_code == 202
    results = tab.settled()["results"]
    assert results[empty["id"]]["error"] == "no face was found; nothing to protect"
    assert results[one["id"]]["error"] == ""
    assert tab.download(empty).json() == {"error": "this photo is not protected yet"}


@pytest.mark.parametrize("strength", ["low", "high"])
@pytest.mark.parametrize("encoding", [Encoding(), Encoding("webp", 80, True)])
def test_downloads_are_what_the_command_writes(tab, tmp_path, strength, encoding):
    given = {"a.png": picture(1), "b.jpg": picture(2, 128, "JPEG"), "c.png": nobody()}
    photos = [tab.add(name, data) for name, data in given.items()]
    for name, data in given.items():
        (tmp_path / name).write_bytes(data)
    wanted = {photo["id"]: [face["number"] for face in photo["faces"]] for photo in photos}
    assert tab.run(wanted, strength=strength, **encoding._asdict()).status_code == 202
    results = tab.settled()["results"]

    models = Models(TOOLS.find, engine(strength), TOOLS.judges())
    jobs = discover(
        [tmp_path / name for name in given], tmp_path / "out", format=encoding.format
    ).jobs
    expected = list(protect_photos(models, jobs, tmp_path / "out", encoding))
    written = {done.output.name: done.output.read_bytes() for done in expected if done.output}
    assert len(written) == 2
    for photo, done in zip(photos, expected, strict=True):
        if done.output is None:
            continue
        answer = tab.download(photo)
        assert results[photo["id"]]["output"] == done.output.name
        assert answer.content == written[done.output.name]
        assert done.output.name in answer.headers["content-disposition"]
        assert answer.headers["content-disposition"].startswith("attachment")
    archive = zipfile.ZipFile(io.BytesIO(tab.client.get(f"{tab.base}/zip").content))
    assert {name: archive.read(name) for name in archive.namelist()} == written


def test_only_chosen_faces_change_and_the_pictures_show_the_file(tab):
    data = picture(3, 128)
    photo = tab.add("two.png", data)
    tab.run({photo["id"]: [2]})
    result = tab.settled()["results"][photo["id"]]
    assert [face["skipped"] for face in result["faces"]] == ["not chosen", ""]
    before, after = image(data), image(tab.download(photo).content)
    assert (before[:, :58] == after[:, :58]).all()
    assert (before != after).any()
    get = lambda when: image(  # noqa: E731
        tab.client.get(f"{tab.base}/photos/{photo['id']}/pictures/face-2-{when}").content
    )
    left = 128 - get("after").shape[1]
    np.testing.assert_array_equal(get("after"), after[: get("after").shape[0], left:])
    np.testing.assert_array_equal(get("before"), before[: get("after").shape[0], left:])


def test_a_preview_shows_what_the_run_makes_of_a_single_face(tab):
    photo = tab.add("one.png", picture(4))
    asked = {"photo": photo["id"], "face": 1, "strength": "high"}
    pictures = f"{tab.base}/photos/{photo['id']}/pictures"
    assert tab.client.post(f"{tab.base}/preview", json=asked).status_code == 202
    [preview] = tab.settled()["previews"]
    assert preview["state"] == "done"
    assert preview["result"]["verdict"]
    shown = tab.client.get(f"{pictures}/preview-1-high-own-after").content
    tab.run({photo["id"]: [1]}, strength="high")
    tab.settled()
    assert shown == tab.client.get(f"{pictures}/face-1-after").content
    asked["face"] = 7
    answer = tab.client.post(f"{tab.base}/preview", json=asked)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "choose a face that is large enough",
    )


def test_names_are_those_of_the_command_whatever_the_browser_says(tab):
    names = [
        "../../etc/passwd.png",
        "C:\\photos\\a.png",
        "a.png",
        "A.PNG",
        "ü:\x00\n.png",
        "..",
        "/",
    ]
    photos = [tab.add(name, picture(i)) for i, name in enumerate(names)]
    assert [photo["name"] for photo in photos] == [
        *("passwd.png", "a.png", "a.png", "A.PNG", "ü_.png", "photo", "photo")
    ]
    tab.run({photo["id"]: [1] for photo in photos})
    results = tab.settled()["results"]
    outputs = [results[photo["id"]]["output"] for photo in photos]
    assert outputs == [*("passwd.png", "a.png", "a-2.png", "A-3.PNG", "ü_.png", "photo", "photo-2")]
    note = "saved as a-2.png, since another photo has its name"
    assert note in results[photos[2]["id"]]["notes"]
    with zipfile.ZipFile(io.BytesIO(tab.client.get(f"{tab.base}/zip").content)) as archive:
        assert archive.namelist() == outputs


def test_limits_are_told(tab):
    large = tab.upload("large.png", bytes(LIMITS.photo + 1))
    assert (large.status_code, large.json()["error"]) == (
        413,
        "large.png is larger than 3 MB; make it smaller",
    )
    parts = iter([bytes(2**20)] * 4)  # without a length that could be trusted
    assert tab.upload("stream.png", parts).status_code == 413
    assert tab.state()["photos"] == []


def test_a_full_disk_is_told_and_nothing_is_left(tab, server, monkeypatch):
    before = set(server.session.folder.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(full))
    answer = tab.upload("a.png", picture())
    assert answer.json() == {
        "error": "a.png cannot be kept (No space left on device); make room on the disk"
    }
    assert set(server.session.folder.iterdir()) == before


class Full(io.BytesIO):
    """A file on a disk that is full."""

    def __init__(self, write) -> None:
        super().__init__()
        self.write = write


def test_many_photos_and_tabs_are_too_many():
    with serving(load, LIMITS._replace(photos=2, tabs=2, forgotten=0.0)) as served:
        tab = Tab(served)
        first = [tab.add(f"{i}.png", picture(i)) for i in range(2)]
        assert tab.upload("c.png", picture()).json()["error"] == (
            "2 photos are here already; remove some first"
        )
        assert tab.client.delete(f"{tab.base}/photos/{first[0]['id']}").status_code == 204
        assert tab.upload("c.png", picture()).status_code == 201
        tab.settled()
        others = [Tab(served) for _ in range(2)]  # who is silent makes room
        assert tab.client.get(tab.base).status_code == 404
        assert others[1].state()["photos"] == []
        folders = [path for path in served.session.folder.iterdir() if path.is_dir()]
        assert folders == []


def test_removed_photos_leave_nothing(tab, server):
    photo = tab.add("one.png", picture())
    folder = server.session.folder / photo["id"]
    assert folder.is_dir()
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    tab.client.delete(f"{tab.base}/photos/{photo['id']}")
    assert not folder.exists()
    assert tab.download(photo).json() == {"error": "this photo was removed"}


def test_several_tabs_queue_and_one_can_give_up():
    going, go_on = threading.Event(), threading.Event()

    def slow(strength):
        going.set()
        assert go_on.wait(600)
        return engine(strength)

    with serving(lambda told: load(told)._replace(engine=slow)) as served:
        tabs = [Tab(served) for _ in range(3)]
        photos = [tab.add("one.png", picture(i)) for i, tab in enumerate(tabs)]
        for tab, photo in zip(tabs, photos, strict=True):
            tab.run({photo["id"]: [1]})
        assert going.wait(600)
        runs = [tab.state()["run"] for tab in tabs]
        assert [run["state"] for run in runs] == ["running", "waiting", "waiting"]
        assert [run["ahead"] for run in runs] == [0, 1, 2]
        again = tabs[1].run({photos[1]["id"]: [1]})
        assert again.json()["error"] == "these photos are being protected already"
        tabs[1].client.delete(f"{tabs[1].base}/run")
        tabs[0].client.delete(f"{tabs[0].base}/run")
        assert tabs[2].state()["run"]["ahead"] == 1
        go_on.set()
        states = [tab.settled() for tab in tabs]
        assert [state["run"]["state"] for state in states] == ["cancelled", "cancelled", "done"]
        assert states[0]["results"] == {}


def test_quick_things_do_not_wait_for_a_long_run_to_end():
    seen = []
    with serving(load) as served:
        tab, other = Tab(served), Tab(served)
        photos = [tab.add(f"{i}.png", picture(i, 128)) for i in range(12)]
        find = served.worker._tools.find

        def noted(pixels):
            seen.append(pixels.shape)
            if len(seen) == 2:  # the run is under way
                other.upload("late.png", picture(99, 200))
            return find(pixels)

        served.worker._tools = served.worker._tools._replace(find=noted)
        tab.run({photo["id"]: [1, 2] for photo in photos})
        tab.settled()
        assert seen.index((64, 200, 3)) < len(seen) - 3


def test_faults_of_the_program_are_told_and_the_next_job_goes_on(capsys):
    def broken(strength):
        raise TypeError("a shape")

    with serving(lambda told: load(told)._replace(engine=broken)) as served:
        tab = Tab(served)
        photo = tab.add("one.png", picture())
        tab.run({photo["id"]: [1]})
        assert tab.settled()["run"]["error"].startswith("the program failed (TypeError: a shape)")
        assert tab.add("two.png", picture(1))["error"] == ""
    assert "TypeError: a shape" in capsys.readouterr().err


def test_a_fault_on_one_photo_is_that_photos_alone(tab, monkeypatch, capsys):
    bad, good = tab.add("bad.png", picture(2)), tab.add("good.png", picture(3))
    read = tasks.read

    def failing(shot):
        if shot.name == "bad.png":
            raise TypeError("a shape")
        return read(shot)

    monkeypatch.setattr(tasks, "read", failing)
    tab.run({bad["id"]: [1], good["id"]: [1]})
    results = tab.settled()["results"]
    assert results[bad["id"]]["error"].startswith("the program failed (TypeError: a shape)")
    assert results[good["id"]]["error"] == ""
    assert "TypeError: a shape" in capsys.readouterr().err


def test_models_that_cannot_be_loaded_are_told():
    def refuse(told):
        raise PhotoError("no calibrated recogniser is here to ask")

    with serving(refuse) as served:
        assert Tab(served).settled()["error"] == "no calibrated recogniser is here to ask"


def test_faces_are_found_while_the_rest_is_loaded(monkeypatch):
    loaded = threading.Event()

    def build(*_, **__):
        assert loaded.wait(600)
        raise UserError("frfeat is not here")

    monkeypatch.setattr(tasks.engine, "build", build)
    with serving(tasks.loader(["frfeat"])) as served:
        tab = Tab(served)
        assert tab.upload("a.jpg", albums_face()).status_code == 201
        for _ in range(3000):
            state = tab.state()
            if not state["busy"]:
                break
            time.sleep(0.02)
        [photo] = state["photos"]
        assert len(photo["faces"]) == 1
        assert state["loading"]
        tab.run({photo["id"]: [1]})
        loaded.set()
        assert tab.settled()["run"]["error"] == "frfeat is not here"


def albums_face() -> bytes:
    buffer = io.BytesIO()
    albums.face().save(buffer, "JPEG")
    return buffer.getvalue()


def test_who_would_find_a_person(tab):
    same, other = picture(5), picture(6, 128)
    asked = tab.add("asked.png", same, "check")
    tab.add("nobody.png", nobody(), "known")
    search = partial(tab.client.post, f"{tab.base}/search")
    search()
    assert tab.settled()["search"]["error"] == (
        "no photo of the person shows a face to compare with; add another one"
    )
    tab.add("itself.png", same, "known")
    search()
    found = tab.settled()["found"]
    assert found["photos"][asked["id"]]["error"] == "there is no other photo of the person"
    buffer = io.BytesIO()
    Image.fromarray(image(same)).save(buffer, "BMP")  # the same face in another file
    tab.add("copy.bmp", buffer.getvalue(), "known")
    stranger = tab.add("stranger.png", other, "check")
    search()
    found = tab.settled()["found"]
    assert found["known"] == 2
    assert "nobody.png shows no face that is large enough" in found["notes"]
    assert (
        "asked.png is among the photos of the person; it is not compared with itself"
        in found["notes"]
    )
    [face] = found["photos"][asked["id"]]["faces"]
    assert (face["verdict"], face["level"]) == ("Found", "none")
    assert face["recognisers"][0]["cosine"] == pytest.approx(1)
    assert len(found["photos"][stranger["id"]]["faces"]) == 2
