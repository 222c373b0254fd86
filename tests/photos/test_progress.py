"""What is told while a command works."""

import io

import pytest

from tipim_jax.commands.progress import PLAIN_EVERY, Phases, how_far
from tipim_jax.photos.protect import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_plain_lines_where_there_is_no_terminal():
    stream, clock = io.StringIO(), Clock()
    with Phases(stream, clock) as phases:
        phases.begin("loading recognisers")
        phases.begin("loading recognisers")
        clock.now += 3
        phases.begin("protecting")
        for seconds in (1, PLAIN_EVERY, 1):
            clock.now += seconds
            phases.update(f"{phases.seconds:.0f} s of it")
        phases.say("a.jpg is empty")
        phases.say_as_is("Traceback\n  lines\n")
    assert stream.getvalue() == (
        "[0 s] loading recognisers\n[3 s] protecting\n[14 s] protecting: 11 s of it\n"
        "tipim: a.jpg is empty\nTraceback\n  lines\n"
    )


def test_one_line_of_a_terminal_that_hides_no_error():
    stream = Terminal()
    with Phases(stream, Clock()) as phases:
        phases.begin("protecting")
        phases.update("1 of 2 photos")
        phases.say("a.jpg is\nempty")
        phases.update("2 of 2 photos")
    clear = "\r\x1b[K"
    assert stream.getvalue() == (
        f"{clear}protecting{clear}protecting: 1 of 2 photos"
        f"{clear}tipim: a.jpg is\\nempty\nprotecting: 1 of 2 photos"
        f"{clear}protecting: 2 of 2 photos{clear}"
    )


def test_a_line_is_no_longer_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    Phases(stream, Clock()).begin("x" * 50)
    assert stream.getvalue().count("x") == 19


@pytest.mark.parametrize(
    ("progress", "photos", "seconds", "expected"),
    [
        (Progress(read=1, found=12), 1, 5.0, "0 of 12 faces"),
        (Progress(1, 0, 12, 3), 1, 12.0, "3 of 12 faces, about 35 s left"),
        (Progress(1, 0, 12, 12), 1, 48.0, "12 of 12 faces"),
        # 4 photos had 8 faces, so 12 will have 24, of which 8 took 80 s
        (Progress(4, 4, 8, 8), 12, 80.0, "4 of 12 photos, 8 faces, about 3 min left"),
        (Progress(2, 2, 2, 2), 4, 4.0, "2 of 4 photos, 2 faces, about 4 s left"),
        (Progress(2, 2, 0, 0), 4, 4.0, "2 of 4 photos, 0 faces"),
        (Progress(10, 10, 10, 10), 10_000, 30.0, "10 of 10000 photos, 10 faces, about 8.3 h left"),
    ],
)
def test_the_time_left_is_what_the_faces_so_far_took(progress, photos, seconds, expected):
    assert how_far(progress, photos, seconds) == expected
