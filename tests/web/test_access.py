"""Nobody but the page itself gets an answer, and the page loads nothing from elsewhere."""

import re

import pytest
from starlette.testclient import TestClient

from tests.web.conftest import HOME, PORT, TOKEN, picture
from tipim_jax.web.access import HEADER, Access
from tipim_jax.web.app import STATIC


@pytest.fixture
def stranger(server):
    """A client without token and cookie."""
    return TestClient(server.client.app, base_url=HOME)


@pytest.mark.parametrize(
    "path", ["/", "/static/main.js", "/api/about", "/?token=wrong", "/nowhere"]
)
def test_without_the_token_nothing_is_told(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert "tipim serve" in answer.text
    assert not answer.cookies


def test_the_address_with_the_token_opens_the_page_and_the_cookie_keeps_it_open(stranger):
    page = stranger.get("/", params={"token": TOKEN})
    assert page.status_code == 200
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(f"tipim_{PORT}={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert stranger.get("/api/about").status_code == 200
    assert stranger.post("/api/albums", headers={"Origin": HOME}).status_code == 201
    # only the page is opened by the address
    assert (
        TestClient(stranger.app, base_url=HOME).get(f"/api/about?token={TOKEN}").status_code == 403
    )


def test_a_ticket_opens_the_page_once(server, stranger):
    ticket = server.access.ticket()
    assert stranger.get("/", params={"token": ticket}).cookies
    again = TestClient(stranger.app, base_url=HOME)
    assert again.get("/", params={"token": ticket}).status_code == 403


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:1", f"[::1]:{PORT}", ""],
)
def test_other_names_of_the_server_are_refused(server, host):
    assert server.client.get("/api/about", headers={"Host": host}).status_code == 421


def test_localhost_is_a_name_of_the_server(server):
    own = {"Host": f"localhost:{PORT}", "Origin": f"http://localhost:{PORT}"}
    assert server.client.get("/api/about", headers=own).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_pages_are_refused_even_with_the_cookie(server, headers):
    cookie = {"Cookie": f"{server.access.cookie}={TOKEN}"}
    for method in ("GET", "POST"):
        if method == "POST" and "Origin" not in headers:
            continue
        answer = server.client.request(method, "/api/albums", headers={**cookie, **headers})
        assert answer.status_code == 403, method


def test_what_changes_something_needs_an_origin_or_the_header(server, stranger):
    cookie = {"Cookie": f"{server.access.cookie}={TOKEN}"}
    assert stranger.post("/api/albums", headers=cookie).status_code == 403
    assert stranger.post("/api/albums", headers={HEADER: TOKEN}).status_code == 201


def test_no_other_page_may_read_frame_or_preflight(server):
    answer = server.client.options(
        "/api/albums",
        headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert answer.status_code == 403
    for told in (server.client.get("/"), server.client.get("/api/about"), answer):
        assert not [name for name in told.headers if name.startswith("access-control")]
        policy = told.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert told.headers["cross-origin-resource-policy"] == "same-origin"
        assert told.headers["x-content-type-options"] == "nosniff"
        assert told.headers["referrer-policy"] == "no-referrer"
        assert told.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fcli.py",
        "/static/%2e%2e/app.py",
        "{photo}/pictures/..%2fphoto",
        "{photo}/pictures/photo",
        "{photo}/pictures/result",
        "{photo}/pictures/face-1-..",
        "{photo}/pictures/face-.%2f..%2falive",
        "{album}/photos/..%2f..%2fetc",
        "/api/albums/..%2f",
    ],
)
def test_no_path_leads_out_of_the_folders(server, tab, path):
    photo = tab.add("one.png", picture())
    path = path.format(album=tab.base, photo=f"{tab.base}/photos/{photo['id']}")
    assert server.client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("route", "body", "message"),
    [
        ("run", b"{", "the request is no JSON object"),
        ("run", b"[]", "the request is no JSON object"),
        ("run", b'{"faces": 1}', "faces is an object"),
        ("run", b'{"faces": {}, "strength": "../x"}', "strength is one of low, medium, high"),
        ("run", b'{"faces": {}, "format": "exe"}', "format 'exe' is unknown"),
        ("run", b'{"faces": {}, "quality": 0}', "quality is 0; give a number from 1 to 100"),
        ("run", b'{"faces": {}, "quality": "a"}', "quality is a whole number"),
        ("run", b" " * 2**21, "the request is too long"),
        ("preview", b'{"photo": 5}', "this photo was removed"),
    ],
)
def test_requests_that_make_no_sense_are_told_so(tab, route, body, message):
    answer = tab.client.post(f"{tab.base}/{route}", content=body)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"].startswith(message)


def test_the_pages_of_the_server_name_no_other_address():
    for path in STATIC.iterdir():
        text = path.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.findall(
            r"(?:https?:|wss?:)?//[a-z]", re.sub(r"^\s*//.*$", "", text, flags=re.M)
        ), path
        assert "innerHTML" not in text
        assert len(text.splitlines()) <= 400


def test_a_server_of_another_address_answers_to_that_alone():
    access = Access("192.168.1.20", 80, TOKEN)
    assert access.hosts == {"192.168.1.20:80"}
    assert Access("::1", 9).origins == {"http://[::1]:9"}
    assert len(Access("127.0.0.1", 1).token) >= 40
    assert Access("127.0.0.1", 1).token != Access("127.0.0.1", 1).token
