"""The command `tipim`: protect photos, verify them, list recognisers, make targets."""

import argparse
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import metadata
from types import FrameType
from typing import NoReturn

from tipim_jax.commands import bulk, check, doctor, models, protect, serve, targets, verify
from tipim_jax.commands.progress import close, notices_said, say, show
from tipim_jax.errors import UserError
from tipim_jax.photos import programs

DONE, FAILED = 0, 2  # exit codes: help, and errors of any command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code.

    Errors of users are one line on stderr; what is wrong with the program keeps its traceback.
    """
    try:
        return _run(parser().parse_args(arguments))
    finally:
        close()


def _run(options: argparse.Namespace) -> int:
    own_signals = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if own_signals else None
    try:
        with notices_said():
            programs.keep_in_cache()
            return options.run(options)
    except UserError as error:
        say(str(error))
        return FAILED
    except OSError as error:
        if error.filename is None:
            return _fault()
        say(f"{error.filename}: {error.strerror}")
        return FAILED
    except Exception:
        return _fault()
    except Terminated:
        say("terminated")
        return 143
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        if own_signals:
            signal.signal(signal.SIGTERM, before)


class Terminated(KeyboardInterrupt):
    """SIGTERM: to end as Ctrl-C does, with another exit code."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _fault() -> int:
    # Python's own exit code of an exception, 1, means "different people" or "some photos" here.
    traceback.print_exc()
    say("this is a fault of the program and not of what you gave it; please report it as above")
    return FAILED


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage of every option."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"tipim: {message} (see `{self.prog} --help`)\n")


def parser() -> argparse.ArgumentParser:
    """The parser of every command; shells complete from it (docs/photos.md)."""
    whole = _Parser(
        prog="tipim",
        description="Protects the faces in photos and films from face recognition.",
        epilog="Begin with `tipim protect PHOTO… --out FOLDER`, or with `tipim serve` for a page in the "
        "browser. `tipim COMMAND --help` explains a command.",
    )
    whole.add_argument("--version", action="store_true", help="print the version and exit")

    def bare(options: argparse.Namespace) -> int:
        if options.version:
            show(f"tipim {metadata.version('tipim-jax')}")
        else:
            whole.print_help()
        return DONE

    whole.set_defaults(run=bare)
    commands = whole.add_subparsers(metavar="COMMAND")
    for command in (protect, serve, verify, check, bulk, models, targets, doctor):
        command.add(commands)
    return whole


if __name__ == "__main__":
    sys.exit(main())
