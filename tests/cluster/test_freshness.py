"""Old values and remembered failures in a cluster, under schedules that the test decides.

A is the owner of the key, B and C are other members, and the last node is a client node.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from kamacache import Group, LoadError, Node, Overloaded, Value
from kamacache.deadline import Deadline
from kamacache.net.messages import LoadRequest
from kamacache.testing import GATE_TIMEOUT, Network
from tests.cluster.cluster import PATIENCE, Cluster, Hold, Source, in_thread, wait_until

T = TypeVar("T")
OLD, NEW, SET = b"old", b"new", b"set"
WAYS = ["get", "get_many", "aget", "aget_many", "get_or_load", "aget_or_load"]
SECONDS = 10.0
WINDOWS: dict[str, Any] = {"ttl": SECONDS, "stale_while_revalidate": 1000, "near_ttl": 5}
IF_ERROR: dict[str, Any] = {"ttl": SECONDS, "stale_if_error": 1000, "near_ttl": 5}


class Fallible(Source):
    """A source that fails while it is down, or for some keys. A held load fails if it is down at its end."""

    def __init__(self) -> None:
        super().__init__(OLD)
        self.down = False
        self.broken: set[str] = set()

    def check(self, key: str) -> None:
        if self.down or key in self.broken:
            raise ConnectionError("the database is down")

    def load(self, key: str) -> bytes | None:
        value = super().load(key)
        self.check(key)
        return value

    async def aload(self, key: str) -> bytes | None:
        value = await super().aload(key)
        self.check(key)
        return value


class Old:
    """A cluster of three members and a client node."""

    def __init__(self, cluster: Cluster, source: Fallible, ways: list[str]) -> None:
        self.cluster, self.source, self.ways = cluster, source, ways
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.client = cluster.add(loader=False, client=True)
        cluster.settle()
        self.key = cluster.key_of(cluster.nodes[0])
        self.a, self.b, self.c, self.client_group = cluster.groups

    def ask(self, way: str, group: Group[bytes], key: str = "") -> bytes | None:
        key = key or self.key
        match way:
            case "get":
                return group.get(key)
            case "get_many":
                return group.get_many([key]).get(key)
            case "aget":
                return self.run(group.aget(key))
            case "aget_many":
                return self.run(group.aget_many([key])).get(key)
            case "get_or_load":
                return group.get_or_load(key, self.source.load)
        return self.run(group.aget_or_load(key, self.source.load))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop that lives as long as the cluster."""
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(PATIENCE)

    def everywhere(self) -> set[bytes | None]:
        """Return what all ways on all nodes answer."""
        return {self.ask(way, group) for group in self.cluster.groups for way in self.ways}

    def fill(self, value: bytes = NEW, age: float = SECONDS + 1) -> None:
        """Keep the old value at its owner, let it get older, and give the source another."""
        assert self.ask("get_or_load", self.a) == OLD
        self.cluster.advance(age)
        self.source.value = value
        self.source.loads.clear()

    def hold(self, ask: Callable[[], Any], value: Any = OLD) -> Hold:
        """Begin a load in the background that brings the old value, and hold it."""
        hold = self.source.hold(self.key)
        self.source.value = OLD
        assert ask() == value
        hold.wait()
        self.source.value = NEW
        return hold

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()

    @property
    def loads(self) -> int:
        return self.source.loads[self.key]


@contextmanager
def old(network: Network | None = None, loader: bool = True, **options: Any) -> Iterator[Old]:
    source = Fallible()
    with Cluster(0, network=network, source=source, **options) as cluster:
        for _ in range(3):
            cluster.add(loader=loader)
        case = Old(cluster, source, WAYS if loader else WAYS[-2:])
        try:
            yield case
        finally:
            case.close()


def failures(case: Old) -> set[str]:
    """Return the causes of the errors that all ways on all nodes raise."""
    causes = set()
    for group in case.cluster.groups:
        for way in WAYS:
            with pytest.raises(LoadError) as caught:
                case.ask(way, group)
            causes.add(str(caught.value.cause_type))
    return causes


def test_a_failure_for_which_another_member_gets_the_old_value_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Do not say at the owner that the other process gets the error, too."""
    with old(**IF_ERROR) as case:
        case.fill()
        case.cluster.advance(SECONDS + 10)
        case.source.down = True
        assert case.ask("get", case.b) == OLD
        wait_until(lambda: "callers get the old value" in caplog.text)
        assert "for which another process asked" not in caplog.text


# (a) One load for all.


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "options", [WINDOWS, {"ttl": 1000, "refresh_after": SECONDS, "near_ttl": 5}], ids=["stale", "refresh"]
)
def test_all_get_the_old_value_at_once_while_one_loads(
    options: dict[str, Any], way: str, first: int, loader: bool
) -> None:
    """Hold the load that the first caller begins, and ask everywhere, also after a second. Then let it end."""
    if not loader and not way.endswith("or_load"):
        pytest.skip("it has no function to run")
    with old(loader=loader, **options) as case:
        case.fill()
        hold = case.source.hold(case.key)
        assert case.ask(way, case.cluster.groups[first]) == OLD
        hold.wait()
        assert case.everywhere() == {OLD}
        case.cluster.advance(1.5)
        assert case.everywhere() == {OLD}
        assert case.loads == 1
        hold.open()
        wait_until(lambda: case.a.peek(case.key) == NEW)
        case.cluster.advance(5)  # of near copies that were within their ttl
        assert case.everywhere() == {NEW}
        assert case.loads == 1


@pytest.mark.parametrize("use_async", [False, True])
def test_async_loaders_load_once_as_well(use_async: bool) -> None:
    with old(use_async=use_async, **WINDOWS) as case:
        case.fill()
        hold = case.source.hold(case.key)
        calls = [in_thread(case.ask, way, group) for group in case.cluster.groups for way in WAYS[:4]]
        assert {call.result(PATIENCE) for call in calls} == {OLD}
        hold.wait()
        hold.open()
        wait_until(lambda: case.a.peek(case.key) == NEW)
        assert case.everywhere() == {NEW}
        assert case.loads == 1


def test_near_copies_do_not_keep_a_value_from_its_refresh() -> None:
    """Ask all but the owner, which looks alone whether a value is to be refreshed."""
    with old(ttl=1000, refresh_after=SECONDS, near_ttl=900) as case:
        assert case.a.get(case.key) == OLD
        others = [group for group in case.cluster.groups if group is not case.a]
        assert [group.get(case.key) for group in others for _ in range(2)] == [OLD] * 6
        assert {group.stats().near_hits for group in others} == {1}
        case.source.value = NEW
        case.cluster.advance(SECONDS + 1)
        wait_until(lambda: {group.get(case.key) for group in others} == {NEW})
        assert case.loads == 2


def test_an_absence_is_old_everywhere_too() -> None:
    with old(negative_ttl=SECONDS, **WINDOWS) as case:
        case.source.value = None
        assert case.a.get(case.key) is None
        case.cluster.advance(SECONDS + 1)
        case.source.value = NEW
        hold = case.source.hold(case.key)
        assert {case.ask(way, group) for group in case.cluster.groups for way in WAYS[:4]} == {None}
        hold.wait()
        hold.open()
        wait_until(lambda: case.b.get(case.key) == NEW)
        assert case.everywhere() == {NEW}


class Functions:
    """A node with two cached functions whose value tells how often they ran in all."""

    def __init__(self, cluster: Cluster, runs: list[str], **options: Any) -> None:
        self.node = cluster.make(group=False)

        @self.node.cached(name="plain", jitter=0, **options)
        def plain(key: str) -> bytes:
            runs.append(key)
            return b"%d" % len(runs)

        @self.node.cached(name="coroutine", jitter=0, **options)
        async def coroutine(key: str) -> bytes:
            runs.append(key)
            return b"%d" % len(runs)

        self.plain, self.coroutine = plain, coroutine
        self.node.start()
        cluster.nodes.append(self.node)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_cached_functions_run_once_for_an_old_value(asynchronous: bool) -> None:
    runs: list[str] = []
    with Cluster(0) as cluster:
        webs = [Functions(cluster, runs, ttl=SECONDS, stale_while_revalidate=1000) for _ in range(3)]
        wait_until(lambda: all(len(web.node.members()) == 3 for web in webs))
        wait_until(lambda: all(peer.greeted for web in webs for peer in web.node._membership.peers.all()))

        async def work() -> None:
            async def ask(web: Functions) -> bytes:
                return await web.coroutine("k") if asynchronous else await asyncio.to_thread(web.plain, "k")

            assert await ask(webs[0]) == b"1"
            cluster.advance(SECONDS + 1)
            answers = [await ask(web) for web in webs]
            assert set(answers) <= {b"1", b"2"}
            assert answers[0] == b"1"
            while {await ask(web) for web in webs} != {b"2"}:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            assert len(runs) == 2
            cluster.advance(SECONDS + 1)
            if asynchronous:
                assert await webs[1].coroutine.invalidate("k") is True
            else:
                assert await asyncio.to_thread(webs[1].plain.invalidate, "k") is True
            assert {await ask(web) for web in webs} == {b"3"}

        asyncio.run(asyncio.wait_for(work(), PATIENCE))


def test_a_cached_function_that_fails_returns_the_old_value_where_it_was_called() -> None:
    down = False

    def plain(key: str) -> str:
        if down:
            raise ConnectionError("the database is down")
        return key

    async def coroutine(key: str) -> str:
        return plain(key)

    with Cluster(0) as cluster:
        nodes = [cluster.make(group=False) for _ in range(3)]
        options: dict[str, Any] = {"ttl": SECONDS, "stale_if_error": 1000, "jitter": 0}
        plains = [node.cached(name="plain", **options)(plain) for node in nodes]
        coroutines = [node.cached(name="coroutine", **options)(coroutine) for node in nodes]
        for node in nodes:
            node.start()
        cluster.nodes += nodes
        wait_until(lambda: all(len(node.members()) == 3 for node in nodes))
        wait_until(lambda: all(peer.greeted for node in nodes for peer in node._membership.peers.all()))
        keys = list("abcdef")
        assert [[plains[0](key), asyncio.run(coroutines[0](key))] for key in keys] == [[key, key] for key in keys]
        cluster.advance(SECONDS + 1)
        down = True
        for function, other in zip(plains, coroutines, strict=True):
            assert [[function(key), asyncio.run(other(key))] for key in keys] == [[key, key] for key in keys]
        assert plains[2].invalidate("a") is True
        with pytest.raises(ConnectionError):
            plains[1]("a")


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_a_task_whose_loop_ends_gives_its_turn_back(first: int, use_async: bool) -> None:
    """Let the loop of the caller, whose function would load the value anew, end before the function does."""
    with old(loader=False, **WINDOWS) as case:
        case.fill()
        go = threading.Event()

        async def never(_: str) -> bytes:
            await asyncio.sleep(3600)
            return b"never"

        def late(_: str) -> bytes:
            go.wait(PATIENCE)
            return NEW

        assert asyncio.run(case.cluster.groups[first].aget_or_load(case.key, never if use_async else late)) == OLD
        go.set()

        def renewed() -> bool:
            case.cluster.advance(1.1)
            return case.c.get_or_load(case.key, case.source.load) == NEW

        wait_until(renewed)
        assert case.everywhere() == {NEW}


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_is_not_kept_ends_the_old_one(way: str, first: int, loader: bool) -> None:
    """Load a value on one node that is not to be kept. From then on a failure is a failure everywhere."""
    if not loader and not way.endswith("or_load"):
        pytest.skip("it has no function to run")
    with old(loader=loader, **IF_ERROR) as case:
        case.fill(Value(NEW, ttl=0))  # type: ignore[arg-type] # codecs make bytes of it
        assert case.ask(way, case.cluster.groups[first]) == NEW
        case.source.down = True
        for group in case.cluster.groups:
            for asked in case.ways:
                with pytest.raises(LoadError):
                    case.ask(asked, group)


# (b) Writes win.


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("writer", [0, 1, 2, 3])
@pytest.mark.parametrize("write", ["set", "delete", "clear", "set_many", "delete_many", "set_behind"])
@pytest.mark.parametrize("asker", [0, 1])
def test_a_write_drops_the_old_value_and_what_the_held_load_brings(
    asker: int, write: str, writer: int, loader: bool
) -> None:
    """Hold a load of an old value that was begun in the background; write on some node; then let the load end."""
    way = "get" if loader else "get_or_load"
    with old(loader=loader, **WINDOWS) as case:
        case.fill()
        hold = case.hold(lambda: case.ask(way, case.cluster.groups[asker]))
        assert case.everywhere() == {OLD}  # so that whatever may be kept anywhere is kept
        group = case.cluster.groups[writer]
        match write:
            case "set":
                assert group.set(case.key, SET) is True
            case "set_many":
                assert group.set_many({case.key: SET}) is True
            case "delete":
                assert group.delete(case.key) is True
            case "delete_many":
                assert group.delete_many([case.key]) is True
            case "clear":
                assert group.clear() is True
            case "set_behind":
                group.set(case.key, SET, wait=False)
                assert group._core.behind.flush(Deadline.after(PATIENCE))
        expected = SET if write.startswith("set") else NEW
        assert case.everywhere() == {expected}
        hold.open()
        time.sleep(0.02)
        assert case.everywhere() == {expected}
        case.cluster.advance(6)
        assert case.everywhere() == {expected}


@pytest.mark.parametrize("asker", [1, 3])
@pytest.mark.parametrize("write", ["set", "delete", "clear"])
@pytest.mark.parametrize("way", WAYS[-2:])
def test_a_write_before_the_lease_of_a_load_in_the_background(way: str, write: str, asker: int) -> None:
    """Hold the request for the lease under which the asker loads an old value anew; C writes; then let it through."""
    with old(loader=False, **WINDOWS) as case:
        case.fill()
        gate = case.cluster.network.gate(LoadRequest, source=case.cluster.nodes[asker].address)
        matches = gate.matches
        gate.matches = lambda parcel: matches(parcel) and bool(getattr(parcel.message, "anew", False))
        assert case.ask(way, case.cluster.groups[asker]) == OLD
        gate.wait()
        match write:
            case "set":
                assert case.c.set(case.key, SET) is True
            case "delete":
                assert case.c.delete(case.key) is True
            case "clear":
                assert case.c.clear() is True
        gate.open()
        flights = case.cluster.groups[asker]._core.misses.local.flights
        wait_until(lambda: len(flights) == 0 and len(case.a._core.misses.local.loaded.leases) == 0)
        assert case.loads == 0
        assert case.everywhere() == {SET if write == "set" else NEW}


@pytest.mark.parametrize("loader", [True, False])
def test_a_write_between_the_look_at_an_old_value_and_its_load(loader: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finds its own value old; C writes; then A would begin to load it anew."""
    way = "get" if loader else "get_or_load"
    with old(loader=loader, **WINDOWS) as case:
        case.fill()
        freshness = case.a._core.misses.local.freshness
        assert freshness is not None
        look = freshness.ready

        def ready(keys: list[str]) -> Any:
            found = look(keys)
            assert case.c.set(case.key, SET) is True
            return found

        monkeypatch.setattr(freshness, "ready", ready)
        assert case.ask(way, case.a) == OLD
        monkeypatch.undo()
        wait_until(lambda: len(case.a._core.misses.local.flights) == 0)
        assert case.loads == 0
        assert case.everywhere() == {SET}


@pytest.mark.parametrize("write", ["delete", "clear"])
@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("loader", [True, False])
def test_a_write_while_a_caller_waits_for_a_load_that_may_fail(loader: bool, write: str, down: bool) -> None:
    """B waits for a load that C's delete overtakes. If it fails, the old value is not the answer any more."""
    with old(loader=loader, **IF_ERROR) as case:
        case.fill()
        case.source.value = OLD
        hold = case.source.hold(case.key)
        call = in_thread(case.ask, "get" if loader else "get_or_load", case.b)
        hold.wait()
        case.source.value = NEW
        assert case.c.delete(case.key) if write == "delete" else case.c.clear()
        case.source.broken = {case.key} if down else set()
        hold.open()
        if down:
            with pytest.raises(LoadError):
                call.result(PATIENCE)
            case.source.broken = set()
        else:
            assert call.result(PATIENCE) in {OLD, NEW}  # it began before the write
        assert case.everywhere() == {NEW}


@pytest.mark.parametrize("options", [WINDOWS, IF_ERROR], ids=["stale", "error"])
def test_an_old_answer_on_its_way_during_a_delete(options: dict[str, Any]) -> None:
    """Hold A's answer with the old value to B; C deletes. Who asks B from now on gets the new value."""
    with old(**options) as case:
        case.fill()
        case.source.down = options is IF_ERROR
        gate = case.cluster.network.gate(LoadRequest, stage="reply", source=case.cluster.nodes[1].address)
        call = in_thread(case.b.get, case.key)
        wait_until(lambda: gate.arrived.is_set() or call.done())
        gate.matches = lambda _: False
        case.source.down = False
        assert case.c.delete(case.key) is True
        assert in_thread(case.b.get, case.key).result(PATIENCE) == NEW
        gate.open()
        assert call.result(PATIENCE) in {OLD, NEW}
        assert case.everywhere() == {NEW}


# (c) Near copies.


@pytest.mark.parametrize("options", [WINDOWS, IF_ERROR], ids=["stale", "error"])
@pytest.mark.parametrize("reader", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_near_copies_are_never_older_than_the_ttl(way: str, reader: int, options: dict[str, Any]) -> None:
    """Read a hot key near the end of its ttl and after it; when the owner has the new value, all have it at once."""
    with old(Network(hot=True), **options) as case:
        group = case.cluster.groups[reader]
        case.fill(age=SECONDS - 1)
        assert [case.ask(way, group) for _ in range(4)] == [OLD] * 4
        case.cluster.advance(1.01)
        case.source.down = True
        assert [case.ask(way, group) for _ in range(6)] == [OLD] * 6
        case.source.down = False
        case.cluster.advance(1.01)

        def renewed() -> bool:
            case.cluster.advance(0.01)  # the load that failed may have ended after the step above
            return case.a.get(case.key) == NEW

        wait_until(renewed)
        assert case.ask(way, group) == NEW
        assert case.everywhere() == {NEW}


# (d) Members come, (e) the owner dies.


def moved(case: Old, age: float) -> tuple[Node, str]:
    """Load keys at A, let them get old, and add a member; return it with a key that it took over from A."""
    keys = [f"key{number}" for number in range(60)]
    owned = [key for key in keys if case.cluster.nodes[0].owner("g", key).id == case.cluster.nodes[0].id]
    case.a.get_many(owned)
    case.cluster.advance(age)
    new = case.cluster.add(unix=1000.0 + age)
    case.cluster.settle()
    return new, next(key for key in owned if case.cluster.nodes[0].owner("g", key).id == new.id)


@pytest.mark.parametrize("options", [WINDOWS, IF_ERROR], ids=["stale", "error"])
def test_another_member_takes_an_old_value_over(options: dict[str, Any]) -> None:
    with old(**options) as case:
        new, case.key = moved(case, SECONDS + 1)
        case.source.value = NEW
        case.source.loads.clear()
        assert case.cluster.group(new).get(case.key) in {OLD, NEW}
        wait_until(lambda: case.cluster.group(new).get(case.key) == NEW)
        assert case.everywhere() == {NEW}
        assert case.loads == 1
        case.source.value = b"newer"
        assert case.b.delete(case.key) is True
        assert case.everywhere() == {b"newer"}


def test_the_owner_changes_while_a_load_is_under_way() -> None:
    """Hold a load at A; D joins and owns the key; B deletes it; the load ends."""
    with old(**WINDOWS) as case:
        keys = [f"key{number}" for number in range(40)]
        owned = [key for key in keys if case.cluster.nodes[0].owner("g", key).id == case.cluster.nodes[0].id]
        case.a.get_many(owned)
        case.cluster.advance(SECONDS + 1)
        holds = [case.source.hold(key) for key in owned]
        assert set(case.b.get_many(owned).values()) == {OLD}
        for hold in holds:
            hold.wait()
        new = case.cluster.add(unix=1000.0 + SECONDS + 1)
        case.cluster.settle()
        case.key = next(key for key in owned if case.cluster.nodes[0].owner("g", key).id == new.id)
        assert case.everywhere() == {OLD}
        case.source.value = NEW
        assert case.b.delete(case.key) is True
        assert case.everywhere() == {NEW}
        for hold in holds:
            hold.open()
        time.sleep(0.02)
        assert case.everywhere() == {NEW}


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("held", ["a", "b"])
def test_the_owner_dies_while_a_load_is_under_way(held: str, loader: bool) -> None:
    """Hold the load that A or B's call began; A refuses connections; the others load; the held load ends."""
    way = "get" if loader else "get_or_load"
    with old(loader=loader, **WINDOWS) as case:
        case.fill()
        hold = case.hold(lambda: case.ask(way, getattr(case, held)))
        first = case.cluster.nodes[0]
        assert first.address is not None
        case.cluster.network.kill(first.address)
        case.cluster.network.unregister(first.address)
        answers = [in_thread(case.ask, "get_or_load", group) for group in (case.b, case.c, case.client_group)]
        if held == "a":
            assert {answer.result(GATE_TIMEOUT) for answer in answers} <= {OLD, NEW}
        hold.open()  # some have joined B's load, for want of an old value
        assert {answer.result(GATE_TIMEOUT) for answer in answers} <= {OLD, NEW}
        case.cluster.nodes.remove(first)
        first.close(drain=0)
        wait_until(lambda: all(len(node.members()) == 3 for node in case.cluster.nodes))
        case.cluster.settle()
        assert case.b.delete(case.key) in {True, False}
        assert case.everywhere() == {NEW}


# (f) Failures are remembered.


def test_the_loader_runs_once_for_a_failure() -> None:
    with old(error_ttl=2) as case:
        case.source.down = True
        assert failures(case) == {"ConnectionError"}
        assert case.loads == 1
        for wait, loads in [(1.9, 1), (0.2, 2), (3.7, 2), (0.4, 3)]:
            case.cluster.advance(wait)
            assert failures(case) == {"ConnectionError"}
            assert case.loads == loads
        case.source.down = False
        assert case.b.delete(case.key) is True
        assert case.everywhere() == {OLD}


@pytest.mark.parametrize("first", [0, 1, 3])
def test_the_function_of_a_caller_runs_once_for_a_failure(first: int) -> None:
    with old(loader=False, error_ttl=2) as case:
        case.source.down = True
        for _ in range(3):
            with pytest.raises(LoadError):
                case.ask("get_or_load", case.cluster.groups[first])
        for group in case.cluster.groups:
            for way in ("get_or_load", "aget_or_load"):
                with pytest.raises(LoadError) as caught:
                    case.ask(way, group)
                assert caught.value.cause_type == "ConnectionError"
        assert case.loads == 1


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("writer", [0, 1, 3])
@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_a_write_anywhere_ends_a_failure_and_its_doubling(write: str, writer: int, loader: bool) -> None:
    way = "get" if loader else "get_or_load"
    with old(loader=loader, error_ttl=2) as case:
        case.source.down = True
        for _ in range(3):
            with pytest.raises(LoadError):
                case.ask(way, case.b)
            case.cluster.advance(5)
        with pytest.raises(LoadError):
            case.ask(way, case.c)
        group = case.cluster.groups[writer]
        if write == "set":
            assert group.set(case.key, SET) is True
            assert case.everywhere() == {SET}
            assert group.delete(case.key) is True
        else:
            assert group.delete(case.key) if write == "delete" else group.clear()
        loads = case.loads
        for _ in range(2):
            with pytest.raises(LoadError):
                case.ask(way, case.c)
        assert case.loads == loads + 1
        case.cluster.advance(2.1)
        case.source.down = False
        assert case.ask(way, case.c) == OLD


def test_a_write_while_the_load_that_fails_is_under_way() -> None:
    """Hold a load at A; C deletes the key; the load fails. The failure is older than the write: the next call loads."""
    with old(error_ttl=1000) as case:
        hold = case.source.hold(case.key)
        call = in_thread(case.b.get, case.key)
        hold.wait()
        assert case.c.delete(case.key) is True
        case.source.down = True
        hold.open()
        with pytest.raises(LoadError):
            call.result(PATIENCE)
        case.source.down = False
        assert case.everywhere() == {OLD}


def test_a_failed_load_in_the_background_is_not_begun_again_by_everyone() -> None:
    with old(error_ttl=100, **WINDOWS) as case:
        case.fill()
        case.source.down = True
        assert case.everywhere() == {OLD}
        wait_until(lambda: case.loads == 1)
        for _ in range(5):
            case.cluster.advance(2)
            assert case.everywhere() == {OLD}
        time.sleep(0.02)
        assert case.loads == 1


# (g) A load that takes long.


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("way", WAYS[:4])
@pytest.mark.parametrize("caller", [0, 1, 3])
def test_a_long_load_is_overtaken_on_every_node(caller: int, way: str, use_async: bool) -> None:
    with old(use_async=use_async, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        assert in_thread(case.ask, way, case.cluster.groups[caller]).result(PATIENCE) == OLD
        hold.wait()
        assert {case.ask(one, group) for group in case.cluster.groups for one in WAYS[:4]} == {OLD}
        assert case.loads == 1
        hold.open()
        wait_until(lambda: case.a.peek(case.key) == NEW)
        assert case.everywhere() == {NEW}
        assert case.loads == 1


@pytest.mark.parametrize("holder", [0, 1, 3])
def test_others_do_not_wait_for_a_long_function(holder: int) -> None:
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        call = in_thread(case.ask, "get_or_load", case.cluster.groups[holder])
        hold.wait()
        for group in case.cluster.groups:
            for way in ("get_or_load", "aget_or_load"):
                assert in_thread(case.ask, way, group).result(PATIENCE) == OLD
        assert case.loads == 1
        hold.open()
        assert call.result(PATIENCE) in {OLD, NEW}
        wait_until(lambda: case.a.peek(case.key) == NEW)
        assert case.everywhere() == {NEW}
        assert case.loads == 1


@pytest.mark.parametrize("holder", [0, 1, 3])
@pytest.mark.parametrize("way", WAYS[-2:])
def test_the_holder_does_not_wait_for_a_long_function_either(way: str, holder: int) -> None:
    """Ask twice on the node whose function takes long, and let it end; it runs once and its value is kept."""
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        group = case.cluster.groups[holder]
        assert [in_thread(case.ask, way, group).result(PATIENCE) for _ in range(2)] == [OLD, OLD]
        hold.wait()
        assert case.everywhere() == {OLD}
        hold.open()
        wait_until(lambda: case.a.peek(case.key) == NEW)
        assert case.everywhere() == {NEW}
        assert case.loads == 1
        wait_until(lambda: len(case.a._core.misses.local.loaded.leases) == 0)


@pytest.mark.parametrize("use_async", [False, True])
def test_a_batch_of_which_another_caller_loads_one_key(use_async: bool) -> None:
    """C loads a new key, which B asks for with an old one. B's function takes long; then C's ends, then B's."""
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        fresh = case.cluster.key_of(case.cluster.nodes[0], "fresh")
        holds = {fresh: Hold(), case.key: Hold()}

        def load(keys: list[str]) -> dict[str, bytes]:
            for key in keys:
                holds[key].pause()
            return dict.fromkeys(keys, NEW)

        first = in_thread(case.c.get_many_or_load, [fresh], load)
        holds[fresh].wait()
        if use_async:
            second = in_thread(case.run, case.b.aget_many_or_load([case.key, fresh], load))
        else:
            second = in_thread(case.b.get_many_or_load, [case.key, fresh], load)
        holds[case.key].wait()
        holds[fresh].open()
        assert first.result(PATIENCE) == {fresh: NEW}
        assert second.result(PATIENCE) == {case.key: OLD, fresh: NEW}
        holds[case.key].open()
        wait_until(lambda: case.a.peek(case.key) == NEW)


def test_a_long_function_without_an_old_value_keeps_the_thread_of_its_caller() -> None:
    with old(loader=False, soft_timeout="1ms", **IF_ERROR) as case:
        threads: list[int] = []

        def load(_: str) -> bytes:
            threads.append(threading.get_ident())
            time.sleep(0.02)
            return OLD

        for group in (case.a, case.b):
            assert group.get_or_load(case.key, load) == OLD
            assert case.c.delete(case.key) is True
        assert threads == [threading.get_ident()] * 2


def test_a_function_goes_on_if_its_caller_is_interrupted() -> None:
    """Interrupt B's caller, which waits for soft_timeout while its function runs on a thread of the pool."""
    with old(loader=False, soft_timeout="10s", **IF_ERROR) as case:
        case.fill()
        main, go = threading.get_ident(), threading.Event()

        def load(_: str) -> bytes:
            signal.pthread_kill(main, signal.SIGINT)
            go.wait(PATIENCE)
            return NEW

        with pytest.raises(KeyboardInterrupt):
            case.b.get_or_load(case.key, load)
        call = in_thread(case.c.get_or_load, case.key, case.source.load)
        go.set()
        assert call.result(PATIENCE) == NEW
        wait_until(lambda: case.a.peek(case.key) == NEW and len(case.a._core.misses.local.loaded.leases) == 0)
        assert case.loads == 0


def test_a_function_runs_on_the_thread_of_its_caller_if_the_pool_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        threads: list[int] = []

        def load(_: str) -> bytes:
            threads.append(threading.get_ident())
            return NEW

        def full(*_: Any, **__: Any) -> Any:
            raise Overloaded("10 loads are waiting")

        monkeypatch.setattr(case.b._core.runtime.pool(0), "submit", full)
        assert case.b.get_or_load(case.key, load) == NEW
        assert threads == [threading.get_ident()]
        assert case.everywhere() == {NEW}


@pytest.mark.parametrize("way", WAYS[-2:])
def test_a_function_that_fails_after_its_caller_has_the_old_value(way: str) -> None:
    """B's caller gets the old value while its function runs, which fails then; later calls get the old value, too."""
    with old(loader=False, soft_timeout="30ms", error_ttl=100, **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        assert case.ask(way, case.b) == OLD
        case.source.down = True
        hold.open()
        wait_until(lambda: len(case.a._core.misses.local.loaded.leases) == 0)
        case.cluster.advance(2)
        assert case.everywhere() == {OLD}
        assert case.loads == 1


@pytest.mark.parametrize("way", WAYS[-2:])
@pytest.mark.parametrize("write", ["set", "delete"])
def test_a_write_while_the_holder_has_the_old_value(write: str, way: str) -> None:
    """B's caller gets the old value while its function runs; C writes; what the function brings is not kept."""
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        case.source.value = OLD
        hold = case.source.hold(case.key)
        assert case.ask(way, case.b) == OLD
        case.source.value = NEW
        assert case.c.set(case.key, SET) if write == "set" else case.c.delete(case.key)
        expected = SET if write == "set" else NEW
        assert case.everywhere() == {expected}
        hold.open()
        wait_until(lambda: len(case.a._core.misses.local.loaded.leases) == 0)
        assert case.everywhere() == {expected}


def test_the_holder_of_a_lease_dies_after_others_got_the_old_value() -> None:
    """B holds a lease; its caller and C get the old value meanwhile; B dies, so C's next call loads."""
    with old(loader=False, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        call = in_thread(case.b.get_or_load, case.key, case.source.load)
        hold.wait()
        assert case.c.get_or_load(case.key, case.source.load) == OLD
        assert call.result(PATIENCE) == OLD
        gate = case.cluster.consider_dead(case.cluster.nodes[0], case.cluster.nodes[1])
        case.cluster.advance(1.1)
        assert case.c.get_or_load(case.key, case.source.load) == NEW
        assert len(case.a._core.misses.local.loaded.leases) == 0
        gate.open()
        hold.open()


@pytest.mark.parametrize("write", ["delete", "clear", "set"])
@pytest.mark.parametrize("loader", [True, False])
def test_a_write_while_a_load_is_overdue(loader: bool, write: str) -> None:
    """B's load takes long, so that all get the old value; C writes; the load ends. What it brings is not kept."""
    way = "get" if loader else "get_or_load"
    with old(loader=loader, soft_timeout="30ms", **IF_ERROR) as case:
        case.fill()
        case.source.value = OLD
        hold = case.source.hold(case.key)
        call = in_thread(case.ask, way, case.b)
        hold.wait()
        assert case.ask(way, case.c) == OLD
        if loader:  # the owner loads; an answer that B takes in after the write is asked for again
            assert call.result(PATIENCE) == OLD
        case.source.value = NEW
        match write:
            case "delete":
                assert case.c.delete(case.key) is True
            case "clear":
                assert case.c.clear() is True
            case "set":
                assert case.c.set(case.key, NEW) is True
        assert case.everywhere() == {NEW}
        hold.open()
        assert call.result(PATIENCE) == OLD  # it began before the write
        assert case.everywhere() == {NEW}


# (h) Loads that fail.


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("asker", [0, 1, 3])
def test_some_keys_of_a_batch_fail(asker: int, loader: bool, use_async: bool) -> None:
    """Ask for old and new keys of all owners, of which some cannot be loaded."""
    with old(loader=loader, use_async=use_async, **IF_ERROR) as case:
        had = [case.cluster.key_of(node, "had") for node in case.cluster.nodes[:3]]
        fresh = [case.cluster.key_of(node, "fresh") for node in case.cluster.nodes[:3]]
        fine = [case.cluster.key_of(node, "fine") for node in case.cluster.nodes[:3]]
        group = case.cluster.groups[asker]

        def ask(keys: list[str]) -> dict[str, Any]:
            if loader:
                found: dict[str, Any] = asyncio.run(group.aget_many(keys)) if use_async else group.get_many(keys)
                return found

            def load_many(keys: list[str]) -> dict[str, bytes]:
                return {key: case.source.load(key) or b"" for key in keys}

            if use_async:
                return asyncio.run(group.aget_many_or_load(keys, load_many))
            return group.get_many_or_load(keys, load_many)

        assert ask(had + fine) == dict.fromkeys(had + fine, OLD)
        case.cluster.advance(SECONDS + 1)
        case.source.value = NEW
        case.source.broken = set(had)
        if loader:  # a function that loads many fails for all
            assert ask(had + fine + fresh) == dict.fromkeys(had, OLD) | dict.fromkeys(fine + fresh, NEW)
        else:
            assert ask(had) == dict.fromkeys(had, OLD)
            assert ask(fine + fresh) == dict.fromkeys(fine + fresh, NEW)
        case.source.broken = {*had, *fresh}
        assert group.delete_many(fresh) is True
        with pytest.raises(LoadError):
            ask(had + fresh)
        assert ask(had) == dict.fromkeys(had, OLD)


@pytest.mark.parametrize("use_async", [False, True])
def test_a_load_that_times_out_has_failed(use_async: bool) -> None:
    """Hold a load for longer than load_timeout, and ask everywhere. (A plain loader keeps its own caller's thread.)"""
    with old(use_async=use_async, load_timeout="1500ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        begin = in_thread(case.a.get, case.key)
        hold.wait()
        calls = [in_thread(case.ask, way, group) for group in case.cluster.groups for way in WAYS[:4]]
        assert [call.result(PATIENCE) for call in calls] == [OLD] * 16
        hold.open()
        assert begin.result(PATIENCE) in {OLD, NEW}


def test_those_who_wait_for_a_function_that_times_out_get_the_old_value() -> None:
    """Hold A's function for longer than load_timeout. A and B, which wait with functions of their own, run none."""
    with old(loader=False, load_timeout="600ms", **IF_ERROR) as case:
        case.fill()
        hold = case.source.hold(case.key)
        begin = in_thread(case.ask, "get_or_load", case.a)
        hold.wait()
        time.sleep(0.3)
        calls = [in_thread(case.ask, way, group) for group in (case.a, case.b) for way in WAYS[-2:]]
        assert [call.result(PATIENCE) for call in calls] == [OLD] * 4
        assert case.loads == 1
        hold.open()
        assert begin.result(PATIENCE) in {OLD, NEW}


@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("use_async", [False, True])
def test_failures_in_the_background_hurt_nothing(
    use_async: bool, loader: bool, caplog: pytest.LogCaptureFixture
) -> None:
    way = "get" if loader else "get_or_load"
    with old(loader=loader, use_async=use_async, **WINDOWS) as case, caplog.at_level(logging.DEBUG):
        case.fill()
        case.source.down = True

        def asked(number: int) -> bool:
            """Ask again if a load from before was still under way, and return whether one more has begun."""
            assert {case.ask(way, group) for group in case.cluster.groups} == {OLD}
            return case.loads >= number

        for number in range(1, 4):
            wait_until(lambda number=number: asked(number))  # type: ignore[misc]
            case.cluster.advance(2)
        case.source.down = False

        def renewed() -> bool:
            case.cluster.advance(1.1)
            return case.ask(way, case.b) == NEW

        wait_until(renewed)
        assert case.everywhere() == {NEW}
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert [text for text in errors if "and callers get the old value" not in text] == []
        case.cluster.advance(SECONDS + 1001)
        case.source.down = True

        def fails() -> bool:
            """Ask again if a load that was under way before has answered."""
            try:
                case.ask(way, case.b)
            except LoadError:
                return True
            return False

        wait_until(fails)
