"""The addresses that a registry gives its node, checked: a node that others cannot reach does not start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kamacache.errors import ConfigError
from kamacache.net.addresses import parse_address
from kamacache.options import NodeOptions, check_listen

if TYPE_CHECKING:
    from kamacache.registry.base import Registry


def listen_address(registry: Registry, options: NodeOptions, node_id: str) -> str | None:
    """Return the address to listen on for a node that was given none; None: its network chooses one."""
    given = registry.default_listen(options.service, node_id)
    if given is not None:
        try:
            parse_address(given, name="listen")
        except ConfigError as error:
            raise ConfigError(
                f"{_name(options)}: its default_listen() returns {given!r}, which is no address to listen on: "
                "give listen= one, as in listen='127.0.0.1:0'"
            ) from error
        check_listen(given, protected=options.protected)
    return given


def own_address(registry: Registry, options: NodeOptions, bound: str | None) -> str:
    """Return the address of a node by which others find it; ConfigError if they could not connect to it."""
    if not bound:
        raise ConfigError(
            f"{_name(options)}: it gives this node no address, and no other node could reach it: "
            "give listen= one, as in listen='127.0.0.1:0'"
        )
    given = registry.advertise(bound)
    try:
        address = parse_address(given, name="advertise")
    except ConfigError:
        address = None
    if address is None or address.is_unspecified or not (address.is_unix or address.port):
        raise ConfigError(
            f"{_name(options)}: the address of this node would be {given!r}, to which others cannot connect: "
            "give advertise= the one that they use, as in advertise='10.0.0.1:8001', and see that the registry's "
            "advertise() returns it"
        )
    return given


def _name(options: NodeOptions) -> str:
    """Return the registry's name for errors. Its whole URL may have a password in it."""
    given = options.registry
    return (
        f"registry {given.partition('://')[0]}://" if isinstance(given, str) else f"registry {type(given).__qualname__}"
    )
