"""dns+srv://name: every SRV record of a name is a member, such as those of Consul, with its own port."""

from __future__ import annotations

from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.net.addresses import RESOLVE, Address, advertised, is_here, parse_address
from kamacache.registry.dns import DnsRegistry

_TIME = 2.0  # seconds for an answer
_SERVER = "server=127.0.0.1:8600"


class SrvRegistry(DnsRegistry):
    """The targets of a name's SRV records, each with its port. The name is asked for again every two seconds.

    Priorities and weights do not count, nor records with the target "." or port 0. `?server=127.0.0.1:8600` asks this
    server and not those of the system.
    """

    def __init__(self, url: str) -> None:
        """Read the URL; ConfigError if it names no service, or if dnspython is not installed."""
        name, _, query = url.partition("://")[2].rstrip("/").partition("?")
        if not name.startswith("_") or set(name) & set("@:/"):  # not shown: it may hold a password
            raise ConfigError(
                "registry dns+srv://: the name of a service comes after it, as in _kamacache._tcp.example.com"
            )
        try:
            import dns.resolver  # noqa: PLC0415 - an extra
        except ImportError:
            raise ConfigError("registry dns+srv://: needs dnspython: pip install 'kamacache[dns]'") from None
        option, _, given = query.partition("=")
        if query and option != "server":
            raise ConfigError(f"registry dns+srv://: after ? comes {_SERVER}")
        try:
            self._resolver = dns.resolver.Resolver(configure=not query)
        except dns.resolver.NoResolverConfiguration:
            raise ConfigError(f"registry dns+srv://: this machine names no DNS server; add ?{_SERVER}") from None
        if query:
            server = parse_address(given, name="registry dns+srv://: server")
            try:
                self._resolver.nameservers, self._resolver.port = [server.host], server.port
            except ValueError:  # a host name or a Unix socket: the resolver itself looks nothing up
                server = Address("", 0)
            if server.port == 0:
                raise ConfigError(
                    f"registry dns+srv://: server={given!r}: server= takes an IP address and a port, as in {_SERVER}"
                )
        self._name = Address(name, 0)

    def __repr__(self) -> str:
        return f"<SrvRegistry {self._name.host}>"

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - the same for all
        """Return the one target on this machine; None if there is none or several."""
        if self.client:
            return "0.0.0.0:0"
        here = self._here()
        return str(here[0]) if len(here) == 1 else None

    def foresee(self, listen: str | None, advertise: str | None) -> str | None:  # noqa: ARG002 - the same for all
        """Return `listen`: without it, only the records tell."""
        return listen

    def advertise(self, address: str) -> str:
        """Return the target on this machine with this port, or the address on the way to the others."""
        own, named = parse_address(address, name="listen"), self._known()
        if not own.is_unspecified:
            return address
        here = [target for target in self._here() if target.port == own.port]
        return str(here[0]) if here else advertised(address, str(named[0]) if named else None)

    def _here(self) -> list[Address]:
        until = Deadline.after(RESOLVE)
        return [target for target in self._known() if is_here(target.host, until)]

    def _addresses(self) -> list[Address]:
        from dns.exception import DNSException  # noqa: PLC0415 - an extra

        try:
            found = self._resolver.resolve(self._name.host, "SRV", lifetime=_TIME, search=False)
        except DNSException as error:
            raise ConnectionError(f"{self._name.host} cannot be resolved: {error}") from None
        # The target "." says that the service is not there (RFC 2782).
        records = (record for record in found if record.port and len(record.target) > 1)
        targets = {(record.target.to_text(omit_final_dot=True), record.port) for record in records}
        if not targets:
            raise ConnectionError(f"no SRV record of {self._name.host} names a target with a port")
        return [Address(host, port) for host, port in sorted(targets)]
