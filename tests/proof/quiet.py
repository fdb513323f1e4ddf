"""Tell when a process has nothing left to do: no thread runs, and none has run for a moment."""

import os
import threading
import time

_TASKS = "/proc/self/task"


def _looked_at(own: str) -> list[bytes] | None:
    """Return how often each other thread has run; None if one runs now."""
    found = []
    for task in os.listdir(_TASKS):  # noqa: PTH208 - this is called all the time
        if task != own:
            try:
                file = os.open(f"{_TASKS}/{task}/stat", os.O_RDONLY)
            except (FileNotFoundError, ProcessLookupError):
                return None  # it has just ended
            try:
                state = os.read(file, 512).rpartition(b")")[2]
            except ProcessLookupError:
                return None
            finally:
                os.close(file)
            if state[1:2] not in b"SZX":
                return None
            file = os.open(f"{_TASKS}/{task}/schedstat", os.O_RDONLY)
            found.append(os.read(file, 64))
            os.close(file)
    return found


def settle(timeout: float = 20.0) -> None:
    """Return once every other thread waits for something that only this one can bring about.

    A thread that waits for the interpreter gets it while this one sleeps, so that two equal looks have seen it run.
    """
    own = str(threading.get_native_id())
    until = time.monotonic() + timeout
    before = None
    while time.monotonic() < until:
        time.sleep(0)
        try:
            now = _looked_at(own)
        except (FileNotFoundError, ProcessLookupError):
            now = None
        if now is not None and now == before:
            return
        before = now
        if now is None:
            time.sleep(0.00005)
    raise TimeoutError("the threads of this process do not come to rest")
