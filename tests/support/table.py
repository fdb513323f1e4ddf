"""A registry within this process, so that nodes of one process ask each other over real sockets."""

from __future__ import annotations

from collections.abc import Callable

from kamacache import Member, Registry


class Table(Registry):
    """The registry of the nodes that share a dict of members by address, which a test may change."""

    lease = 10.0
    poll = 0.1
    beyond_machine = False

    def __init__(self, table: dict[str | None, Member]) -> None:
        self.table = table
        self.mine: str | None = None

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        self.table[me.address] = me
        self.mine = me.address

    def members(self, service: str) -> list[Member]:
        return list(self.table.values())

    def deregister(self) -> None:
        self.table.pop(self.mine, None)
