"""A task that is cancelled is cancelled, also in the turn in which its load ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kamacache import Group, Node, PeerError
from kamacache._engine import Promise
from kamacache.deadline import Deadline
from kamacache.steps import Path, Wait, whole
from tests.promises.support import Source, isolated, right
from tests.unit.groups import begun

ASKS: dict[str, Callable[[Group[Any]], Coroutine[Any, Any, Any]]] = {
    "aget": lambda group: group.aget("k"),
    "aget_many": lambda group: group.aget_many(["j", "k"]),
}
TURNS = 15  # more than a load's end takes to come to its callers


class Gate:
    """A loader of a kind, whose loads wait in the loop for `open`, or in a thread for `opened`."""

    def __init__(self, kind: str) -> None:
        self.source = Source()
        self.open: asyncio.Event = asyncio.Event()
        self.opened = threading.Event()
        self.begun = threading.Semaphore(0)
        self.loader = self.load if kind == "async" else self.load_in_thread

    async def load(self, key: str) -> bytes:
        self.begun.release()
        await self.open.wait()
        return self.source(key)

    def load_in_thread(self, key: str) -> bytes:
        self.begun.release()
        assert self.opened.wait(20)
        return self.source(key)

    def open_both(self) -> None:
        self.open.set()
        self.opened.set()


@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("kind", ["async", "plain"])
@pytest.mark.parametrize("role", ["leader", "joined"])
@pytest.mark.parametrize("load_timeout", [None, "30s"])
@isolated()
def test_in_the_turn_in_which_the_load_ends(ask: str, kind: str, role: str, load_timeout: str | None) -> None:
    async def main(turns: int) -> bool:
        node = Node()
        await node.astart()  # on this loop, which is where it loads
        gate = Gate(kind)
        group = node.group("g", gate.loader, load_timeout=load_timeout)
        first = asyncio.create_task(ASKS[ask](group))
        await begun(gate)  # type: ignore[arg-type]
        second = asyncio.create_task(ASKS[ask](group))
        for _ in range(5):
            await asyncio.sleep(0)
        task, other = (first, second) if role == "leader" else (second, first)
        gate.open_both()
        if kind == "plain":  # the load ends on a thread, at any moment from now on
            await asyncio.sleep(turns * 2e-5)
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()  # False if it has ended
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await asyncio.wait({task})
        assert task.cancelled() is cancelled, f"after {turns} turns: {task}"
        async with asyncio.timeout(20):
            value = await other
        assert right("k", value["k"] if ask == "aget_many" else value)
        return cancelled

    cancelled = [asyncio.run(main(turns)) for turns in range(TURNS)]
    assert cancelled[0] or kind == "plain"


@pytest.mark.parametrize("load_timeout", [None, "30s"])
@isolated()
def test_a_timeout_in_the_turn_in_which_the_load_ends(load_timeout: str | None) -> None:
    """Check asyncio.timeout, whose cancellation must come out as its TimeoutError."""

    async def main(turns: int) -> None:
        node = Node()
        await node.astart()
        gate = Gate("async")
        group = node.group("g", gate.load, load_timeout=load_timeout)
        scope = asyncio.timeout(None)
        ended = False

        async def ask() -> None:
            nonlocal ended
            async with scope:
                await group.aget("k")
                ended = True

        task = asyncio.create_task(ask())
        await begun(gate)  # type: ignore[arg-type]
        gate.open_both()
        for _ in range(turns):
            await asyncio.sleep(0)
        expires = not task.done()
        if expires:
            scope.reschedule(asyncio.get_running_loop().time() - 1)
            await asyncio.sleep(0)
        await asyncio.wait({task}, timeout=20)
        assert task.done()
        assert not (scope.expired() and ended), f"after {turns} turns the cancellation was swallowed"

    for turns in range(TURNS):
        asyncio.run(main(turns))


def test_a_write_that_fails_after_its_caller_is_gone_prints_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Cancel a caller that waits for a write which goes on, and then fails."""
    answer = Promise()

    def fails() -> Path[None]:
        yield Wait(answer, Deadline.after(10))

    async def main() -> None:
        caller = asyncio.create_task(whole(fails()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        answer.set_exception(PeerError("the owner does not answer"))
        await asyncio.sleep(0.01)

    asyncio.run(main())
    gc.collect()
    assert caplog.records == []
