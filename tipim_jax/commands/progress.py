"""What commands print: results on stdout; progress, and what went wrong, on stderr."""

import contextlib
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, TextIO

from tipim_jax.errors import Notice, printable
from tipim_jax.photos.protect import Progress
from tipim_jax.video import protect as clips

PLAIN_EVERY = 10.0  # seconds between lines of progress where stderr is no terminal


def show(text: str) -> None:
    """Prints results, unless nobody reads them any more (`tipim models | head -1`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        close()


def close() -> None:
    """Writes out what is buffered for stdout; if its reader has gone, that and the rest go nowhere."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain then.
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def say(message: str) -> None:
    """Prints one line about what went wrong, or what should be known."""
    print(f"tipim: {printable(message)}", file=sys.stderr)


class Phases:
    """What a command is doing: one line of a terminal that changes, or lines with the seconds since the start.

    Used as a context; what is said meanwhile stays above the line.
    """

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._started = clock, clock()
        self._terminal = self._stream.isatty()
        self._name, self._line = "", ""
        self._since = self._told = self._started

    def __enter__(self) -> "Phases":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Takes the line of a terminal away."""
        self._clear()
        self._line = ""

    def begin(self, phase: str) -> None:
        """Says what is done from now on; once for a phase."""
        if phase != self._name:
            self._name, self._since = phase, self._clock()
            self._put(phase)

    def update(self, text: str) -> None:
        """Says how far the phase is."""
        if self._terminal or self._clock() - self._told >= PLAIN_EVERY:
            self._put(f"{self._name}: {text}")

    @property
    def seconds(self) -> float:
        """Since the phase began."""
        return self._clock() - self._since

    def say(self, message: str) -> None:
        """As `say`; what is said stays, and the progress goes on below it."""
        self.say_as_is(f"tipim: {printable(message)}\n")

    def say_as_is(self, text: str) -> None:
        """Prints whole lines, such as a traceback, in the same way."""
        self._clear()
        self._stream.write(text)
        if self._terminal:
            self._stream.write(self._line)
        self._stream.flush()

    def _put(self, text: str) -> None:
        self._told = self._clock()
        if self._terminal:
            width = shutil.get_terminal_size().columns
            self._line = text[: width - 1]
            self._stream.write(f"\r\x1b[K{self._line}")
        else:
            self._stream.write(f"[{self._told - self._started:.0f} s] {text}\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._terminal and self._line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def how_far(progress: Progress, photos: int, seconds: float) -> str:
    """How far a stream of photos is, and how long the rest will take if it goes on as it went.

    Args:
      progress: of the stream.
      photos: that it is given.
      seconds: since it began.
    """
    p = progress
    if photos > 1:
        text = f"{p.photos} of {photos} photos, {p.masked} faces"
    else:
        text = f"{p.masked} of {p.found} faces"
    # Photos that are not read yet are taken to hold as many faces as those that are.
    expected = p.found * photos / p.read if p.read else 0.0
    if p.masked == 0 or expected <= p.masked:
        return text
    return f"{text}, about {_duration(seconds * (expected - p.masked) / p.masked)} left"


def how_far_in_clip(progress: clips.Progress) -> str:
    """How far a clip is."""
    p = progress
    of = f" of {p.of}" if p.of >= p.frames else ""
    return f"{printable(p.job.source.name)}: {p.doing}, frame {p.frames}{of}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def notices_said(say: Callable[[str], None] = say) -> Iterator[None]:
    """Says every `Notice` that comes up, each once, and leaves other warnings to Python."""
    said: set[str] = set()
    with warnings.catch_warnings():
        others = warnings.showwarning

        def tell(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if not issubclass(category, Notice):
                others(message, category, *rest, **more)
            elif str(message) not in said:
                said.add(str(message))
                say(str(message))

        warnings.filterwarnings("always", category=Notice)
        warnings.showwarning = tell
        yield
