"""Addresses as text: "host:port", "[v6]:port" or "unix:/path", and which of them other machines reach."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from dataclasses import dataclass
from typing import Any

from kamacache import thread
from kamacache._engine import Promise
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, encodable
from kamacache.steps import Wait

_SYNTAX = '"host:port", "[v6]:port" or "unix:/path"'
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})")
_PORT = re.compile(r"[0-9]{1,5}")
UNIX_PATH_MAX = 103 if sys.platform == "darwin" else 107  # bytes in sockaddr_un without the closing NUL
RESOLVE = 1.0  # seconds to look up the names of one address
# Addresses for documentation (RFC 5737, RFC 3849): only the route there is looked up, nothing is sent.
_ANYWHERE = ("192.0.2.1", "2001:db8::1")


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on or connect to: `path` for a Unix socket, else `host` (no brackets) and `port`."""

    host: str
    port: int
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        """Return whether this is a Unix socket."""
        return self.path is not None

    @property
    def is_loopback(self) -> bool:
        """Return whether it is an IP address of this machine alone. A name other than localhost is not looked up."""
        ip = _ip(self.host)
        return ip.is_loopback if ip is not None else self.path is None and self.host.lower() == "localhost"

    @property
    def is_unspecified(self) -> bool:
        """Return whether it is every address of the machine: 0.0.0.0 or [::]."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip


def parse_address(text: object, *, name: str) -> Address:
    """Return the address in a text; port 0 is any free port. ConfigError names the option for anything else."""
    if not isinstance(text, str):
        raise ConfigError(f"{name}={text!r}: an address is text, {_SYNTAX}")
    if text.startswith("unix:"):
        return _parse_unix(text, name=name)
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:  # noqa: PLR2004 - the greatest port there is
        raise ConfigError(f"{name}={text!r}: an address is {_SYNTAX}, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if ":" not in host or _ip(host) is None:
            raise ConfigError(f"{name}={text!r}: there is no IPv6 address between the brackets")
    elif ":" in host:
        raise ConfigError(f"{name}={text!r}: write an IPv6 address in brackets, as in [::1]:8001")
    elif not host:
        raise ConfigError(f"{name}={text!r}: the host is missing; 0.0.0.0{text} is every address of this machine")
    elif not _HOST.fullmatch(host) or (host.replace(".", "").isdigit() and _ip(host) is None):
        raise ConfigError(f"{name}={text!r}: {host!r} is neither a host name nor an IP address")
    return Address(host, int(port))


def _parse_unix(text: str, *, name: str) -> Address:
    path = text.removeprefix("unix:")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ConfigError(f"{name}={text!r}: a Unix socket is given by its whole path, as in unix:/run/app.sock")
    if encodable(path) != path:  # other nodes get it as text
        raise ConfigError(f"{name}={text!r}: the path of a Unix socket is text that UTF-8 can write")
    size = len(path.encode())
    if size > UNIX_PATH_MAX:
        raise ConfigError(
            f"{name}={text!r}: the path of a Unix socket has at most {UNIX_PATH_MAX} bytes, this one {size}"
        )
    return Address("", 0, path)


def advertised(bound: str, remote: str | None) -> str:
    """Return the address that other machines use to reach a node bound to `bound`; ConfigError if there is none.

    `remote` is the "host:port" of the registry, None if it has none. 0.0.0.0 becomes the address of this machine on the
    route there.
    """
    here = parse_address(bound, name="listen")
    there = parse_address(remote, name="registry") if remote is not None else None
    deadline = Deadline.after(RESOLVE)
    alone = there is not None and is_on_this_machine(there, deadline)
    if here.is_unix:
        raise ConfigError(f"{bound} cannot be reached from other machines: give listen= a host and a port")
    if here.is_unspecified:
        return str(Address(_route(here, there, deadline, alone=alone), here.port))
    if here.is_loopback and not alone:
        raise ConfigError(
            f"{bound} cannot be reached from other machines, and the registry is for them: "
            f"listen on 0.0.0.0:{here.port}, or give advertise= the address that others use"
        )
    return bound


def look_up(host: str, port: int, deadline: Deadline, family: int = 0) -> list[tuple[Any, ...]]:
    """Return what socket.getaddrinfo finds for datagrams; OSError if it finds nothing by the deadline."""
    found = Promise()

    def ask() -> None:
        try:
            found.set_result(list(socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)))
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            found.set_exception(error)

    if _ip(host) is None:
        thread.start("kamacache-names", ask)
    else:
        ask()
    places: list[tuple[Any, ...]] = Wait(found, deadline).run()
    return places


def is_here(host: str, deadline: Deadline) -> bool:
    """Return whether this is an address of this machine: only such an address can be bound."""
    try:
        found = look_up(host, 0, deadline)
    except OSError:
        return False
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
        except OSError:
            continue
        return True
    return False


def is_on_this_machine(remote: Address, deadline: Deadline) -> bool:
    """Return whether this address, or one that its name resolves to, is loopback."""
    if remote.is_loopback:
        return True
    try:
        found = look_up(remote.host, remote.port, deadline)
    except OSError:
        return False
    return any(Address(str(place[0]), 0).is_loopback for *_, place in found)


def _route(here: Address, there: Address | None, deadline: Deadline, *, alone: bool) -> str:
    """Return the address of this machine on the route to `there`, of a family that `here` accepts."""
    families = (socket.AF_INET,) if ":" not in here.host else (socket.AF_INET, socket.AF_INET6)
    hosts, port = (_ANYWHERE, 1) if there is None else ((there.host,), there.port or 1)
    for host in hosts:
        for family in families:
            try:
                info = look_up(host, port, deadline, family)
                with socket.socket(family, socket.SOCK_DGRAM) as probe:
                    probe.connect(info[0][4])  # of a datagram socket: chooses a route, sends nothing
                    found = str(probe.getsockname()[0])
            except OSError:
                continue
            own = Address(found, here.port)
            if not own.is_unspecified and (alone or not own.is_loopback):
                return found
    raise ConfigError(
        f"{here} is no address that others can use, and no route tells which one is: give advertise= the "
        f"address that others use, as in advertise='10.0.0.1:{here.port or 8001}'"
    )


def check_advertise(advertise: str) -> None:
    """Raise ConfigError unless `advertise` is an address that other machines can reach."""
    address = parse_address(advertise, name="advertise")
    if address.is_unix or address.is_unspecified or address.port == 0:
        raise ConfigError(f"advertise={advertise!r}: must be a host and a port that others can reach: 10.0.0.1:8001")
