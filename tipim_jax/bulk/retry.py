"""Reads and writes that failed for a passing reason are tried again, later and later."""

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

TRIES = 5
FIRST_WAIT = 0.5  # seconds; doubled every time
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENETDOWN,
    errno.ENETRESET,
    errno.ENETUNREACH,
    errno.ENFILE,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
    None,  # remote file systems raise an OSError without a number
}
_LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at the next try: of a network or a disk, not of a photo."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, _LASTING):
        return False
    return isinstance(error, OSError) and error.errno in _PASSING


def call(
    function: Callable[[], T],
    *,
    tries: int = TRIES,
    wait: float = FIRST_WAIT,
    sleep: Callable[[float], None] = time.sleep,
    retried: Callable[[], None] = lambda: None,
) -> T:
    """The value of `function()`, which is called again after a passing error.

    Args:
      function: what may fail.
      tries: calls altogether.
      wait: seconds before the second call; then twice as long each time, ±25 % so that processes
        that failed together do not come back together.
      sleep: waits.
      retried: called before every further try.

    Raises:
      Exception: whatever the last call raised.
    """
    for attempt in range(tries):
        try:
            return function()
        except Exception as error:
            if not is_passing(error) or attempt == tries - 1:
                raise
        retried()
        sleep(wait * 2**attempt * random.uniform(0.75, 1.25))
    raise AssertionError("unreachable")
