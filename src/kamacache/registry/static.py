"""static://host1:port,host2:port — a list of members that never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.member import Member
from kamacache.net.addresses import RESOLVE, Address, advertised, is_here, parse_address
from kamacache.registry.base import Registry

if TYPE_CHECKING:
    from collections.abc import Callable


class StaticRegistry(Registry):
    """The members named in the URL, for every service. Probes find out which of them are up.

    The id of each member is its address, and its protocol is 0, "only the address is known", for this node too. A
    client node need not be in the list: members know it by its hello.
    """

    notices_deaths = False
    beyond_machine = False  # the user wrote the list: its addresses are taken as they are

    def __init__(self, url: str) -> None:
        """Read the list; ConfigError if it is empty, names an address twice, or has one that is none."""
        self._list: dict[str, Address] = {}
        for text in url.partition("://")[2].rstrip("/").split(","):
            if "@" in text:  # not shown: it may be a password
                raise ConfigError("registry static://: in the list are addresses alone; give the password as password=")
            address = parse_address(text.strip(), name="registry static://")
            if address.is_unspecified or (not address.is_unix and address.port == 0):
                raise ConfigError(f"registry static://: others cannot connect to {address}; name a host and a port")
            if str(address) in self._list:
                raise ConfigError(f"registry static://: {address} is in the list twice")
            self._list[str(address)] = address

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - only the user knows
        """Return a free port for a client node. Else raise ConfigError: only the user knows the node's address."""
        if self.client:
            return "127.0.0.1:0" if self._elsewhere() is None else "0.0.0.0:0"
        raise ConfigError(f"with registry static:// give listen= the address of this node, one of {self._shown()}")

    def foresee(self, listen: str | None, advertise: str | None) -> str | None:
        """Return `listen`; ConfigError if a node with these options is not in the list on any machine."""
        if not self.client:
            given = listen or self.default_listen("", "")
            own = parse_address(advertise or given or "", name="listen")
            if not own.is_unspecified or own.port not in {address.port for address in self._list.values()}:
                self.advertise(str(own))
        return listen

    def advertise(self, address: str) -> str:
        """Return the node's address in the list. On 0.0.0.0 it is the one with its port and a host of this machine."""
        own = parse_address(address, name="listen")
        if str(own) in self._list:
            return str(own)
        if self.client:
            return advertised(address, self._elsewhere()) if own.is_unspecified else address
        if own.is_unspecified:
            until = Deadline.after(RESOLVE)
            ports = [(text, other.host) for text, other in self._list.items() if other.port == own.port]
            here = [text for text, host in ports if is_here(host, until)]
            if len(here) == 1:
                return here[0]
        raise ConfigError(
            f"registry static://: this node's own address {own} is not in the list {self._shown()}; "
            "add it, or give advertise= the one that is this node's"
        )

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:  # noqa: ARG002 - nothing changes
        """Raise ConfigError if the address of this node is not in the list."""
        self.advertise(me.address or "")

    def _elsewhere(self) -> str | None:
        """Return an address in the list that may be on another machine."""
        beyond = (text for text, address in self._list.items() if not (address.is_loopback or address.is_unix))
        return next(beyond, None)

    def members(self, service: str) -> list[Member]:  # noqa: ARG002 - the same for all
        """Return the whole list."""
        return [Member(id=address, address=address, protocol=0) for address in self._list]

    def deregister(self) -> None:
        """Do nothing."""

    def _shown(self) -> str:
        return ", ".join(self._list)
