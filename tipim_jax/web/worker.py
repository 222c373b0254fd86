"""One background thread that computes: networks are loaded once, and what all tabs ask for waits in line."""

import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tipim_jax.errors import UserError
from tipim_jax.photos.engine import Engine
from tipim_jax.photos.faces import Find
from tipim_jax.photos.protect import Progress
from tipim_jax.photos.verify import Verifier

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"


class Tools(NamedTuple):
    """What everything is computed with; all but the finder may still be on its way, and is waited for.

    Attributes:
      find: finds faces.
      judges: gives the recognisers that are asked.
      engine: name of a strength -> what makes the masks.
    """

    find: Find
    judges: Callable[[], Sequence[Verifier]]
    engine: Callable[[str], Engine]


# Loads the tools; called with what says, in a few words, what is being loaded, and nothing once all is there.
Load = Callable[[Callable[[str], None]], Tools]


class Cancelled(Exception):
    """Nobody wants the result any more."""


class Job:
    """Something to compute.

    Attributes:
      state: one of the five states.
      error: why it failed, one sentence.
      faces: how many faces are to be masked in all.
      progress: of a protection.
      since: when it began, seconds of `time.monotonic`.
    """

    def __init__(self, act: Callable[["Job", Tools], None], *, quick: bool, faces: int = 0) -> None:
        self.act, self.quick, self.faces = act, quick, faces
        self.state = WAITING
        self.error = ""
        self.progress = Progress()
        self.since = 0.0
        self.told = 0.0
        self._stop = False

    @property
    def over(self) -> bool:
        return self.state in (DONE, FAILED, CANCELLED)

    @property
    def unwanted(self) -> bool:
        return self._stop

    def cancel(self) -> None:
        """Ends it: at once if it waits, after the faces that are being computed if it runs."""
        self._stop = True
        if self.state == WAITING:
            self.state = CANCELLED

    def seconds_left(self, usual: float) -> float | None:
        """How long the rest will take, None if that cannot be known yet.

        Args:
          usual: seconds a face took earlier; 0 if none was made.
        """
        now, made = time.monotonic(), self.progress.masked
        each = (self.told - self.since) / made if made else usual
        if self.state != RUNNING or not each:
            return None
        return max(0.0, (self.faces - made) * each - (now - (self.told or self.since)))


class Worker:
    """Does the jobs, one after the other; quick ones between the faces of long ones.

    Attributes:
      phase: what is being loaded; empty once everything is.
      error: why nothing can be computed; empty if all is well.
      usual: seconds that making the mask of a face took last.
    """

    def __init__(self, load: Load) -> None:
        self.phase = "starting"
        self.error = ""
        self.usual = 0.0
        self._load = load
        self._quick: deque[Job] = deque()
        self._long: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stop = False
        # A thread that computes cannot be interrupted, and must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, name="tipim worker", daemon=True)

    def start(self) -> None:
        """Begins to load, and then to work."""
        self._thread.start()

    def stop(self, patience: float = 0.0) -> bool:
        """Takes on nothing more, and says whether nothing is being computed any more.

        Args:
          patience: seconds to wait for that.
        """
        with self._changed:
            self._stop = True
            self._changed.notify()
        self._thread.join(patience)
        return not self._thread.is_alive()

    def submit(self, job: Job) -> Job:
        """Puts a job in line."""
        with self._changed:
            (self._quick if job.quick else self._long).append(job)
            self._changed.notify()
        return job

    def ahead(self, job: Job) -> int:
        """How many long jobs come before this one, the one being done among them."""
        with self._changed:
            line = [one for one in self._long if not one.over]
        return line.index(job) if job in line else 0

    def progressed(self, job: Job, progress: Progress) -> None:
        """Notes how far a job is, and does what is quick meanwhile.

        Raises:
          Cancelled: it need not go on.
        """
        if progress.masked > job.progress.masked:
            job.told = time.monotonic()
            self.usual = progress.seconds / progress.masked
        job.progress = progress
        while not job.quick and (one := self._next(self._quick)) is not None:
            self._do(one)
        if job.unwanted or self._stop:
            raise Cancelled

    def _run(self) -> None:
        try:
            self._tools = self._load(self._say)
        except UserError as error:
            self.error, self.phase = str(error), ""
        except Exception as error:
            self.phase = ""
            self.error = fault(error)
        while not self._stop:
            job = self._next(self._quick) or self._next(self._long, keep=True)
            if job is not None:
                self._do(job)
            with self._changed:
                if self._long and self._long[0].over:
                    self._long.popleft()
                if not (self._quick or self._long or self._stop):
                    self._changed.wait()

    def _next(self, line: deque[Job], *, keep: bool = False) -> Job | None:
        """The first job in line that is still wanted."""
        with self._changed:
            while line and line[0].over:
                line.popleft()
            if not line:
                return None
            return line[0] if keep else line.popleft()

    def _do(self, job: Job) -> None:
        if job.unwanted:
            job.state = CANCELLED
            return
        job.since = time.monotonic()
        job.state = RUNNING
        try:
            if self.error:
                raise UserError(self.error)
            job.act(job, self._tools)
        except Cancelled:
            job.state = CANCELLED
        except UserError as error:
            job.error, job.state = str(error), FAILED
        except Exception as error:
            if job.unwanted:  # its photos were deleted
                job.state = CANCELLED
                return
            job.error, job.state = fault(error), FAILED
        else:
            job.state = DONE

    def _say(self, phase: str) -> None:
        self.phase = phase


def fault(error: Exception) -> str:
    """Prints what is wrong with the program, for a report, and says so in a sentence."""
    traceback.print_exception(error, file=sys.stderr)
    return f"the program failed ({type(error).__name__}: {error}); please report what its terminal shows"
