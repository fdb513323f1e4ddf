"""A task's get of a key in its owner's memory: a Question, which the connection's reader ends and continues."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kamacache import PeerError
from kamacache._engine import MISSING, Flag, Question, Remote, Transport
from kamacache.deadline import Deadline
from kamacache.net.native import NativeLane
from kamacache.steps import Wait
from tests.unit.test_remote import OURS, PEER, TABLE
from tests.unit.wire import VERSION, make_store, make_users, silent


@pytest.fixture
def address(server: Transport) -> str:
    server.serve(make_users())
    return server.listen("127.0.0.1:0")


class Asker:
    """A store whose tasks ask a peer over the links of a lane."""

    def __init__(self, lane: NativeLane, address: str, decode: Callable[[bytes], Any] | None = None) -> None:
        self.lane, self.address, self.down = lane, address, Flag()
        self.kept: list[str] = []
        self.suspected: list[tuple[Any, Exception]] = []
        self.store = make_store(decode=decode)
        self.remote = Remote(
            lane._transport,
            TABLE,
            [None, (address, self.down, PEER)],
            timeout=0.25,
            keep=lambda key, *_: self.kept.append(key),
            suspect=lambda peer, error: self.suspected.append((peer, error)),
            links=lane._links,
        )

    async def connect(self) -> None:
        link = self.lane._link(self.address)
        await Wait(link.connected, Deadline.after(5.0)).arun()
        link._open()

    def ask(self, key: str = "k") -> Question:
        question = self.remote.ask(self.store, key)
        assert question is not None
        return question

    async def get(self, key: str = "k") -> Any:
        self.store.lookup(key)
        return await self.ask(key)

    def run(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run this in a loop that has a connection."""

        async def connected() -> Any:
            await self.connect()
            return await main()

        return asyncio.run(connected())

    def counted(self, *names: str) -> list[int]:
        return [self.store.stats()[name] for name in names]


def test_answers(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(asker.get(key) for key in ("k", "empty", "gone", "nothing", "k")))

    assert asker.run(ask) == [b"value", b"", None, MISSING, b"value"]
    assert asker.counted("gets", "peer_hits", "absent", "joined") == [5, 3, 1, 0]
    assert asker.suspected == []


def test_without_a_connection_or_a_peer_to_ask(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)
    assert asker.remote.ask(asker.store, "k") is None

    async def ask() -> None:
        assert asker.remote.ask(asker.store, "k") is None
        await asker.connect()
        assert asker.remote.ask(asker.store, OURS) is None
        asker.down.set(True)
        assert asker.remote.ask(asker.store, "k") is None
        asker.down.set(False)
        asker.store.pending = True
        assert asker.remote.ask(asker.store, "k") is None
        asker.store.pending = False
        assert await asker.ask() == b"value"
        lane.forget(address)
        await asyncio.sleep(0)
        assert asker.remote.ask(asker.store, "k") is None

    asyncio.run(ask())


def test_an_answer_older_than_the_known_version_is_refused(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)

    async def ask() -> tuple[Any, Any]:
        asker.store.note("k", VERSION)
        question = asker.ask()
        asker.store.note("k", VERSION + 1)
        return await question, await asker.ask("empty")

    assert asker.run(ask) == (MISSING, b"")
    assert asker.counted("peer_hits", "joined") == [1, 0]


def test_hot_values_are_kept_and_values_decoded(lane: NativeLane, address: str) -> None:
    tuples = Asker(lane, address, decode=lambda raw: (raw, StopIteration(1)))
    errors = Asker(lane, address, decode=StopIteration)
    bad = Asker(lane, address, decode=json.loads)

    async def ask() -> None:
        for _ in range(50):  # asked so often within a second, it is worth a near copy
            assert (await tuples.get())[0] == b"value"
        assert isinstance(await errors.get(), StopIteration)
        with pytest.raises(ValueError, match="Expecting value"):
            await bad.get()

    tuples.run(ask)
    assert tuples.kept[-1] == "k"
    assert bad.counted("gets", "peer_hits", "joined") == [1, 1, 0]


def test_a_peer_that_falls_silent_is_suspected(lane: NativeLane) -> None:
    with silent() as address:
        asker = Asker(lane, address)

        async def ask() -> list[Any]:
            await asker.connect()
            return list(await asyncio.gather(asker.get(), asker.get("empty")))

        assert asyncio.run(ask()) == [MISSING, MISSING]
    assert [peer for peer, _ in asker.suspected] == [PEER, PEER]
    assert all("did not answer" in str(error) for _, error in asker.suspected)
    assert asker.counted("joined") == [0]


def refusing() -> tuple[str, socket.socket]:
    """Return an address at which every read is answered with an error."""

    def refuse(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while asked := connection.recv(1 << 16):
                connection.sendall(b"-ERR not today\r\n" * asked.count(b"KC."))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=refuse, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{listener.getsockname()[1]}", listener


def test_an_error_of_the_peer_ends_every_question(lane: NativeLane) -> None:
    """Answer some questions of one turn with an error: none waits for ever, whatever asked it."""
    address, listener = refusing()
    asker = Asker(lane, address)

    async def ask() -> list[Any]:
        asks = [asker.get(), lane.apeek(address, "users", "k"), lane.apeek_many([(address, ["k", "empty"])], "users")]
        async with asyncio.timeout(5):
            return list(await asyncio.gather(*asks, return_exceptions=True))

    value, error, (errors,) = asker.run(ask)
    assert value is MISSING
    assert all(isinstance(each, PeerError) and "not today" in str(each) for each in (error, errors))
    assert [peer for peer, _ in asker.suspected] == [PEER]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_cancelled_task_stops_waiting(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)

    async def ask() -> None:
        tasks = [asyncio.create_task(asker.get()) for _ in range(3)]
        await asyncio.sleep(0)
        assert tasks[1].cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await tasks[1]
        assert list(await asyncio.gather(tasks[0], tasks[2])) == [b"value", b"value"]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asker.get()
        assert await asker.get() == b"value"

    asker.run(ask)
    gc.collect()
    assert asker.counted("gets", "peer_hits", "joined") == [5, 3, 2]


def test_a_task_may_cancel_one_whose_answer_came_with_its_own(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)

    async def ask() -> None:
        async def first() -> None:
            await asker.get()
            tasks[1].cancel()

        tasks = [asyncio.create_task(first()), asyncio.create_task(asker.get())]
        assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[1], asyncio.CancelledError)
        assert await asker.get() == b"value"

    asker.run(ask)
    gc.collect()
    assert asker.counted("gets", "peer_hits", "joined") == [3, 2, 1]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_task_leaves_no_other_task_behind(
    lane: NativeLane, address: str, interrupt: type[BaseException]
) -> None:
    asker = Asker(lane, address)
    loop = asyncio.new_event_loop()

    async def stop() -> None:
        await asker.get()
        raise interrupt

    async def start() -> list[asyncio.Task[Any]]:
        await asker.connect()
        return [loop.create_task(each) for each in (asker.get(), stop(), asker.get(), asker.get("nothing"))]

    tasks = loop.run_until_complete(start())
    with pytest.raises(interrupt):
        loop.run_until_complete(asyncio.wait(tasks))
    values = asyncio.gather(*(tasks[at] for at in (0, 2, 3)))
    assert list(loop.run_until_complete(asyncio.wait_for(values, 5))) == [b"value", b"value", MISSING]
    assert loop.run_until_complete(asyncio.wait_for(asker.get(), 5)) == b"value"
    assert isinstance(tasks[1].exception(), interrupt)
    loop.close()


def test_each_task_keeps_its_context(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)
    name: contextvars.ContextVar[int] = contextvars.ContextVar("name")

    async def ask(number: int) -> bool:
        name.set(number)
        await asker.get()
        task = asyncio.current_task()
        return name.get() == number and task is not None and task.get_name() == str(number)

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(asyncio.create_task(ask(number), name=str(number)) for number in range(50)))

    assert all(asker.run(all_of_them))


def test_tasks_in_pure_python(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)
    pure = asyncio.tasks._PyTask  # type: ignore[attr-defined]

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coroutine, **options: pure(coroutine, loop=loop, **options))
        cancelled = loop.create_task(asker.get())
        loop.call_soon(cancelled.cancel)
        assert await asyncio.gather(*(asker.get() for _ in range(3))) == [b"value"] * 3
        assert cancelled.cancelled()

    asker.run(ask)


def test_a_loop_that_is_closed_with_waiting_tasks(lane: NativeLane) -> None:
    """Drop the tasks, and count their gets."""
    with silent() as address:
        asker = Asker(lane, address)
        loop = asyncio.new_event_loop()

        async def start() -> asyncio.Task[Any]:
            await asker.connect()
            task = loop.create_task(asker.get())
            await asyncio.sleep(0)
            return task

        waiting = loop.run_until_complete(start())
        waiting._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        lane._sweep()
        del waiting
        gc.collect()
    assert asker.counted("gets", "joined") == [1, 1]
    assert asker.suspected == []


def test_a_question_is_awaited_once(lane: NativeLane, address: str) -> None:
    asker = Asker(lane, address)

    async def ask() -> None:
        question = asker.ask()
        assert await question == b"value"
        with pytest.raises(RuntimeError, match="awaited once"):
            await question

    asker.run(ask)
