"""The owners of many groups at once."""

from __future__ import annotations

from kamacache import Member
from kamacache._engine import Clock
from kamacache.cluster.peers import Peer
from kamacache.cluster.routes import Route, Routes

GROUPS = 200


class Name(str):
    """The name of a group, which counts how often any is compared with another one."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def names() -> tuple[str, ...]:
    return tuple(Name(f"group{number}") for number in range(GROUPS))


def test_a_build_looks_at_each_group_of_a_member_once() -> None:
    """Compare no group with all others: a thousand groups took seconds, each time that a member announced one."""
    me, other = (Member(name, f"10.0.0.{name}:1", groups=names(), loads=names()) for name in "12")
    placed: list[tuple[str, Route]] = []
    routes = Routes(Clock(), lambda *new: placed.append(new))
    Name.compared = 0
    routes.build(lambda: (me, [Peer(other)], False))
    assert [len(route.owners) for _, route in placed] == [2] * GROUPS
    assert Name.compared < 10 * GROUPS
