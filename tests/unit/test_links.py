"""Event loops and peers that come and go leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamacache import PeerError
from kamacache._engine import Transport, arrived
from kamacache.net.messages import Contact
from kamacache.net.native import NativeLane
from tests.cluster.cluster import wait_until
from tests.conftest import MakeTransport
from tests.support.sample import EVERY_CASE
from tests.unit.wire import make_users

ASKS = [["k"], ["k", "nothing"]]


def kept() -> tuple[int, int, int]:
    """Return the numbers of descriptors, threads and event loops of this process."""
    gc.collect()
    loops = sum(isinstance(one, asyncio.BaseEventLoop) for one in gc.get_objects())
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir())), loops


@pytest.fixture
def address(server: Transport) -> str:
    server.serve(make_users())
    return server.listen("127.0.0.1:0")


def test_one_run_after_another(lane: NativeLane, address: str) -> None:
    async def ask() -> None:
        found = await lane.apeek(address, "users", "k")
        assert found is not None
        assert found[0] == b"value"
        (first, second), _ = await asyncio.gather(
            lane.apeek_many([(address, keys) for keys in ASKS], "users"), lane.apeek(address, "users", "gone")
        )
        assert isinstance(first, list)
        assert isinstance(second, list)
        assert (len(first), len(second)) == (1, 2)

    for _ in range(10):
        asyncio.run(ask())
    wait_until(lambda: not lane._links)
    before = kept()
    for _ in range(2_000 if EVERY_CASE else 400):
        asyncio.run(ask())
        assert len(lane._links) <= 2
    wait_until(lambda: not lane._links)
    wait_until(lambda: all(now <= then + 5 for now, then in zip(kept(), before, strict=True)))  # not one for each


def test_tasks_that_ask_at_any_turn_of_a_connect(lane: NativeLane, address: str) -> None:
    async def ask(turns: int) -> object:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await lane.apeek(address, "users", "k")

    async def all_of_them() -> list[object]:
        return await asyncio.gather(*(ask(turns) for turns in range(300)))

    for _ in range(20 if EVERY_CASE else 5):
        assert None not in asyncio.run(all_of_them())


@pytest.mark.parametrize("method", ["call_soon", "call_at"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_question_that_is_interrupted(
    lane: NativeLane, address: str, monkeypatch: pytest.MonkeyPatch, method: str, *, after: bool
) -> None:
    """Interrupt any step of one question: no later question stays unsent, unread or unwatched."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        real, interrupted = getattr(loop, method), False

        def call(*arguments: Any, **options: Any) -> object:
            nonlocal interrupted
            if interrupted or not any("Link" in getattr(each, "__qualname__", "") for each in arguments):
                return real(*arguments, **options)
            interrupted = True
            if after:
                real(*arguments, **options)
            raise KeyboardInterrupt

        assert await lane.apeek(address, "users", "k")
        monkeypatch.setattr(loop, method, call)
        await asyncio.gather(asyncio.create_task(question()), return_exceptions=True)
        for _ in range(3):
            async with asyncio.timeout(5):
                assert all(await asyncio.gather(*(lane.apeek(address, "users", "k") for _ in range(3))))
        assert interrupted

    async def question() -> None:
        try:
            await lane.apeek(address, "users", "k")
        except KeyboardInterrupt:
            raise ValueError from None

    asyncio.run(ask())


def test_peers_that_came_and_went(lane: NativeLane, transports: MakeTransport, tmp_path: Path) -> None:
    async def ask(address: str) -> None:
        assert await lane.apeek(address, "users", "k") is not None

    def visit(number: int) -> None:
        server = transports()
        server.serve(make_users())
        address = server.listen(f"unix:{tmp_path}/{number}.sock")
        loop.run_until_complete(ask(address))
        assert lane.peek(address, "users", "k") is not None
        assert lane.ping_many("me", [address]) == [Contact(number=arrived(), begun=arrived())]
        server.close()
        lane.forget(address)
        loop.run_until_complete(asyncio.sleep(0))
        with contextlib.suppress(PeerError):
            lane.peek(address, "users", "k")  # by a table of before

    loop = asyncio.new_event_loop()
    for number in range(10):
        visit(number)
    before = kept()
    for number in range(500 if EVERY_CASE else 100):
        visit(number)
    wait_until(lambda: all(now <= then + 5 for now, then in zip(kept(), before, strict=True)))
    assert lane.peer_times() == []
    assert lane._links == {loop: {}}
    loop.close()


def test_members_are_pinged_all_at_once(lane: NativeLane, address: str) -> None:
    """Check that silent members delay no other, and that the answers come in the order of the addresses."""
    with contextlib.ExitStack() as open_ones:
        silent = [open_ones.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(20)]
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in silent]
        began = time.monotonic()
        *mute, refused, answer = lane.ping_many("me", [*addresses, "127.0.0.1:1", address])
        assert time.monotonic() - began < 2.5  # one after the other they take 5 s
    assert all(isinstance(one, PeerError) and "did not answer" in str(one) for one in mute)
    assert isinstance(refused, PeerError)
    assert refused.refused
    assert isinstance(answer, Contact)


def test_a_loop_that_was_held_up_reads_before_it_gives_up(lane: NativeLane, address: str) -> None:
    async def ask(held_up: float) -> object:
        await lane.apeek(address, "users", "k")
        asking = asyncio.ensure_future(lane.apeek(address, "users", "k"))
        await asyncio.sleep(0)
        time.sleep(held_up)  # noqa: ASYNC251 - that is the case
        return await asking

    assert asyncio.run(ask(0.6)) is not None
    assert asyncio.run(ask(1.2)) is not None


def test_an_answer_that_trickles_ends_after_a_second(lane: NativeLane) -> None:
    """Treat byte after byte as a sign of life, but as no answer."""

    def trickle(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1000)
            for byte in b"$100\r\n" + b"x" * 100:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        asks: list[Callable[[], object]] = [
            lambda: lane.peek(address, "users", "k"),
            lambda: asyncio.run(lane.apeek(address, "users", "k")),
        ]
        for ask in asks:
            began = time.monotonic()
            with pytest.raises(PeerError, match="did not answer"):
                ask()
            assert time.monotonic() - began < 4.0  # the whole answer takes 10 s
        listener.shutdown(socket.SHUT_RDWR)
