"""The context that travels to the loader of a key's owner: chosen ContextVars, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from kamacache import Group, Node
from kamacache.carried import MOST
from kamacache.deadline import Deadline
from kamacache.load.outcome import ABORTED
from kamacache.net.messages import LoadReply, LoadRequest
from kamacache.steps import Wait
from tests.cluster.cluster import PATIENCE, in_thread, wait_until

TENANT: ContextVar[Any] = ContextVar("test.tenant", default="nobody")
LOCALE: ContextVar[Any] = ContextVar("test.locale")
PRIVATE: ContextVar[str] = ContextVar("test.private", default="unset")


class Pair:
    """A client node and an owner, with sockets. The loaders of the owner note what they find."""

    def __init__(self, asker: Node, owner: Node) -> None:
        self.asker, self.owner = asker, owner
        self.seen: list[tuple[Any, Any, str]] = []
        self.go = threading.Event()
        self.go.set()

    def group(self, kind: str = "plain") -> Group[bytes]:
        """Return the asker's group, whose loader on the owner is of this kind."""
        functions: dict[str, dict[str, Any]] = {
            "plain": {"loader": self.load},
            "async": {"loader": self.aload},
            "many": {"loader": self.load, "load_many": self.load_many},
            "threads": {"loader": self.load, "concurrency": 4},
        }
        self.owner.group("users", **functions[kind])
        group: Group[bytes] = self.asker.group("users", **functions[kind] | {"loader": None, "load_many": None})
        membership = self.asker._membership
        wait_until(lambda: (owner := membership.owner("users", "key")) is not None and owner.id == self.owner.id)
        return group

    def load(self, _: str) -> bytes:
        assert self.go.wait(PATIENCE)
        self.seen.append((TENANT.get(), LOCALE.get(None), PRIVATE.get()))
        return b"value"

    async def aload(self, key: str) -> bytes:
        await asyncio.sleep(0)
        return self.load(key)

    def load_many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: self.load(key) for key in keys}


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    registry = f"local://{tmp_path}"
    with (
        Node(registry=registry, context=[TENANT, LOCALE], client=True) as asker,
        Node(registry=registry, context=[LOCALE, TENANT]) as owner,
    ):
        yield Pair(asker, owner)


def inside(tenant: Any, call: Callable[[], Any]) -> Any:
    """Do something on this thread where the variables are set."""

    def run() -> Any:
        TENANT.set(tenant)
        LOCALE.set("zh-CN")
        PRIVATE.set("secret")
        return call()

    return contextvars.Context().run(run)


def in_task(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
    return lambda: asyncio.run(ask())


@pytest.mark.parametrize("kind", ["plain", "async", "many", "threads"])
def test_loader_finds_what_callers_elsewhere_have_set(pair: Pair, kind: str) -> None:
    """Show the loader the values that were named, of threads and tasks, for keys and batches, and nothing else."""
    group = pair.group(kind)
    batch = [f"key{number}" for number in range(8)]
    calls: list[Callable[[], Any]] = [
        lambda: group.get("a"),
        lambda: group.get_many(batch),
        in_task(lambda: group.aget("b")),
        in_task(lambda: group.aget_many([f"a{key}" for key in batch])),
    ]
    for number, call in enumerate(calls):
        inside({"id": number}, call)
        assert pair.seen == [({"id": number}, "zh-CN", "unset")] * (8 if number % 2 else 1)
        pair.seen.clear()
    group.get("after")  # nothing is left of the requests before
    assert pair.seen == [("nobody", None, "unset")]


def test_callers_that_join_a_load_leave_its_context_alone(pair: Pair) -> None:
    group = pair.group()
    pair.go.clear()
    first = in_thread(inside, "first", lambda: group.get("key"))
    flights = pair.owner._groups.cores["users"].misses.local.flights
    wait_until(lambda: flights.running("key"))
    second = in_thread(inside, "second", lambda: group.get("key"))
    pair.go.set()
    assert (first.result(PATIENCE), second.result(PATIENCE)) == (b"value", b"value")
    assert [tenant for tenant, *_ in pair.seen] == ["first"]


def test_values_that_do_not_travel_are_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """Load without a value that is no JSON or too long, and log that once a minute."""
    group = pair.group()
    with caplog.at_level(logging.WARNING, "kamacache"):
        inside(object(), lambda: group.get("a"))
        inside("x" * MOST, lambda: group.get("b"))
    assert pair.seen == [("nobody", "zh-CN", "unset")] * 2
    (record,) = caplog.records
    assert "'test.tenant' does not travel" in record.getMessage()
    inside("x" * (MOST - 2 - len('"zh-CN"')), lambda: group.get("c"))  # as much as there is room for
    assert [len(tenant) for tenant, *_ in pair.seen[2:]] == [MOST - 9]


def test_strange_context_is_ignored(pair: Pair) -> None:
    """Load with what can be read of a context: another version of the program may have sent it."""
    pair.group()
    packed = {"unknown": "1", "test.tenant": "[" * MOST, "test.locale": '"de"', "test.private": '"x"'}
    request = LoadRequest("users", ["key"], context=packed | {"": "", "test.locale": '"de"'})
    lane, deadline = pair.asker._runtime.lane, Deadline.after(PATIENCE)
    reply: LoadReply = Wait(lane.call(pair.owner.address or "", request, deadline), deadline).run()
    assert reply.answers[0].value == b"value"
    assert pair.seen == [("nobody", "de", "unset")]


def test_load_that_begins_again_has_the_same_context(pair: Pair) -> None:
    """Go on in the context of the asker if the load that it joined was interrupted."""
    group = pair.group()
    pair.go.clear()
    own = in_thread(inside, "interrupted", lambda: pair.owner.group("users", pair.load).get("key"))
    flights = pair.owner._groups.cores["users"].misses.local.flights
    wait_until(lambda: flights.running("key"))
    joined = in_thread(inside, "asker", lambda: group.get("key"))
    wait_until(lambda: pair.owner.group("users", pair.load).stats().served)
    flight = flights.running("key")
    assert flight is not None
    flights.end(flight, ABORTED)
    pair.go.set()
    assert joined.result(PATIENCE) == b"value"
    own.result(PATIENCE)
    assert "asker" in [tenant for tenant, *_ in pair.seen]
