"""Find the node that a command queries: the given one, or a member that the registry lists."""

from __future__ import annotations

import functools
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from kamacache.cli.client import Client, OutOfReach, Refused
from kamacache.cli.completion import files
from kamacache.errors import ConfigError
from kamacache.member import Member
from kamacache.net.security import password_from
from kamacache.registry import Registry
from kamacache.registry import parse as parse_registry
from kamacache.units import parse_duration

F = TypeVar("F", bound=Callable[..., Any])

_REGISTRY = 5.0  # seconds for a list of members, in which a registry can skip silent endpoints
_ANSWER = 2.0  # seconds in which one of several members must answer a ping
_AGAIN = 0.1  # seconds between two attempts to read the registry


@dataclass(frozen=True)
class Place:
    """The place where nodes are, and the credentials for them."""

    node: str | None
    registry: str
    service: str
    timeout: float
    password: str | list[str] | None
    tls: ssl.SSLContext | None

    @property
    def scheme(self) -> str:
        """Return the scheme of the URL of the registry. The rest is never shown, because it may hold a password."""
        return self.registry.partition("://")[0] + "://"

    def members(self) -> list[Member]:
        """Return the members that the registry lists. Raises OutOfReach, RegistryError, ConfigError."""
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
        """Connect to this node. Raises OutOfReach."""
        sent = self.password[0] if isinstance(self.password, list) else self.password
        return Client(address, password=sent, tls=self.tls, timeout=self.timeout)

    def answering(self, address: str) -> Client:
        """Connect to this node if it answers; a frozen one accepts connections, too."""
        client = self.client(address)
        try:
            client.ask("PING", within=_ANSWER)
        except Refused:  # it answers, but requires a password: the command itself will report that
            pass
        except BaseException:
            client.close()
            raise
        return client

    def connect(self, group: str | None = None) -> Client:
        """Connect to the given node, or to the first member that answers, preferring those that have the group."""
        if self.node is not None:
            return self.client(self.node)
        members = [member for member in self.members() if not member.client]
        failures = []
        for member in sorted(members, key=lambda member: (group not in member.groups, group not in member.loads)):
            try:
                return self.answering(str(member))
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
    if cert is None and key is not None:
        raise ConfigError(f"--tls-key {key}: give --tls-cert, too")
    for option, path in (("--tls-ca", ca), ("--tls-cert", cert), ("--tls-key", key)):
        _check_readable(option, path)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise ConfigError(f"--tls-ca {ca}: has no certificate as PEM ({error})") from error
    try:
        if cert is not None:
            context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        with_key = "" if key is None else f" with --tls-key {key}"
        raise ConfigError(f"--tls-cert {cert}{with_key}: no certificate and its key as PEM ({error})") from error
    return context


def _check_readable(option: str, path: str | None) -> None:
    try:
        if path is not None:
            Path(path).open("rb").close()
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}") from error


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
        help="The service of the node.",
    ),
    click.option("--timeout", default="30s", show_default=True, metavar="TIME", help="The time to wait for an answer."),
    click.option(
        "--password-file",
        envvar="KAMACACHE_PASSWORD_FILE",
        metavar="FILE",
        shell_complete=files,
        help="Contains the password; default: KAMACACHE_PASSWORD.",
    ),
    click.option(
        "--tls-ca", envvar="KAMACACHE_TLS_CA", metavar="FILE", shell_complete=files, help="The authority of the nodes."
    ),
    click.option(
        "--tls-cert", envvar="KAMACACHE_TLS_CERT", metavar="FILE", shell_complete=files, help="Your own certificate."
    ),
    click.option("--tls-key", envvar="KAMACACHE_TLS_KEY", metavar="FILE", shell_complete=files, help="Its key."),
)


def places(command: F) -> F:
    """Add the options that say where nodes are to a command, which gets them as one argument `place`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        take = options.pop
        place = Place(
            node=take("node"),
            registry=take("registry"),
            service=take("service"),
            timeout=parse_duration(take("timeout"), name="--timeout", least=0.001),
            tls=_context(take("tls_ca"), take("tls_cert"), take("tls_key")),
            password=password_from(os.environ, take("password_file")),
        )
        return command(*arguments, place=place, **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value] # the decorators of click keep the type
