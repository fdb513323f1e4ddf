"""Gather the single gets of tasks for a moment, so that one batch loads their keys, as a dataloader does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kamacache.load.flight import chain
from kamacache.steps import Path, Twofold, adrive, needed_loop

if TYPE_CHECKING:
    import asyncio

    from kamacache.load.given import Given
    from kamacache.load.loader import Loader
    from kamacache.load.local import Local
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

    def __init__(
        self,
        options: GroupOptions,
        fetch: Callable[[list[str], Given | None], Path[Fetched]],
        local: Local,
        home: HomeLoop,
    ) -> None:
        self._seconds = options.batch_window  # 0.0: to the end of the loop's turn; None: there is no window
        self._most = options.max_batch
        self._fetch = fetch
        self._local = local
        self._home = home
        self._open: dict[asyncio.AbstractEventLoop, _Batch] = {}

    def takes(self, loader: Loader) -> bool:
        """Return whether single gets that this loader answers wait for others."""
        return self._seconds is not None and loader.many is not None

    def load(self, key: str, given: Given | None) -> Path[tuple[Outcome, bool]]:
        """Load one key, in a task perhaps with others. Return its end, and whether another caller led."""
        if self.takes(given or self._local.loader) and chain() is None:
            gathered: tuple[Outcome, bool] | None = yield Twofold(lambda: None, lambda: self.ask(key))
            if gathered is not None:
                return gathered
        outcomes, joined = yield from self._fetch([key], given)
        return outcomes[key], key in joined

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
        fetched = await adrive(self._fetch(list(batch.keys), None))
        batch.fetched.set_result(fetched)
