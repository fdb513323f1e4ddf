"""The registry loses the registrations of members that live, and a process starts in that moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from unittest.mock import patch

from kamacache import Member, Node
from tests.cluster.cluster import in_thread, wait_until
from tests.support.table import Table


class Away(Table):
    """A registry that can be out of reach."""

    away = False

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        self._reach()
        super().register(service, me, changed)

    def members(self, service: str) -> list[Member]:
        self._reach()
        return super().members(service)

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("out of reach")


def test_a_process_starts_where_the_registry_has_forgotten_the_others() -> None:
    """Confirm no write of a process that cannot know yet who is there.

    1. The registry is away. Another process starts.
    2. The registry is back, and has lost all it knew. The new process finds its list empty.
    3. It sets a key of which the living member has a value. That one registers anew a moment later.
    """
    table: dict[str | None, Member] = {}
    registries = [Away(table), Away(table)]
    lives, starts = (Node("127.0.0.1:0", registry=registry) for registry in registries)
    for node in (lives, starts):
        node.group("g", lambda _: "loaded", codec="text")
    with patch("kamacache.cluster.membership._BACK", 60.0), closing(lives), closing(starts):
        lives.start()
        assert lives.groups["g"].set("key", "old") is True
        for registry in registries:
            registry.away = True
        wait_until(lives._membership.troubles.all)
        starting = in_thread(starts.start)
        wait_until(starts._membership.troubles.all)
        table.clear()
        registries[1].away = False
        write = in_thread(starts.groups["g"].set, "key", "new")
        wait_until(lambda: starts.address in table)
        time.sleep(0.3)
        if write.done() and write.result():
            assert lives.groups["g"].get("key") == "new"
        registries[0].away = False
        lives._membership.announce(groups=("g",), loads=("g",))
        wait_until(lambda: all(len(node.members()) == 2 for node in (lives, starts)))
        with patch("kamacache.cluster.membership._BACK", 0.0):
            if write.result(5):
                assert lives.groups["g"].get("key") == "new"
            wait_until(lambda: starts.groups["g"].set("key", "newer"))
            assert [node.groups["g"].get("key") for node in (lives, starts)] == ["newer"] * 2
            starting.result(5)
