"""The page in a real browser, from dropping photos to the downloaded bytes; nothing foreign is asked for."""

import contextlib
import io
import re
import shutil
import threading
import zipfile
from typing import NamedTuple

import pytest
import uvicorn
from PIL import Image

from tests.photos import album as albums
from tests.web.conftest import engine, load, picture
from tipim_jax import cli
from tipim_jax.commands.serve import _listen
from tipim_jax.photos import programs, verify
from tipim_jax.photos.demo import demo_photos
from tipim_jax.web import tasks
from tipim_jax.web.access import Access
from tipim_jax.web.app import make_app
from tipim_jax.web.session import Session
from tipim_jax.web.worker import Worker

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no `chromium` is installed (Debian: apt-get install chromium)"
)
FLAGS = (
    # A zygote once outlived its browser and took a core for itself at real-time priority.
    *("--no-sandbox", "--no-zygote", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
)
QUICK = ("--steps=2", "--surrogates=sface")
WAIT = 300_000  # milliseconds; everything takes a few seconds on a machine of its own


class Running(NamedTuple):
    """A real server of the real networks, with two steps on one surrogate."""

    home: str
    token: str


@contextlib.contextmanager
def listening(load):
    """A server that browsers can reach."""
    listener = _listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    worker, access = Worker(load), Access("127.0.0.1", port)
    with listener, Session() as session:
        app = make_app(session, worker, access)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        worker.start()
        yield Running(f"http://127.0.0.1:{port}/", access.token)
        server.should_exit = True
        thread.join(60)
        assert worker.stop(60)


@pytest.fixture(scope="module")
def running(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIPIM_CACHE", str(cache))
        patch.setattr(verify, "calibrated", lambda: ["sface", "dlib"])
        programs.keep_in_cache()
        with listening(tasks.loader(["sface"], steps=2)) as served:
            yield served


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def page(browser, running):
    """The page, opened; in the end nothing may have gone wrong in it, nor anything foreign been asked for."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    context.set_default_timeout(WAIT)
    opened = context.new_page()
    asked, told = [], []
    context.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.goto(f"{running.home}?token={running.token}")
    yield opened
    context.close()
    foreign = [url for url in asked if not url.startswith((running.home, f"blob:{running.home}"))]
    assert foreign == []
    assert len(asked) > 10
    assert told == []


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A photo of one person, one of two, one without a face, and a text."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copy(next(path for path in demo_photos() if path.name == "collins.jpg"), folder)
    one, other = albums.face(), albums.face("obama.jpg")
    two = Image.new("RGB", (one.width + other.width, max(one.height, other.height)))
    two.paste(one, (0, 0))
    two.paste(other, (one.width, 0))
    two.save(folder / "two.png")
    Image.new("RGB", (320, 240), (90, 120, 90)).save(folder / "meadow.jpg")
    (folder / "text.jpg").write_text("no photo at all")
    return folder


def assert_fits(page) -> None:
    """Nothing sticks out of the window."""
    width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], width


def test_from_photos_to_protected_photos(page, photos, running, tmp_path, capsys):
    assert page.url == running.home  # the token does not stay in the address
    names = ["collins.jpg", "two.png", "meadow.jpg", "text.jpg"]
    page.set_input_files("#files-protect", [photos / name for name in names])
    cards = page.locator(".photo")
    for name, text in (
        ("text.jpg", "text.jpg is not a JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF photo"),
        ("meadow.jpg", "No face was found; nothing to protect."),
    ):
        cards.filter(has_text=name).get_by_text(text).wait_for()

    # with the keyboard: the second face of two is left as it is, the strength becomes high
    box = page.get_by_role("checkbox", name=re.compile(r"Protect face 2 .* of two.png"))
    box.wait_for(state="attached")
    page.get_by_role("button", name="Protect 3 faces in 2 photos").wait_for()
    box.focus()
    page.keyboard.press("Space")
    assert not box.is_checked()
    page.locator("#strength").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#strength").get_attribute("aria-valuetext") == "High"

    page.get_by_label("Preview on").select_option(label="collins.jpg")
    page.get_by_role("button", name="Preview").click()
    page.locator(".preview .verdict").wait_for()
    assert re.match(
        "The change is (hardly|slightly|clearly) visible", page.inner_text(".preview .seen")
    )
    line = page.get_by_role("slider", name="Preview at high: how much of the photo before is shown")
    line.focus()
    page.keyboard.press("End")
    assert line.get_attribute("aria-valuetext") == "100 % before, 0 % after"
    stage = page.locator(".preview .stage").bounding_box()
    shown = page.locator(".preview .stage img").first
    assert stage["width"] == shown.evaluate("image => image.naturalWidth")  # 100 %

    page.get_by_role("button", name="Protect 2 faces in 2 photos").click()
    page.get_by_role("heading", name="2 faces done").wait_for()
    verdicts = page.locator(".result .verdict").all_inner_texts()
    assert len(verdicts) == 2
    for text in verdicts:
        assert re.search(r"Hidden from (1 of|all) 2 recognisers|Still matched by all 2", text)
    assert page.get_by_text("Face 2 was left as it is: not chosen.").is_visible()
    page.locator(".result summary").first.click()
    assert (
        page.get_by_role("cell", name="hidden")
        .or_(page.get_by_role("cell", name="matches"))
        .count()
    )

    out = tmp_path / "out"
    arguments = ["--out", str(out), "--strength=high", "--largest_only", *QUICK]
    assert cli.main(["protect", *(str(photos / name) for name in names), *arguments]) == 1
    assert "text.jpg is not a JPEG" in capsys.readouterr().err
    for name in ("collins.jpg", "two.png"):
        with page.expect_download() as download:
            page.get_by_role("link", name=f"Download {name}").click()
        assert download.value.suggested_filename == name
        assert download.value.path().read_bytes() == (out / name).read_bytes()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all (ZIP)").click()
    archive = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes()))
    assert {name: archive.read(name) for name in archive.namelist()} == {
        name: (out / name).read_bytes() for name in ("collins.jpg", "two.png")
    }

    page.set_viewport_size({"width": 400, "height": 800})
    assert_fits(page)
    page.get_by_role("button", name="Change and redo").click()
    assert_fits(page)
    page.get_by_role("button", name="Show results").click()
    page.get_by_role("heading", name="2 faces done").wait_for()
    page.reload()  # the photos are still here
    page.get_by_role("heading", name="2 faces done").wait_for()


def test_dropped_and_pasted_photos_are_taken(page, photos):
    data = list((photos / "two.png").read_bytes())
    transfer = page.evaluate_handle(
        """data => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(data)], "dropped.png", { type: "image/png" }));
          return transfer;
        }""",
        data,
    )
    page.locator(".drop").first.wait_for()
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})
    page.get_by_role("heading", name="dropped.png").wait_for()
    page.evaluate(
        """transfer => document.body.dispatchEvent(
          new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true, cancelable: true }))""",
        transfer,
    )
    page.get_by_role("heading", name="dropped.png").nth(1).wait_for()
    page.get_by_role("button", name="Remove dropped.png").first.click()
    page.get_by_role("button", name="Protect 2 faces").wait_for()
    assert page.locator(".photo").count() == 1


def test_who_would_find_them(page, photos):
    page.get_by_role("tab", name="Protect").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Check").get_attribute("aria-selected") == "true"
    page.set_input_files("#files-check", photos / "collins.jpg")
    page.set_input_files("#files-known", [photos / "two.png", photos / "text.jpg"])
    page.get_by_text("text.jpg is not a JPEG").wait_for()
    page.get_by_role("button", name="Who would find them?").click()
    page.get_by_role("heading", name="Compared with 1 photo of the person").wait_for()
    assert page.inner_text("#check .verdict").endswith("recognisers finds this person")
    page.set_viewport_size({"width": 400, "height": 800})
    assert_fits(page)


def test_a_run_shows_how_far_it_is_waits_for_other_tabs_and_can_be_cancelled(browser):
    go_on = threading.Event()

    def slow(strength):
        assert go_on.wait(600)
        return engine(strength)

    with listening(lambda told: load(told)._replace(engine=slow)) as served:
        context = browser.new_context()
        context.set_default_timeout(WAIT)
        tabs = [context.new_page() for _ in range(2)]
        photo = {"name": "a.png", "mimeType": "image/png", "buffer": picture()}
        for tab in tabs:
            tab.goto(f"{served.home}?token={served.token}")
            tab.set_input_files("#files-protect", photo)
            tab.get_by_role("button", name="Protect 1 face").wait_for()
        for tab in tabs:
            tab.get_by_role("button", name="Protect 1 face").click()
            tab.get_by_role("button", name="Cancel").wait_for()
        tabs[0].get_by_text("0 of 1 face").first.wait_for()
        assert tabs[0].get_by_text("working", exact=True).is_visible()
        tabs[1].get_by_text("Waiting for 1 job of other tabs").first.wait_for()
        tabs[0].get_by_role("button", name="Cancel").click()
        tabs[0].get_by_text("Cancelled.").first.wait_for()
        go_on.set()
        tabs[1].get_by_role("heading", name="1 face done").wait_for()
        assert tabs[0].get_by_role("button", name="Protect 1 face").is_enabled()
        context.close()


def test_everything_that_can_be_used_has_a_name(page, photos):
    page.set_input_files("#files-protect", photos / "two.png")
    page.get_by_role("button", name="Protect 2 faces").wait_for()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, summary, [role=tabpanel], img")]
          .filter((node) => !(node.getAttribute("aria-label") || node.getAttribute("aria-labelledby")
            || node.labels?.length || node.textContent.trim()
            || node.hasAttribute("alt")))
          .map((node) => node.outerHTML)"""
    )
    assert nameless == []
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.innerText"))
    assert {"files-protect", "strength", "preview-face", "Preview", "Protect 2 faces"} <= seen


def test_the_page_is_closed_to_whoever_has_no_token(browser, running):
    context = browser.new_context()
    page = context.new_page()
    assert page.goto(running.home).status == 403
    assert "open the address that it printed" in page.inner_text("body")
    context.close()


def test_many_photos_are_no_long_way_to_the_button_on_a_phone(browser):
    with listening(load) as served:
        context = browser.new_context(viewport={"width": 400, "height": 800})
        context.set_default_timeout(WAIT)
        page = context.new_page()
        page.goto(f"{served.home}?token={served.token}")
        photos = [
            {"name": f"{i}.png", "mimeType": "image/png", "buffer": picture(i)} for i in range(12)
        ]
        page.set_input_files("#files-protect", photos)
        button = page.get_by_role("button", name="Protect 12 faces in 12 photos")
        button.wait_for()
        assert_fits(page)
        assert button.bounding_box()["y"] < 4000
        context.close()
