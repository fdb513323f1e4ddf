"""Which node a command talks to: the one named, or a member that the registry knows."""

from __future__ import annotations

import functools
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from kamacache.cli.client import Client, OutOfReach, Refused
from kamacache.errors import ConfigError
from kamacache.member import Member
from kamacache.net.security import password_from
from kamacache.registry import Registry
from kamacache.registry import parse as parse_registry
from kamacache.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

_REGISTRY = 5.0  # seconds for a list of members: enough for a registry to pass over endpoints that are silent
_ANSWER = 2.0  # seconds in which one of several members is to answer a ping
_AGAIN = 0.1  # seconds


@dataclass(frozen=True)
class Place:
    """Where nodes are, and what opens their doors."""

    node: str | None
    registry: str
    service: str
    timeout: float
    password: str | None
    tls: ssl.SSLContext | None

    @property
    def scheme(self) -> str:
        """What may be shown of the registry's URL: the rest may hold a password."""
        return self.registry.partition("://")[0] + "://"

    def members(self) -> list[Member]:
        """Who the registry lists; OutOfReach, RegistryError, ConfigError."""
        registry: Registry = parse_registry(self.registry)
        deadline = time.monotonic() + min(self.timeout, _REGISTRY)
        try:
            while True:
                try:
                    return registry.members(self.service)
                except ConnectionError as error:
                    if time.monotonic() > deadline:
                        raise OutOfReach(f"registry {self.scheme}: {error}") from error
                    time.sleep(_AGAIN)
        finally:
            registry.close()

    def client(self, address: str) -> Client:
        """A connection to this node; OutOfReach."""
        return Client(address, password=self.password, tls=self.tls, timeout=self.timeout)

    def _answering(self, address: str) -> Client:
        """A connection to this node if it does answer: to a frozen one connections can be made, too."""
        client = self.client(address)
        try:
            client.ask("PING", within=_ANSWER)
        except Refused:  # it answers, and wants a password: the question itself will say so
            pass
        except BaseException:
            client.close()
            raise
        return client

    def connect(self, group: str | None = None) -> Client:
        """A connection to the node named, else to the first that answers, of those with the group if there are any."""
        if self.node is not None:
            return self.client(self.node)
        members = sorted(self.members(), key=lambda member: group not in member.groups)
        failures = []
        for member in members:
            try:
                return self._answering(str(member))
            except OutOfReach as error:
                failures.append(str(error))
        if failures:
            raise OutOfReach("no member answers: " + "; ".join(failures))
        raise OutOfReach(
            f"no node of service {self.service!r} is registered at {self.scheme}: start one "
            "with `kamacache serve`, name another --service or --registry, or give --node ADDRESS"
        )


def _context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext | None:
    if ca is None and cert is None and key is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:
        raise ConfigError(f"TLS files: {error}") from error
    return context


_OPTIONS = (
    click.option("--node", envvar="KAMACACHE_NODE", metavar="ADDRESS", help="host:port or unix:/path of a node."),
    click.option(
        "--registry",
        envvar="KAMACACHE_REGISTRY",
        default="local://",
        show_default=True,
        metavar="URL",
        help="Where to look for a node.",
    ),
    click.option(
        "--service",
        envvar="KAMACACHE_SERVICE",
        default="kamacache",
        show_default=True,
        metavar="NAME",
        help="Of which service.",
    ),
    click.option("--timeout", default="30s", show_default=True, metavar="TIME", help="To wait for an answer."),
    click.option(
        "--password-file",
        envvar="KAMACACHE_PASSWORD_FILE",
        metavar="FILE",
        help="Holds the password; else it is KAMACACHE_PASSWORD's.",
    ),
    click.option("--tls-ca", envvar="KAMACACHE_TLS_CA", metavar="FILE", help="The authority of the nodes."),
    click.option("--tls-cert", envvar="KAMACACHE_TLS_CERT", metavar="FILE", help="Your own certificate."),
    click.option("--tls-key", envvar="KAMACACHE_TLS_KEY", metavar="FILE", help="Its key."),
)


def places(command: F) -> F:
    """Give a command the options that say where nodes are, as one argument `place`."""

    @functools.wraps(command)
    def wrapped(
        *arguments: Any,
        node: str | None,
        registry: str,
        service: str,
        timeout: str,
        password_file: str | None,
        tls_ca: str | None,
        tls_cert: str | None,
        tls_key: str | None,
        **options: Any,
    ) -> Any:
        seconds = parse_duration(timeout, name="--timeout")
        context = _context(tls_ca, tls_cert, tls_key)
        place = Place(node, registry, service, seconds, password_from(os.environ, password_file), context)
        return command(*arguments, place=place, **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value] # click's decorators keep what they wrap
