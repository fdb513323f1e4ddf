"""A group that is made while the one of its name is being closed is a new one, and is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Group, GroupClosed, Node
from kamacache.testing import Network
from tests.unit.groups import Caller

A_MOMENT = 0.2  # seconds in which the other thread gets as far as it can


def load(key: str) -> bytes:
    return key.encode()


def in_between(monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, then: Callable[[], Any]) -> list[Caller]:
    """Have another thread call `then` while this method of `owner` is about to be called, once."""
    original = getattr(owner, method)
    callers: list[Caller] = []

    def hooked(*args: Any) -> Any:
        if not callers:
            callers.append(Caller(then))
            callers[0].thread.join(A_MOMENT)
        return original(*args)

    monkeypatch.setattr(owner, method, hooked)
    return callers


@pytest.mark.parametrize("point", ["it is closed", "it is hidden"])
def test_a_group_made_meanwhile(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    network = Network(hot=False)
    lane = network.lane()
    with (
        Node(registry=network.registry(), lane=network.lane()) as other,
        Node(registry=network.registry(), lane=lane) as node,
    ):
        old = node.group("g", load)

        def make() -> Group[bytes]:
            return node.group("g", load)

        owner, method = (old._core.behind, "close") if point == "it is closed" else (lane, "hide")
        callers = in_between(monkeypatch, owner, method, make)
        old.close()
        made: Group[bytes] = callers[0].result()
        assert made is not old
        assert made.get("k") == b"k"
        assert node.groups["g"] is made
        with pytest.raises(GroupClosed):
            old.get("k")
        assert "g" in node.members()[0].groups
        assert lane.peek(node.address or "", "g", "k") is not None
        assert other.address != node.address


def test_closing_twice_leaves_a_new_group_alone() -> None:
    network = Network(hot=False)
    lane = network.lane()
    with Node(registry=network.registry(), lane=lane) as node:
        old = node.group("g", load)
        leave = old._leave
        old.close()
        made = node.group("g", load)
        made.get("k")
        leave(old, GroupClosed("closed"))  # as the second of two threads that close it at once
        assert node.groups["g"] is made
        assert lane.peek(node.address or "", "g", "k") is not None
