"""A lock that is an entry of a group."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from kamacache import thread
from kamacache.codecs import kept_integer
from kamacache.errors import Conflict, KamaCacheError, LockTaken, Overloaded, PeerError
from kamacache.steps import Path, drive, pause

if TYPE_CHECKING:
    from types import TracebackType

    from kamacache.write.primitives import Primitives

_SOONEST, _LATEST = 0.005, 0.1  # seconds between two tries
_DROPS = 10  # tries to remove a lock that no caller waits for


class _Try:
    """An attempt to take a lock: whether its caller still wants it, and the version of the entry once it is taken."""

    wanted = True
    version = 0


class Lock:
    """A lock for `with` and `async with`, made by Group.lock. One object holds it once at a time."""

    def __init__(
        self,
        key: str,
        primitives: Primitives,
        lease: float,
        wait: float,
        *,
        run: Callable[[Path[None]], None],
        arun: Callable[[Path[None]], Awaitable[None]],
    ) -> None:
        self._key = key
        self._primitives = primitives
        self._lease = lease
        self._wait = wait
        self._run = run
        self._arun = arun
        self._version = 0
        self.mark = time.time_ns()  # for people who look at the entry; the version tells holders apart

    def __enter__(self) -> Self:
        self._run(self._take(_Try()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._run(self._release())

    async def __aenter__(self) -> Self:
        attempt = _Try()
        try:
            await self._arun(self._take(attempt))
        except BaseException:
            attempt.wanted = False  # a caller that is cancelled does not stop a path half-way
            if attempt.version:
                await self._arun(self._release())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._arun(self._release())

    def _take(self, attempt: _Try) -> Path[None]:
        """Take the lock, or nothing once nobody wants it any more."""
        if self._version:
            raise LockTaken(f"the lock {self._key!r} is held by this object already")
        token = kept_integer(self.mark)
        try:
            version = yield from self._add(token, attempt)
        except Exception:
            raise
        except BaseException:  # the event loop ends, or an interrupt came, and the order may be under way
            with suppress(Overloaded):
                thread.start("kamacache-unlock", self._drop, token)
            raise
        self._version = version
        if attempt.wanted:
            attempt.version = version
        else:
            yield from self._release()

    def _add(self, token: bytes, attempt: _Try) -> Path[int]:
        """Add the entry, as often as it takes, and return its version."""
        until = time.monotonic() + self._wait
        turn = _SOONEST
        while not (version := (yield from self._primitives.add(self._key, token, self._lease))):
            left = until - time.monotonic()
            if left <= 0 or not attempt.wanted:
                raise LockTaken(f"the lock {self._key!r} is taken")
            yield pause(min(turn, left))
            turn = min(turn * 2, _LATEST)
        return version

    def _drop(self, token: bytes) -> None:
        """Remove what the order of a caller that was interrupted has added, or adds within a second."""
        for _ in range(_DROPS):
            with suppress(KamaCacheError):
                if drive(self._primitives.remove_own(self._key, token)):
                    return
            time.sleep(_LATEST)

    def _release(self) -> Path[None]:
        version, self._version = self._version, 0
        with suppress(Conflict, PeerError):  # the lease has ended, or will
            yield from self._primitives.remove(self._key, version)
