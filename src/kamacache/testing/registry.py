"""The registry of a network in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kamacache.member import Member
from kamacache.registry import Registry

if TYPE_CHECKING:
    from kamacache.testing.network import Network


class MemoryRegistry(Registry):
    """The registry of a Network."""

    lease = 1.0
    poll = 0.05
    beyond_machine = False

    def __init__(self, network: Network) -> None:
        self._network = network
        self._mine: tuple[str, str] | None = None

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - the network numbers them
        return None

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        if self._mine is None:
            self._network.watch(changed)
        self._mine = (service, me.address or "")
        self._network.listed(service)[me.address or ""] = me
        self._network.changed()

    def members(self, service: str) -> list[Member]:
        return list(self._network.listed(service).values())

    def deregister(self) -> None:
        if self._mine is not None:
            service, address = self._mine
            self._mine = None
            self._network.listed(service).pop(address, None)
            self._network.changed()
