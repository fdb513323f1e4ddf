"""dns://name:port: every address that a name has is a member, as those of a headless service of Kubernetes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.member import Member
from kamacache.net.addresses import RESOLVE, Address, advertised, is_here, look_up, parse_address
from kamacache.registry.base import Registry

if TYPE_CHECKING:
    from collections.abc import Callable


class DnsRegistry(Registry):
    """The addresses of a name, each with the port of the URL. The name is resolved again every two seconds.

    Nothing is written there: a node has joined once the name has its address too. Pings find out which members are up.
    If the name has IPv4 addresses, those of IPv6 do not count, so that a host with both is one member; `?family=6`
    turns that round.
    """

    notices_deaths = False
    poll = 2.0
    scheme = "dns"

    def __init__(self, url: str) -> None:
        """Read the URL; ConfigError if it names no host and port."""
        named = f"registry {self.scheme}://"
        rest, _, query = url.partition("://")[2].rstrip("/").partition("?")
        if "@" in rest:  # not shown: it may be a password
            raise ConfigError(f"{named}: a name and a port come after it; give the password as password=")
        if query not in {"", "family=4", "family=6"}:
            raise ConfigError(f"{named}: after ? comes family=4 or family=6")
        self._name = parse_address(rest, name=named)
        if self._name.is_unix or self._name.is_unspecified or self._name.port == 0:
            raise ConfigError(f"{named}: {self._name} is no name of members; name a host and their port")
        families = [socket.AF_INET, socket.AF_INET6]
        self._families = families[::-1] if query == "family=6" else families

    def __repr__(self) -> str:
        return f"<DnsRegistry {self._name}>"

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - the same for all
        """Return every address of this machine, of the family that the members have, with the port of all members."""
        port = 0 if self.client else self._name.port
        addresses = self._known()
        six = bool(addresses) and ":" in addresses[0].host
        return str(Address("::" if six else "0.0.0.0", port))  # noqa: S104 - see above

    def foresee(self, listen: str | None, advertise: str | None) -> str | None:  # noqa: ARG002 - the same for all
        """Return `listen`, or every address of this machine, whatever the name has."""
        return listen or f"0.0.0.0:{self._name.port}"

    def advertise(self, address: str) -> str:
        """Return the address of this machine that the name has, or the one on the way to the others."""
        own = parse_address(address, name="listen")
        if not own.is_unspecified:
            return address
        named, until = self._known(), Deadline.after(RESOLVE)
        here = [other for other in named if is_here(other.host, until)]
        if here and not self.client:
            return str(Address(here[0].host, own.port))
        return advertised(address, str(named[0]) if named else None)

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:  # noqa: ARG002 - see below
        """Raise ConnectionError while the name does not have this node's address: the others do not know it then."""
        if self.client or me.address is None:
            return
        listed = [str(address) for address in self._addresses()]
        if me.address not in listed:
            raise ConnectionError(
                f"{self._name.host} does not have the address {me.address} of this node yet, but {', '.join(listed)}"
            )

    def members(self, service: str) -> list[Member]:  # noqa: ARG002 - the same for all
        """Return a member for each address; ConnectionError while the name cannot be resolved."""
        return [Member(id=text, address=text, protocol=0) for text in map(str, self._addresses())]

    def deregister(self) -> None:
        """Do nothing: the name loses the address by other means."""

    def _known(self) -> list[Address]:
        try:
            return self._addresses()
        except ConnectionError:
            return []

    def _addresses(self) -> list[Address]:
        try:
            found = look_up(self._name.host, self._name.port, Deadline.after(RESOLVE))
        except OSError as error:
            raise ConnectionError(f"{self._name.host} cannot be resolved: {error}") from None
        return self._chosen([(kind, str(place[0])) for kind, *_, place in found])

    def _chosen(self, found: list[tuple[int, str]]) -> list[Address]:
        """Return the addresses of one family: of the other only if there is none."""
        for family in self._families:
            hosts = sorted({host for kind, host in found if kind == family})
            if hosts:
                return [Address(host, self._name.port) for host in hosts]
        raise ConnectionError(f"{self._name.host} cannot be resolved: it has no address")
