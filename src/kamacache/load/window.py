"""Gather the single gets of tasks for a moment, so that one batch loads their keys, as a dataloader does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from kamacache.steps import Path, adrive, needed_loop

if TYPE_CHECKING:
    import asyncio

    from kamacache.load.loop import HomeLoop
    from kamacache.load.outcome import Outcome
    from kamacache.options import GroupOptions

Fetched = tuple[dict[str, "Outcome"], set[str]]
"""The outcome of each key, and the keys that another caller's flight has brought."""


class _Batch:
    """The keys that were asked for on one loop since its last batch. Its result is None if nothing came of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.begun = False
        self.keys: dict[str, None] = {}
        self.fetched: asyncio.Future[Fetched | None] = loop.create_future()


class Window:
    """The open batches of one group. Each event loop has its own, so no lock is needed."""

    def __init__(self, seconds: float, most: int, fetch: Callable[[list[str]], Path[Fetched]], home: HomeLoop) -> None:
        self._seconds = seconds  # 0.0: to the end of the loop's turn
        self._most = most
        self._fetch = fetch
        self._home = home
        self._open: dict[asyncio.AbstractEventLoop, _Batch] = {}

    @classmethod
    def of(cls, options: GroupOptions, fetch: Callable[[list[str]], Path[Fetched]], home: HomeLoop) -> Self | None:
        """Return the window of a group; None if its options say that there is none."""
        seconds = options.batch_window
        return None if seconds is None else cls(seconds, options.max_batch, fetch, home)

    async def ask(self, key: str) -> tuple[Outcome, bool] | None:
        """Return the outcome of a key, and whether another caller led. None: the caller has to fetch it alone."""
        import asyncio  # noqa: PLC0415 - it is running

        loop = needed_loop()
        batch = self._open.get(loop)
        if batch is None:
            for other in list(self._open):
                if other.is_closed():  # before its window was over
                    self._open.pop(other, None)
            batch = self._open[loop] = _Batch(loop)
            if self._seconds:
                loop.call_later(self._seconds, self._begin, loop, batch)
            else:
                loop.call_soon(self._begin, loop, batch)
        joins = key in batch.keys
        batch.keys[key] = None
        if len(batch.keys) >= self._most:
            self._begin(loop, batch)
        fetched = await asyncio.shield(batch.fetched)  # cancelling one caller cancels no other
        if fetched is None:
            return None
        outcomes, joined = fetched
        return outcomes[key], joins or key in joined

    def _begin(self, loop: asyncio.AbstractEventLoop, batch: _Batch) -> None:
        if batch.begun:  # it was full
            return
        batch.begun = True
        self._open.pop(loop, None)

        def end() -> None:
            if not batch.fetched.done():
                batch.fetched.set_result(None)

        self._home.task(loop, self._run(batch), end)

    async def _run(self, batch: _Batch) -> None:
        fetched = await adrive(self._fetch(list(batch.keys)))
        batch.fetched.set_result(fetched)
