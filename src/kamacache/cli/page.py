"""Serve the web page of nodes that have no address for a browser: `kamacache page`."""

from __future__ import annotations

import click

from kamacache.cli.finding import Place, places
from kamacache.cli.serve import ended_by_signal
from kamacache.errors import ConfigError
from kamacache.net.addresses import parse_address
from kamacache.node import Node


@click.command()
@click.option(
    "--listen", default="127.0.0.1:8001", show_default=True, metavar="ADDRESS", help="Where a browser finds it."
)
@places
def page(place: Place, listen: str) -> None:
    """Serve the web page of a service here until SIGTERM or Ctrl-C.

    For local://, whose nodes have Unix sockets. It joins the service as a client node, which owns no keys. The page
    requires the password of the nodes, if they have one. A node that listens on TCP serves its page itself, at /.

    The permissions of files protect the nodes of local://, but the page opens a port of loopback to all users of this
    machine: without a password, each can read there the names of hot keys and the arguments of processes.
    """
    if place.node is not None or place.tls is not None:
        raise ConfigError("page: finds nodes by --registry, without TLS; the page of a node with TCP is at its address")
    address = parse_address(listen, name="--listen")
    if place.password is None and not (address.is_unix or address.is_loopback):  # a node's advice has --insecure
        raise ConfigError(
            f"page: --listen {listen}: without a password every host that reaches this port may read the names of "
            "hot keys and the arguments of processes; give the nodes a password and pass it as --password-file, or "
            "listen on 127.0.0.1"
        )
    ended = ended_by_signal()
    with Node(listen, registry=place.registry, service=place.service, password=place.password, client=True) as node:
        click.echo(f"the page of {place.service} is at http://{node.address}/; Ctrl-C ends it")
        ended.wait()
