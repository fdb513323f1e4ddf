"""One load for all callers that ask at once: a test for each way in which it can end, with threads and with tasks."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from kamacache import Group, LoadError, LoadTimeout, Node
from kamacache.load.flight import abandon_idle
from tests.unit.groups import AsyncHeld, Caller, Held, begun, counts, settled, tasks_join, until, waiting

SOON: Any = {"load_timeout": "200ms"}
KINDS = [Held, AsyncHeld]


def threads(group: Group[Any], held: Held, number: int = 4) -> list[Caller]:
    """Return a leader whose load has begun, and the callers that wait for it."""
    leader = Caller(group.get, "k")
    held.wait_begun()
    return [leader, *(waiting(group.get, "k") for _ in range(number - 1))]


async def tasks(group: Group[Any], held: Held, number: int = 4) -> list[asyncio.Task[Any]]:
    leader = asyncio.create_task(group.aget("k"))
    await begun(held)
    others = [asyncio.create_task(group.aget("k")) for _ in range(number - 1)]
    await settled()
    return [leader, *others]


def failing(key: str) -> bytes:
    raise OSError(f"no {key}")


def check_each_has_its_own(errors: list[Any]) -> None:
    assert all(type(error) is LoadError for error in errors)
    assert len({id(error) for error in errors}) == len(errors)
    assert len({id(error.__cause__) for error in errors}) == 1
    assert all(isinstance(error.__cause__, OSError) and error.cause_type == "OSError" for error in errors)
    assert all(error.key == "k" and "no k" in str(error) for error in errors)


@pytest.mark.parametrize("kind", KINDS)
class TestThreads:
    def test_a_value(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held)
        callers = threads(group, held)
        held.go.set()
        assert [caller.result() for caller in callers] == [b"k"] * 4
        assert held.calls == {"k": 1}
        assert counts(group) == {"loads": 1, "joined": 3}

    def test_absence(self, node: Node, kind: type[Held]) -> None:
        held = kind(lambda _: None)
        group = node.group("g", held)
        callers = threads(group, held)
        held.go.set()
        assert [caller.result() for caller in callers] == [None] * 4
        assert group.get("k") is None
        assert held.calls == {"k": 1}
        assert counts(group) == {"loads": 1, "joined": 3, "absent": 1}

    def test_an_error(self, node: Node, kind: type[Held]) -> None:
        held = kind(failing)
        group = node.group("g", held)
        callers = threads(group, held)
        held.go.set()
        check_each_has_its_own([caller.error() for caller in callers])
        assert held.calls == {"k": 1}
        assert (counts(group), group.stats().load_errors) == ({"loads": 1, "joined": 3}, 1)
        assert group.stats().entries == 0
        held.answer = str.encode
        assert group.get("k") == b"k"  # at once

    def test_a_timeout(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held, **SOON)
        leader, *others = threads(group, held)
        errors = [caller.error() for caller in others]
        assert all(type(error) is LoadTimeout for error in errors)
        assert len({id(error) for error in errors}) == 3
        if isinstance(held, AsyncHeld):
            assert isinstance(leader.error(), LoadTimeout)
            assert held.cancelled.acquire(timeout=10)
        again = Caller(group.get, "k")  # the flight is detached: this one leads another
        held.wait_begun()
        held.go.set()
        assert again.result() == b"k"
        if not isinstance(held, AsyncHeld):
            assert leader.result() == b"k"  # a thread cannot be stopped: it gets its value
        assert held.calls == {"k": 2}
        assert counts(group) == {"loads": 2, "joined": 3}

    def test_the_node_is_closed(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held)
        _, *others = threads(group, held)
        group.close()
        assert {type(caller.error()).__name__ for caller in others} == {"GroupClosed"}
        held.go.set()


@pytest.mark.parametrize("kind", KINDS)
class TestTasks:
    async def value(self, group: Group[Any], held: Held) -> None:
        callers = await tasks(group, held)
        held.go.set()
        assert await asyncio.gather(*callers) == [b"k"] * 4

    async def absence(self, group: Group[Any], held: Held) -> None:
        held.answer = lambda _: None
        callers = await tasks(group, held)
        held.go.set()
        assert await asyncio.gather(*callers) == [None] * 4

    async def error(self, group: Group[Any], held: Held) -> None:
        held.answer = failing
        callers = await tasks(group, held)
        held.go.set()
        check_each_has_its_own(await asyncio.gather(*callers, return_exceptions=True))
        assert group.stats().load_errors == 1
        assert group.stats().entries == 0

    async def the_leader_is_cancelled(self, group: Group[Any], held: Held) -> None:
        leader, *others = await tasks(group, held)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        held.go.set()
        assert await asyncio.gather(*others) == [b"k"] * 3

    async def all_are_cancelled(self, group: Group[Any], held: Held) -> None:
        callers = await tasks(group, held)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        late = asyncio.create_task(group.aget("k"))
        await settled()
        held.go.set()
        assert await late == b"k"  # of the load that went on

    @pytest.mark.parametrize("end", ["value", "absence", "error", "the_leader_is_cancelled", "all_are_cancelled"])
    def test_one_load(self, node: Node, kind: type[Held], end: str) -> None:
        held = kind()
        group = node.group("g", held)
        asyncio.run(getattr(self, end)(group, held))
        assert held.calls == {"k": 1}
        found = counts(group)
        assert sum(found.values()) == group.stats().gets
        if end in {"value", "absence", "error"}:
            assert found == {"loads": 1, "joined": 3}

    def test_a_timeout(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held, **SOON)

        async def main() -> None:
            errors = await asyncio.gather(*await tasks(group, held), return_exceptions=True)
            assert all(type(error) is LoadTimeout for error in errors)
            assert len({id(error) for error in errors}) == 4
            if isinstance(held, AsyncHeld):
                assert held.cancelled.acquire(timeout=10)
            again = asyncio.create_task(group.aget("k"))
            await begun(held)
            held.go.set()
            assert await again == b"k"

        asyncio.run(main())
        assert held.calls == {"k": 2}
        assert counts(group) == {"loads": 2, "joined": 3}

    def test_threads_and_tasks_share(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held)

        async def main() -> None:
            leader, *others = await tasks(group, held)
            callers = [await asyncio.to_thread(waiting, group.get, "k") for _ in range(3)]
            held.go.set()
            assert await asyncio.gather(leader, *others) == [b"k"] * 4
            assert [await asyncio.to_thread(caller.result) for caller in callers] == [b"k"] * 3

        asyncio.run(main())
        assert held.calls == {"k": 1}
        assert counts(group) == {"loads": 1, "joined": 6}

    def test_tasks_wait_for_a_thread(self, node: Node, kind: type[Held]) -> None:
        held = kind()
        group = node.group("g", held)
        leader = Caller(group.get, "k")
        held.wait_begun()
        tasks_join(group, held, leader)


def test_a_late_load_of_a_thread_is_not_kept(node: Node) -> None:
    held = Held()
    group = node.group("g", held, **SOON)
    leader, other = threads(group, held, 2)
    assert isinstance(other.error(), LoadTimeout)
    held.go.set()
    assert leader.result() == b"k"
    assert group.peek("k") is None


def test_a_caller_after_the_timeout_leads_although_none_waited(node: Node) -> None:
    held = Held()
    group = node.group("g", held, load_timeout="50ms")
    leader = Caller(group.get, "k")
    held.wait_begun()
    assert not threading.Event().wait(0.06)  # the time runs by the machine's clock
    again = Caller(group.get, "k")
    held.wait_begun()
    held.go.set()
    assert (leader.result(), again.result()) == (b"k", b"k")
    assert counts(group) == {"loads": 2}


def test_without_a_limit(node: Node) -> None:
    held = Held()
    group = node.group("g", held, load_timeout=None)
    callers = threads(group, held)
    held.go.set()
    assert [caller.result() for caller in callers] == [b"k"] * 4


# -- interrupts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_leaders_thread_is_interrupted(node: Node, error: type[BaseException]) -> None:
    interrupts = [error()]

    def answer(key: str) -> bytes:
        if interrupts:
            raise interrupts.pop()
        return key.encode()

    held = Held(answer)
    group = node.group("g", held)
    leader, *others = threads(group, held)
    held.go.set()
    assert type(leader.error()) is error  # its own, as it was
    assert [caller.result() for caller in others] == [b"k"] * 3  # they have run the load again
    assert held.calls == {"k": 2}
    assert counts(group)["loads"] == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle the signal even if the parent process ignores it, as shells do in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_interrupts_the_leader_alone(node: Node) -> None:
    held = Held()
    group = node.group("g", held)
    others: list[Caller] = []

    def interrupt() -> None:
        held.wait_begun()
        others.append(waiting(group.get, "k"))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = Caller(interrupt)
    with pytest.raises(KeyboardInterrupt):
        group.get("k")
    interrupter.result()
    held.wait_begun()  # the other leads now
    held.go.set()
    assert others[0].result() == b"k"
    assert group.get("k") == b"k"
    assert held.calls == {"k": 2}


@pytest.mark.usefixtures("interruptible")
def test_a_signal_interrupts_a_caller_that_waits(node: Node) -> None:
    held = Held()
    group = node.group("g", held)
    leader = Caller(group.get, "k")
    held.wait_begun()
    main = Caller.__new__(Caller)
    main.thread = threading.main_thread()

    def interrupt() -> None:
        until(lambda: group.stats().gets == 2 and main.waits())
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    interrupter = Caller(interrupt)
    with pytest.raises(KeyboardInterrupt):
        group.get("k")
    interrupter.result()
    held.go.set()
    assert leader.result() == b"k"
    assert counts(group) == {"loads": 1, "joined": 1}


def test_an_async_loader_that_cancels_itself_has_failed(node: Node) -> None:
    async def load(key: str) -> bytes:
        raise asyncio.CancelledError

    group = node.group("g", load)
    with pytest.raises(LoadError) as caught:
        group.get("k")
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    with pytest.raises(LoadError):
        asyncio.run(group.aget("k"))
    assert group.stats().load_errors == 2


def test_a_load_that_begins_elsewhere_while_the_sweeper_looks() -> None:
    """Leave it alone: it has no event loop any more."""
    ended: list[Any] = []
    flights: Any = SimpleNamespace(
        watched=lambda: [SimpleNamespace(driver=None, here=True, left=lambda: 1.0)],
        end=lambda flight, _: ended.append(flight),
    )
    abandon_idle(flights, 1.0)
    assert not ended
