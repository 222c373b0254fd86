"""Who may speak to the server: its own page in a browser of the user, and nobody else."""

import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable

from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

HEADER = "x-tipim-token"
SHORTEST = 16  # characters of a token that the user chooses
_SAFE = ("GET", "HEAD")
# Nothing but what this server sends is loaded or asked for; pictures of pasted photos are blobs.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
_ASK = "This page belongs to whoever started `tipim serve`; open the address that it printed, with its token."


class Access:
    """The token of a session, and the names the server answers to.

    Attributes:
      token: what requests must show, in the address of the page, in a cookie or in a header.
      cookie: the name of the cookie; cookies of other ports of this machine must not be mistaken for it.
      hosts: values of `Host` that are accepted.
      origins: values of `Origin` that are accepted.
    """

    def __init__(self, host: str, port: int, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(32)
        self.cookie = f"tipim_{port}"
        names = {host, "localhost"} if host == "127.0.0.1" else {host}
        self.hosts = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names}
        self.origins = {f"http://{name}" for name in self.hosts}
        self._tickets: set[str] = set()
        self._lock = threading.Lock()

    def ticket(self) -> str:
        """A token that is good for opening the page once: others may see the command line of a browser."""
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket)
        return ticket

    def admits(self, given: str | None) -> bool:
        """Whether this is the token."""
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def opens(self, given: str | None) -> bool:
        """Whether this is the token, or a ticket, which is used up."""
        if self.admits(given):
            return True
        with self._lock:
            known = given in self._tickets
            self._tickets.discard(given or "")
        return known


class Guard(BaseHTTPMiddleware):
    """Refuses what does not come from the page, and tells browsers to let nothing else in."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        super().__init__(app)
        self.access = access

    async def dispatch(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Answers a request, or refuses it with 403 (421 for a foreign `Host`)."""
        access, headers = self.access, request.headers
        opened = False
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in access.hosts:
            # A name of somebody else's that resolves to this machine (DNS rebinding).
            response: Response = PlainTextResponse("This server does not answer to that name.", 421)
        elif not self._from_the_page(request):
            response = PlainTextResponse("Requests of other pages are refused.", 403)
        else:
            opened = request.url.path == "/" and access.opens(request.query_params.get("token"))
            if opened or self._admitted(request):
                response = await call_next(request)
            else:
                response = PlainTextResponse(_ASK, 403)
        response.headers.update(_HEADERS)
        if opened:
            response.set_cookie(access.cookie, access.token, httponly=True, samesite="strict")
        return response

    def _from_the_page(self, request: Request) -> bool:
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin is not None and origin not in self.access.origins:
            return False
        if request.method in _SAFE:
            # Another page may send people here, with the token, and may embed nothing.
            opening = (
                request.url.path == "/" and request.headers.get("sec-fetch-mode") == "navigate"
            )
            return opening or site in (None, "same-origin", "none")
        # Browsers name the origin of whatever changes something; programs show the token in a header.
        return origin is not None or self.access.admits(request.headers.get(HEADER))

    def _admitted(self, request: Request) -> bool:
        shown = (request.headers.get(HEADER), request.cookies.get(self.access.cookie))
        return any(self.access.admits(token) for token in shown)
