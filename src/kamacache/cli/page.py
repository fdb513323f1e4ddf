"""Serve the web page of nodes that have no address for a browser: `kamacache page`."""

from __future__ import annotations

import click

from kamacache.cli.finding import Place, places
from kamacache.cli.serve import ended_by_signal
from kamacache.errors import ConfigError
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
    """
    if place.node is not None or place.tls is not None:
        raise ConfigError("page: finds nodes by --registry, without TLS; the page of a node with TCP is at its address")
    ended = ended_by_signal()
    with Node(listen, registry=place.registry, service=place.service, password=place.password, client=True) as node:
        click.echo(f"the page of {place.service} is at http://{node.address}/; Ctrl-C ends it")
        ended.wait()
