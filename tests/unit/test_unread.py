"""Values that the codec of a group cannot read: misses that are loaded again, counted, and logged once a minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from kamacache import Clock, CodecError, Group, LoadError, Node
from kamacache.testing import Network
from tests.unit.groups import WAYS, Caller, call, until


class Release:
    """The codec of one release: it reads what begins with one of its letters, and writes the first of them."""

    shareable = False

    def __init__(self, reads: str) -> None:
        self.reads = reads

    def encode(self, value: str, /) -> bytes:
        return (self.reads[0] + value).encode()

    def decode(self, data: bytes, /) -> str:
        text = data.decode()
        if text[0] not in self.reads:
            raise ValueError(f"release {text[0]!r} wrote it")
        return text[1:]


def outcomes(group: Group[Any]) -> dict[str, int]:
    stats = group.stats().as_dict()
    names = ("gets", "hits", "near_hits", "absent", "peer_hits", "joined", "loads", "peer_loads", "undecodable")
    return {name: int(stats[name]) for name in names if stats[name]}


def noted(loads: list[str]) -> Callable[[str], str]:
    """Return a loader that notes the keys that it loads."""

    def load(key: str) -> str:
        loads.append(key)
        return "new"

    return load


def spoil(group: Group[Any], key: str, raw: bytes = b"xold") -> None:
    """Put bytes that the codec cannot read into memory, as a write of another release would."""
    store = group._core.store
    assert store.put(key, raw, store.known(key), None, store.MAIN)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("method", ["get", "get_many"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_a_miss(node: Node, way: str, method: str, is_async: bool) -> None:
    loads = []

    def load(key: str) -> str:
        loads.append(key)
        return f"value of {key}"

    async def aload(key: str) -> str:
        return load(key)

    group: Group[str] = node.group("g", aload if is_async else load, codec=Release("a"))
    for key in ("k", "l"):
        group.set(key, "kept")
    spoil(group, "k")
    for _ in range(2):
        if method == "get":
            assert call(way, group, "get", "k") == "value of k"
        else:
            assert call(way, group, "get_many", ["k", "l"]) == {"k": "value of k", "l": "kept"}
    assert loads == ["k"]
    many = method == "get_many"
    assert outcomes(group) == {"gets": 2 + 2 * many, "hits": 1 + 2 * many, "loads": 1, "undecodable": 1}


def test_many_callers_share_the_load(node: Node) -> None:
    loads: list[str] = []
    group: Group[str] = node.group("g", noted(loads), codec=Release("a"))
    group.stats()
    spoil(group, "k")
    callers = [Caller(group.get, "k") for _ in range(8)]
    assert {caller.result() for caller in callers} == {"new"}
    assert loads == ["k"]
    counts = outcomes(group)
    assert counts.pop("undecodable") == 1
    assert counts.pop("gets") == sum(counts.values()) == 8


@pytest.mark.parametrize("way", WAYS)
def test_without_a_loader_it_is_absent_and_stays(node: Node, way: str) -> None:
    group: Group[str] = node.group("g", codec=Release("a"))
    spoil(group, "k")
    assert group.peek("k") is None
    for _ in range(2):
        assert call(way, group, "get", "k") is None
        assert call(way, group, "get_many", ["k"]) == {}
    found = group._core.store.find("k")
    assert found is not None
    assert found[0] == b"xold"
    assert group.stats().undecodable == 1
    group.set("k", "new")
    assert call(way, group, "get", "k") == "new"


class Torn(Release):
    """A codec that cannot read what it writes."""

    def encode(self, value: str, /) -> bytes:
        return b"x" + value.encode()


@pytest.mark.parametrize("way", WAYS)
def test_what_the_loader_has_just_returned_is_an_error(node: Node, way: str) -> None:
    loads: list[str] = []
    group: Group[str] = node.group("g", noted(loads), codec=Torn("a"))
    for number in (1, 2):
        with pytest.raises(CodecError, match="release 'x' wrote it"):
            call(way, group, "get", "k")
        assert loads == ["k"] * number
    with pytest.raises(LoadError):
        call(way, group, "get_many", ["k"])


def test_it_is_logged_once_a_minute(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with Node(clock=clock) as node, caplog.at_level(logging.WARNING, "kamacache"):
        groups: list[Group[str]] = [node.group(name, str, codec=Release("a")) for name in ("one", "two")]
        for group in groups:
            for number in range(5):
                spoil(group, str(number))
                group.get(str(number))
        assert [record.getMessage().split(":")[0] for record in caplog.records] == ["group 'one'", "group 'two'"]
        clock.advance(61)
        spoil(groups[0], "again")
        groups[0].get("again")
        assert "cannot read: 5 since" in caplog.records[-1].getMessage()
        assert "release 'x' wrote it" in caplog.records[-1].getMessage()


# -- two nodes -------------------------------------------------------------------------------------------------------


class Two:
    """A node that owns a key, and one that asks it, each with a codec."""

    def __init__(self, stack: ExitStack, owner: str, asker: str, *, loads: bool = True) -> None:
        self.network = network = Network(hot=True)
        self.nodes = [
            stack.enter_context(Node(registry=network.registry(), lane=network.lane(), service="s")) for _ in range(2)
        ]
        self.loads: list[str] = []
        self.groups: list[Group[str]] = []
        for number, (node, reads) in enumerate(zip(self.nodes, (owner, asker), strict=True)):
            loader = self.loader(f"{number}") if loads else None
            self.groups.append(node.group("g", loader, codec=Release(reads)))
        owner_id = self.nodes[0].id
        until(lambda: {self.nodes[1].owner("g", str(n)).id for n in range(100)} == {node.id for node in self.nodes})
        until(lambda: {self.nodes[0].owner("g", str(n)).id for n in range(100)} == {node.id for node in self.nodes})
        self.keys = [str(n) for n in range(1000) if self.nodes[1].owner("g", str(n)).id == owner_id]

    def loader(self, number: str) -> Any:
        def load(key: str) -> str:
            self.loads.append(number)
            return f"by {number}"

        return load


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("method", ["get", "get_many"])
@pytest.mark.parametrize("way", WAYS)
def test_the_owner_loads_what_an_asker_cannot_read(stack: ExitStack, way: str, method: str) -> None:
    two = Two(stack, "ax", "a")  # the owner can read both, so that only the mark tells it
    owner, asker = two.groups
    key = two.keys[0]
    spoil(owner, key)
    for _ in range(3):
        value = call(way, asker, method, key if method == "get" else [key])
        assert value == ("by 0" if method == "get" else {key: "by 0"})
    assert two.loads == ["0"]
    assert owner.get(key) == "by 0"
    counts = outcomes(asker)
    assert counts.pop("undecodable") == 1
    assert counts.pop("gets") == sum(counts.values()) == 3
    assert counts["peer_loads"] == 1


@pytest.mark.parametrize("way", WAYS)
def test_an_owner_of_another_release_loads_once_and_the_asker_for_itself(stack: ExitStack, way: str) -> None:
    two = Two(stack, "xa", "a")  # the owner writes x for ever
    owner, asker = two.groups
    keys = two.keys[:1]
    assert owner.get(keys[0]) == "by 0"
    for _ in range(3):
        assert call(way, asker, "get", keys[0]) == "by 1"
    assert owner.get(keys[0]) == "by 0"
    assert two.loads.count("0") <= 2


@pytest.mark.parametrize("way", WAYS)
def test_without_any_loader_the_asker_finds_nothing_and_the_owner_its_value(stack: ExitStack, way: str) -> None:
    two = Two(stack, "xa", "a", loads=False)
    owner, asker = two.groups
    owner.set(two.keys[0], "old")
    assert call(way, asker, "get", two.keys[0]) is None
    assert call(way, asker, "get_many", two.keys[:1]) == {}
    assert owner.get(two.keys[0]) == "old"


@pytest.mark.parametrize("way", WAYS)
def test_without_any_loader_a_client_node_finds_nothing(stack: ExitStack, way: str) -> None:
    two = Two(stack, "xa", "xa", loads=False)
    network = two.network
    client = stack.enter_context(Node(registry=network.registry(), lane=network.lane(), service="s", client=True))
    group = client.group("g", codec=Release("a"))
    two.groups[0].set_many(dict.fromkeys(two.keys[:2], "old"))
    assert call(way, group, "get", two.keys[0]) is None
    assert call(way, group, "get_many", two.keys[:2]) == {}
    assert two.groups[0].get(two.keys[0]) == "old"


def test_tasks_of_one_loop_share_the_load(stack: ExitStack) -> None:
    two = Two(stack, "a", "a")
    owner, asker = two.groups
    spoil(owner, two.keys[0])

    async def main() -> list[Any]:
        return await asyncio.gather(*(asker.aget(two.keys[0]) for _ in range(10)))

    assert set(asyncio.run(main())) == {"by 0"}
    assert two.loads == ["0"]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_given_function_returned_is_no_absence(is_async: bool) -> None:
    """Raise CodecError at each call for a value that its codec writes and cannot read."""
    node = Node()
    group: Group[Any] = node.group("g", codec=Torn("a"))
    bad = "value"

    async def aload(_: object) -> Any:
        return bad

    async def aload_many(keys: list[str]) -> Any:
        return dict.fromkeys(keys, bad)

    for _ in range(3):
        with pytest.raises(CodecError):
            asyncio.run(group.aget_or_load("k", aload)) if is_async else group.get_or_load("k", lambda _: bad)
        with pytest.raises(LoadError):
            asyncio.run(group.aget_many_or_load(["m"], aload_many))
        with pytest.raises(LoadError):
            group.get_many_or_load(["m"], lambda keys: dict.fromkeys(keys, bad))
    node.close()


@pytest.mark.parametrize("loads", [False, True])
def test_primitives_leave_it_and_read_nothing(node: Node, *, loads: bool) -> None:
    group = node.group("g", str.upper if loads else None, codec=Release("n"))
    spoil(group, "k")
    kept = group._core.store.find("k")
    assert group.get_entry("k") is None
    assert asyncio.run(group.aget_entry("k")) is None
    assert group.pop("k") is None
    assert group.pop("k", "default") == asyncio.run(group.apop("k", "default")) == "default"
    with pytest.raises(TypeError, match="not an integer"):
        group.incr("k", initial=0)
    assert group.add("k", "v") is False
    assert "k" in group
    assert group._core.store.find("k") == kept
    assert group.touch("k", 5)
    assert group.set("k", "v", if_present=True)
    assert group.pop("k") == "v"
    assert "k" not in group


def test_a_value_that_changes_while_it_is_popped(node: Node) -> None:
    """Pop the value that is there in the end, and the first of several callers alone."""
    reads: list[bytes] = []

    class Slow(Release):
        def decode(self, data: bytes, /) -> str:
            reads.append(data)
            if len(reads) < 3:
                group.set("k", str(len(reads)))
            return super().decode(data)

    group: Group[Any] = node.group("g", codec=Slow("n"))
    group.set("k", "0")
    assert group.pop("k") == "2"
    assert reads == [b"n0", b"n1", b"n2"]
    assert group.pop("k", "default") == "default"
