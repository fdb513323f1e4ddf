"""Plain gets in a group without a loader wait for a lease that ends without a value, while others bring functions.

A is the owner of the key, B has its lease; each docstring is the schedule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Group, NoLoader
from kamacache.load.turns import Turns
from tests.cluster.cluster import PATIENCE, in_thread, wait_until
from tests.cluster.test_leases import Function, gone, members, value, wait_for_joins

PLAIN: dict[str, Callable[[Group[bytes], str], Any]] = {
    "get": lambda group, key: group.get(key),
    "get_many": lambda group, key: group.get_many([key]).get(key),
    "aget": lambda group, key: asyncio.run(group.aget(key)),
}


def turns(group: Group[bytes]) -> Turns:
    return group._core.misses.local.turns


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have functions lead a moment later than plain gets that were woken with them."""
    enter = Turns.enter

    def late(self: Turns, given: Any, keys: Any) -> None:
        again = given in self._waiting
        enter(self, given, keys)
        if again:
            time.sleep(0.1)

    monkeypatch.setattr(Turns, "enter", late)


def wait_for_functions(*groups: Group[bytes]) -> None:
    """Wait until a function waits for its turn at the nodes of these groups."""
    wait_until(lambda: all(turns(group)._waiting for group in groups))


@pytest.mark.parametrize("plain", PLAIN)
@pytest.mark.parametrize("next_one", ["owner", "other"])
@pytest.mark.parametrize("how", ["interrupt", "killed"])
def test_a_plain_get_waits_for_the_next_lease(
    how: str, next_one: str, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answer with the value of the function that takes the lease over, not with None.

    1. B's function runs. A and C get the key, and a call on A or C brings a function: all wait for B.
    2. B's function is interrupted, or B dies. The gets are faster than the call, and wait for its turn.
    """
    slow(monkeypatch)
    with members() as (cluster, key, a, b, c):
        function = Function(KeyboardInterrupt())
        first = function.begin(b.get_or_load, key)
        plains = [in_thread(PLAIN[plain], group, key) for group in (a, c)]
        wait_for_joins(cluster, 2)
        second = in_thread((a if next_one == "owner" else c).get_or_load, key, value(b"next"))
        wait_for_functions(a)
        time.sleep(0.05)
        if how == "killed":
            gone(cluster, cluster.nodes[1], "dies")
        else:
            function.go()
        assert second.result(PATIENCE) == b"next"
        assert [one.result(PATIENCE) for one in plains] == [b"next"] * 2
        function.go()
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)
        assert not any(turns(group)._waiting or turns(group)._next for group in (a, b, c))


def test_a_plain_get_waits_for_the_next_lease_if_the_first_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the same when the time of B's lease is over: B's late value is for its own caller alone."""
    slow(monkeypatch)
    with members(load_timeout="1s") as (_, key, a, b, c):
        function = Function(b"late")
        first = function.begin(b.get_or_load, key)
        time.sleep(0.5)  # so that the others have time left
        plains = [in_thread(group.get, key) for group in (a, c)]
        second = in_thread(c.get_or_load, key, value(b"next"))
        wait_for_functions(a)
        assert second.result(PATIENCE) == b"next"
        assert [one.result(PATIENCE) for one in plains] == [b"next"] * 2
        function.go()
        assert first.result(PATIENCE) == b"late"


def test_a_plain_get_waits_for_the_next_function_if_that_of_the_owner_takes_too_long() -> None:
    """Do the same for a function on the owner, the time of which is over: the get on A joined its flight."""
    with members(load_timeout="1s") as (cluster, key, a, b, _):
        function = Function(b"late")
        first = function.begin(a.get_or_load, key)
        time.sleep(0.5)
        plain = in_thread(a.get, key)
        second = in_thread(b.get_or_load, key, value(b"next"))
        assert [one.result(PATIENCE) for one in (second, plain)] == [b"next"] * 2
        function.go()
        assert first.result(PATIENCE) == b"late"
        assert cluster.nodes[0].address is not None


def test_without_another_function_a_plain_get_finds_nothing() -> None:
    """Wait for no turn if none comes: the function of B is interrupted, and the calls of A and C bring none."""
    with members() as (cluster, key, a, b, c):
        function = Function(KeyboardInterrupt())
        first = function.begin(b.get_or_load, key)
        plains = [in_thread(group.get, key) for group in (a, c)]
        wait_for_joins(cluster, 2)
        function.go()
        assert [one.result(PATIENCE) for one in plains] == [None] * 2
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)


def test_only_the_last_turns_are_remembered() -> None:
    with members() as (_, key, a, _b, _c):
        keys = [f"{key}/{number}" for number in range(3_000)]
        for some in (keys[:10], keys):
            assert len(a.get_many_or_load(some, lambda keys: dict.fromkeys(keys, b""))) == len(some)
        assert 1_000 <= len(turns(a)._led) <= 2_000
        assert not turns(a)._waiting


def test_a_value_that_is_too_large_for_the_owner() -> None:
    """Do not say that there is no value.

    1. B's function runs. A and C wait for it with and without functions, as does B.
    2. B brings a value that is too large to be sent. In its own process all get that.
    3. The functions of A and C run there. The plain gets of these nodes fail, and say why.
    """
    large = b"x" * 70_000
    with members() as (cluster, key, a, b, c):
        for node in cluster.nodes:
            node._runtime.max_value = 60_000
        function = Function(large)
        first = function.begin(b.get_or_load, key)
        plains = [in_thread(PLAIN[plain], group, key) for group in (a, c) for plain in PLAIN]
        here = in_thread(b.get, key)
        wait_for_joins(cluster, 2)
        others = [in_thread(group.get_or_load, key, value(b"mine")) for group in (a, c)]
        wait_for_functions(a)
        time.sleep(0.1)
        function.go()
        assert (first.result(PATIENCE), here.result(PATIENCE)) == (large, large)
        assert [one.result(PATIENCE) for one in others] == [b"mine"] * 2
        for one in plains:
            with pytest.raises(NoLoader, match="too large to be kept and sent: raise max_value"):
                one.result(PATIENCE)


@pytest.mark.parametrize("plain", PLAIN)
def test_a_plain_get_waits_for_a_function_that_waits_beside_the_holder(
    plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give a lease back after the next function of the same node has asked for it, so that the owner knows of that.

    1. B's function runs, another one of B waits for it. A and C get the key.
    2. The first is interrupted: the second asks A, and then A learns that the first has ended.
    """
    slow(monkeypatch)
    with members() as (cluster, key, a, b, c):
        function = Function(KeyboardInterrupt())
        first = function.begin(b.get_or_load, key)
        second = in_thread(b.get_or_load, key, value(b"next"))
        plains = [in_thread(PLAIN[plain], group, key) for group in (a, c)]
        wait_for_functions(b)
        wait_for_joins(cluster, 2)
        function.go()
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)
        assert second.result(PATIENCE) == b"next"
        assert [one.result(PATIENCE) for one in plains] == [b"next"] * 2
