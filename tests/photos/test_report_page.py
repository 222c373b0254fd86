"""The report in a real browser, opened as a file."""

import re
import shutil

import pytest

from tests.photos.test_report import protected, run  # noqa: F401
from tipim_jax.photos import page as pages
from tipim_jax.photos.report import write_report

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no `chromium` is installed (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


@pytest.fixture(params=[50, 0], ids=["held", "named"])
def opened(browser, protected, tmp_path, monkeypatch, request):  # noqa: F811
    """The page on a phone; it may ask for nothing but files of its folder, and nothing may go wrong in it."""
    monkeypatch.setattr(pages, "MOST_HELD", request.param)
    _, path = write_report(protected, tmp_path / "out")
    context = browser.new_context(viewport={"width": 400, "height": 900})
    page, told, asked = context.new_page(), [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    context.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert told == []
    assert all(url.startswith((path.parent.as_uri(), "data:")) for url in asked)


def test_the_line_between_before_and_after_moves_by_keys(opened):
    slider = opened.get_by_role("slider").first
    assert re.match(r"Face 1 of in\.png", slider.get_attribute("aria-label"))
    shown = "getComputedStyle(document.querySelector('.over')).clipPath"
    assert opened.evaluate(shown) == "inset(0px 0px 0px 50%)"
    slider.focus()
    for _ in range(10):
        opened.keyboard.press("ArrowRight")
    assert opened.evaluate(shown) == "inset(0px 0px 0px 60%)"
    assert slider.get_attribute("aria-valuetext") == "60 % before, 40 % after"
    opened.keyboard.press("Home")
    assert opened.evaluate(shown) == "inset(0px 0px 0px 0%)"


def test_pictures_are_there(opened):
    for image in opened.locator("figure img").all():
        image.scroll_into_view_if_needed()
        opened.wait_for_function("image => image.naturalWidth == 61", arg=image.element_handle())


def test_verdicts_are_seen_on_a_phone(opened):
    assert opened.evaluate("document.documentElement.scrollWidth") == 400
    opened.get_by_role("link", name="in.png, face 2").click()
    box = opened.locator("#photo1-face2 .verdict").bounding_box()
    assert 0 <= box["x"] < box["x"] + box["width"] <= 400
    assert 0 <= box["y"] < 900
    opened.locator("#photo1-face2 summary").click()
    heading = opened.locator("#photo1-face2 th", has_text="Threshold").bounding_box()
    assert heading["x"] + heading["width"] <= 400
