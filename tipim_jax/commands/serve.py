"""`tipim serve`: the same protection on a page in the browser, for this computer only."""

import argparse
import contextlib
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import sys
import threading
import webbrowser
from types import FrameType

from ports import zoo
from tipim_jax.commands import Commands
from tipim_jax.commands import options as shared
from tipim_jax.commands.progress import say, show
from tipim_jax.errors import UserError
from tipim_jax.photos import presets

HOME = "127.0.0.1"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")
_DESCRIPTION = """Opens a page in the browser on which photos are protected: drop photos on it, choose
faces and a strength, look at a preview, protect, compare and download. Photos stay on this computer:
the page answers to 127.0.0.1 only, loads nothing from elsewhere, and keeps photos in a private
temporary folder that is deleted when the command ends (Ctrl+C)."""
_EPILOG = """examples:
  tipim serve                     open the page in the browser
  tipim serve --no_browser        print its address only, for example to forward the port over SSH
  TIPIM_TOKEN=… tipim serve --host 192.168.1.20 --port 8080
                                  answer to one address of a network that you trust; the connection
                                  is not encrypted, and whoever has the token can use the page"""


def add(commands: Commands) -> None:
    """Adds the command to a parser's commands."""
    parser = commands.add_parser(
        "serve",
        help="open a page in the browser that protects photos",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="a free one by default")
    add("--host", metavar="ADDRESS", help="answer to another address than 127.0.0.1; needs a token")
    add("--token", help="16 or more letters, digits, - and _ ($TIPIM_TOKEN; a random one)")
    add("--no_browser", action="store_true", help="only print the address")
    add("--surrogates", metavar="NAME,…", help=f"made on these ({','.join(zoo.SURROGATES)})")
    add("--steps", type=int, help="iterations (30)")
    add("--seed", type=int, help="of all randomness (0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves the page until it is interrupted, deletes all photos and returns the exit code.

    Raises:
      UserError: the extra `web` is not installed, an address cannot be used, or it is given without a token.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise UserError('the page needs two more packages; run `pip install "tipim-jax[web]"`')
    host, token = _host(options.host), _token(options)
    changed = {
        name: getattr(options, name)
        for name in ("steps", "seed")
        if getattr(options, name) is not None
    }
    presets.check(presets.PRESETS["medium"]._replace(**changed))
    surrogates = shared.surrogates_from(options)
    for name in surrogates:
        zoo.find(name)
    return _serve(_listen(host, options.port), host, token, surrogates, changed, options.no_browser)


def _host(given: str | None) -> str:
    """The address to answer to."""
    host = given or HOME
    everywhere = False
    with contextlib.suppress(ValueError):  # it is a name
        everywhere = ipaddress.ip_address(host).is_unspecified
    if everywhere:
        raise UserError(
            f"{host} is every address of this computer; give --host the one that others use"
        )
    return host


def _token(options: argparse.Namespace) -> str | None:
    """The token that the user chose; None for a random one."""
    token = options.token or os.environ.get("TIPIM_TOKEN") or None
    if token is None and _host(options.host) != HOME:
        raise UserError(
            f"with --host, others than you can reach {options.host}; give a token as well, in $TIPIM_TOKEN "
            "or with --token"
        )
    if token is not None and not _TOKEN.fullmatch(token):
        raise UserError("a token is 16 or more letters, digits, - and _; choose another one")
    return token


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise UserError(f"port is {port}; give a number from 0 (any free one) to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            if os.name == "posix":  # elsewhere it would share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
            stack.pop_all()
    except OSError as error:
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another --port or --host"
        ) from error
    return listener


def _serve(
    listener: socket.socket,
    host: str,
    token: str | None,
    surrogates: list[str],
    changed: dict[str, int],
    no_browser: bool,
) -> int:
    import uvicorn

    from tipim_jax.web import tasks
    from tipim_jax.web.access import Access
    from tipim_jax.web.app import make_app
    from tipim_jax.web.session import Session
    from tipim_jax.web.worker import Worker

    port = listener.getsockname()[1]
    access = Access(host, port, token)
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    worker = Worker(tasks.loader(surrogates, **changed))
    idle = True
    with Session() as session:
        config = uvicorn.Config(
            make_app(session, worker, access),
            lifespan="off",
            ws="none",
            access_log=False,  # it would hold the token
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        stopped = 0

        def end(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            stopped, server.should_exit = number, True

        # While it runs, uvicorn handles the first two itself, and passes them on here at its end.
        handled = [signal.SIGINT, signal.SIGTERM]
        if hangup := getattr(signal, "SIGHUP", None):  # the terminal was closed
            handled.append(hangup)
        for number in handled:
            signal.signal(number, end)
        worker.start()
        show(f"The page is at {address}?token={access.token}")
        if host != HOME:
            say("the connection is not encrypted; use it in a network that you trust")
        show("Press Ctrl+C to end it; all photos on it are then deleted.")
        if not no_browser:
            _open(f"{address}?token={access.ticket()}")
        server.run(sockets=[listener])
        idle = worker.stop(0.2) and not worker.phase
    show("All photos were deleted.")
    code = 128 + stopped if stopped not in (0, signal.SIGINT) else 0
    if not idle:  # a thread that computes would crash while Python is taken apart around it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _open(address: str) -> None:
    """Opens a page in the browser; some browsers do not return before they are closed."""
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
