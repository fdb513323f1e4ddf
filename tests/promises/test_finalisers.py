"""Finalisers and signal handlers may use the group that they interrupt: the call works, or raises at once."""

from __future__ import annotations

import asyncio
import functools
import gc
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from kamacache import Group, KamaCacheError, Node, thread
from tests.promises.support import KINDS, Source, in_tasks, isolated, make_group, right, seeded
from tests.unit.groups import Caller

WORLDS = ("threads", "tasks")
ROUNDS = 150
SIGNALS = 300

kinds = pytest.mark.parametrize("kind", KINDS)
worlds = pytest.mark.parametrize("world", WORLDS)
actions = pytest.mark.parametrize("action", ["get", "set", "delete"])


class Thing:
    """A decoded value, whose end can be watched."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class LoudThing(Thing):
    """A decoded value that calls `gone` in __del__."""

    gone: Callable[[], None] = staticmethod(lambda: None)

    def __del__(self) -> None:
        type(self).gone()


class ThingCodec:
    """A codec of decoded objects, which end with their entry."""

    shareable = True

    def __init__(self, make: Callable[[bytes], Thing]) -> None:
        self.make = make

    def encode(self, value: Thing) -> bytes:
        return value.data

    def decode(self, data: bytes) -> Thing:
        return self.make(data)


class Nested:
    """The act of a finaliser or handler on a group; none while one runs in this thread already."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.times = 0
        self.wrong: list[BaseException] = []
        self._busy = threading.local()

    def __call__(self) -> None:
        if getattr(self._busy, "now", False):
            return
        self._busy.now = True
        self.times += 1
        try:
            self.act()
        except KamaCacheError:
            pass  # at once
        except BaseException as error:  # noqa: BLE001 - an error of a finaliser is not seen otherwise
            self.wrong.append(error)
        finally:
            self._busy.now = False


def acting(group: Group[Any], action: str, value: Callable[[str], Any]) -> Callable[[], Any]:
    """Return a function that does this with keys of the group, in turn."""
    rng = seeded()

    def act() -> Any:
        key = f"k{rng.randrange(40)}"
        return group.set(key, value(key)) if action == "set" else getattr(group, action)(key)

    return act


def use(group: Group[Any], world: str, value: Callable[[str], Any]) -> None:
    """Read and write many keys, on two threads or in two tasks."""

    def thread(first: int) -> None:
        for number in range(ROUNDS):
            key = f"k{(first + number) % 40}"
            assert group.get(key) is not None
            assert len(group.get_many([key, f"k{number % 40}"])) in {1, 2}
            if number % 2:
                group.delete(key)
            else:
                group.set(key, value(key))

    async def task(first: int) -> None:
        for number in range(ROUNDS):
            key = f"k{(first + number) % 40}"
            assert await group.aget(key) is not None
            assert len(await group.aget_many([key, f"k{number % 40}"])) in {1, 2}
            if number % 2:
                await group.adelete(key)
            else:
                await group.aset(key, value(key))

    if world == "threads":
        for caller in [Caller(thread, first) for first in (0, 20)]:
            caller.future.result(50)
    else:
        assert in_tasks(lambda: task(0), lambda: task(20), within=50) == [None, None]


@pytest.mark.parametrize("way", ["__del__", "weakref.finalize"])
@kinds
@worlds
@actions
@isolated()
def test_an_evicted_object(way: str, kind: str, world: str, action: str) -> None:
    def finalized(data: bytes) -> Thing:
        thing = Thing(data)
        weakref.finalize(thing, LoudThing.gone)
        return thing

    def value(key: str) -> Thing:
        return Thing(key.encode() + bytes(4000))

    codec = ThingCodec(LoudThing if way == "__del__" else finalized)
    group = make_group(Node(), kind, value, codec=codec, max_bytes="64 KiB", load_timeout=None)
    nested = Nested(acting(group, action, value))
    LoudThing.gone = staticmethod(nested)
    use(group, world, value)
    assert nested.times, "nothing was evicted"
    assert not nested.wrong, nested.wrong
    assert all(Caller(group.get, f"k{number}").result() is not None for number in range(40))


@kinds
@worlds
@actions
@isolated()
def test_garbage_collected_at_any_allocation(kind: str, world: str, action: str) -> None:
    source = Source()
    group = make_group(Node(), kind, source, load_timeout=None)
    nested = Nested(acting(group, action, source.made))

    class Garbage:
        """A circle, whose finaliser leaves another."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            if not ended:
                nested()
                Garbage()

    ended = False
    group.get("warm")
    before = gc.get_threshold()
    gc.set_threshold(1)
    Garbage()
    use(group, world, source.made)
    ended = True
    gc.set_threshold(*before)
    assert nested.times > ROUNDS, f"finalisers ran {nested.times} times only"
    assert not nested.wrong, nested.wrong
    check_calm(group)


@kinds
@worlds
@actions
@isolated()
def test_a_signal_handler(kind: str, world: str, action: str) -> None:
    rng = seeded()
    source = Source()
    group = make_group(Node(), kind, source, load_timeout=None)
    nested = Nested(acting(group, action, source.made))

    def handler(signum: int, frame: FrameType | None) -> None:
        nested()

    signal.signal(signal.SIGALRM, handler)
    sent = 0

    def armed() -> bool:
        """Send another signal once the last has come; return whether there is one to wait for."""
        nonlocal sent
        if nested.times == sent < SIGNALS:
            sent += 1
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 3e-4))
        return nested.times < sent

    async def task(first: int) -> None:
        number = first
        while armed():
            key = f"k{(number := number + 1) % 40}"
            await group.adelete(key)
            assert right(key, await group.aget(key))
            await group.aset(key, source.made(key))
            await asyncio.sleep(0)

    if world == "threads":
        number = 0
        while armed():
            key = f"k{(number := number + 1) % 40}"
            group.delete(key)
            assert right(key, group.get(key))
            group.set(key, source.made(key))
    else:
        assert in_tasks(lambda: task(0), lambda: task(20), within=50) == [None, None]
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert not nested.wrong, nested.wrong
    check_calm(group)


@isolated()
def test_a_call_inside_the_beginning_of_an_automatic_start() -> None:
    node = Node("127.0.0.1:0", registry="static://127.0.0.1:1")
    group = make_group(node, "plain", Source())
    begin, calls = thread.start, 0

    def interrupted(name: str, target: Callable[..., Any], *args: Any) -> threading.Thread:
        """Start a thread; a signal handler that deletes a key comes in between, once."""
        nonlocal calls
        calls += name == "kamacache-start"
        if name == "kamacache-start" and calls == 1:
            group.delete("k")
        return begin(name, target, *args)

    thread.start = interrupted
    assert right("k", group.get("k"))
    assert calls
    node.close()


def check_calm(group: Group[Any]) -> None:
    """Check that every key is answered and kept."""
    keys = [f"k{number}" for number in range(40)]
    assert all(right(key, Caller(group.get, key).result()) for key in keys[:5])
    assert all(map(right, keys, in_tasks(*(functools.partial(group.aget, key) for key in keys))))
    for key in keys:
        assert group.delete(key) is True
        assert group.get(key) == group.get(key)
