"""Run a node until a signal ends it: `kamacache serve`."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from kamacache.cli import app, config
from kamacache.cli.completion import files
from kamacache.errors import ConfigError
from kamacache.net import systemd
from kamacache.net.security import TLS, password_from
from kamacache.node import Node
from kamacache.options import ALONE
from kamacache.units import parse_duration

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_FLAGS = {
    "listen=": "--listen",
    "advertise=": "--advertise",
    "a password=": "--password-file",
    "a tls= (mutual)": "--tls-cert, --tls-key and --tls-ca",
    "write insecure=True (KAMACACHE_INSECURE=1, --insecure)": "give --insecure",
}
_ADVISED = re.compile("|".join(f"{re.escape(option)}(?![\\w'])" for option in _FLAGS))


def _read(ctx: click.Context, _: click.Parameter, path: str | None) -> dict[str, dict[str, Any]]:
    """Use the options of the file as defaults of flags and environment, and return its groups."""
    if path is None:
        return {}
    found = config.read(path)
    ctx.default_map = found.node
    return found.groups


@click.command()
@click.option(
    "--config",
    "groups",
    envvar="KAMACACHE_CONFIG",
    metavar="FILE",
    shell_complete=files,
    is_eager=True,
    callback=_read,
    help="A TOML file with these options, and with groups.",
)
@click.option("--listen", envvar="KAMACACHE_LISTEN", metavar="ADDRESS", help="host:port or unix:/path.")
@click.option("--advertise", envvar="KAMACACHE_ADVERTISE", metavar="ADDRESS", help="The address that others use.")
@click.option(
    "--registry",
    envvar="KAMACACHE_REGISTRY",
    default="local://",
    show_default=True,
    metavar="URL",
    help="How nodes find each other; none: alone.",
)
@click.option("--service", envvar="KAMACACHE_SERVICE", default="kamacache", show_default=True, metavar="NAME")
@click.option("--weight", envvar="KAMACACHE_WEIGHT", type=float, default=1.0, help="Its relative share of the keys.")
@click.option("--max-bytes", envvar="KAMACACHE_MAX_BYTES", metavar="SIZE", help="Of all groups. Else each has its own.")
@click.option("--max-value", envvar="KAMACACHE_MAX_VALUE", default="4 MiB", metavar="SIZE", help="The largest kept.")
@click.option("--loader-threads", envvar="KAMACACHE_LOADER_THREADS", type=int, default=32, help="Loaders at once.")
@click.option("--loader-queue", envvar="KAMACACHE_LOADER_QUEUE", type=int, default=10_000, help="Loads that wait.")
@click.option(
    "--password-file",
    envvar="KAMACACHE_PASSWORD_FILE",
    metavar="FILE",
    shell_complete=files,
    help="Default: KAMACACHE_PASSWORD.",
)
@click.option(
    "--tls-cert", envvar="KAMACACHE_TLS_CERT", metavar="FILE", shell_complete=files, help="The node's certificate."
)
@click.option("--tls-key", envvar="KAMACACHE_TLS_KEY", metavar="FILE", shell_complete=files, help="Its key.")
@click.option(
    "--tls-ca", envvar="KAMACACHE_TLS_CA", metavar="FILE", shell_complete=files, help="The authority of all nodes."
)
@click.option(
    "--tls-mutual/--no-tls-mutual",
    envvar="KAMACACHE_TLS_MUTUAL",
    default=True,
    help="Whether clients need a certificate, too.",
)
@click.option("--insecure", envvar="KAMACACHE_INSECURE", is_flag=True, help="Allow other machines, unprotected.")
@click.option(
    "--group",
    "more",
    multiple=True,
    metavar="NAME[=MODULE:FUNCTION]",
    help="A group, with this loader if one is given; groups of the file have options.",
)
@click.option(
    "--app",
    "place",
    envvar="KAMACACHE_APP",
    metavar="MODULE:ATTRIBUTE",
    help="A Node of an application, or a function that makes one: with its options, groups and loaders.",
)
@click.option("--drain", default="5s", show_default=True, metavar="TIME", help="To finish requests, at the end.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--json", "as_json", is_flag=True, help="Print its address in one line of JSON.")
def serve(
    groups: dict[str, dict[str, Any]],
    more: tuple[str, ...],
    drain: str,
    log_level: str,
    as_json: bool,
    password_file: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_ca: str | None,
    tls_mutual: bool,
    registry: str,
    place: str | None,
    **options: Any,
) -> None:
    """Run a node until SIGTERM or Ctrl-C.

    Then it finishes the requests that it serves; a second signal ends it at once. Flags win over KAMACACHE_*
    variables, and these over the file.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    parse_duration(drain, name="drain")
    all_groups = config.with_flags(groups, more)
    if place is not None:
        app.alone(click.get_current_context(), place)
    ended = ended_by_signal()
    if place is not None:
        _run(app.node_at(place), {}, drain, as_json, ended)
        return
    if options["listen"] is None:
        options["listen"] = next(iter(systemd.inherited()), None)
    if registry == ALONE and options["listen"] is None:
        raise ConfigError("--registry none: give --listen ADDRESS, too, else no client can reach this node")
    with _in_flags():
        node = Node(
            registry=None if registry == ALONE else registry,
            password=_password(password_file),
            tls=_tls(tls_cert, tls_key, tls_ca, tls_mutual),
            **options,
        )
    _run(node, all_groups, drain, as_json, ended)


def _run(node: Node, groups: Mapping[str, dict[str, Any]], drain: str, as_json: bool, ended: threading.Event) -> None:
    """Make the groups, start the node, and close it when a signal has come."""
    try:
        config.make_groups(node, groups)
        with _in_flags():
            node.start()
        _announce(node, as_json)
        systemd.notify("READY=1")
        ended.wait()
        systemd.notify("STOPPING=1")
        click.echo(f"kamacache: ending, within {drain}; a second signal ends it at once", err=True)
    finally:
        node.close(drain)


@contextlib.contextmanager
def _in_flags() -> Iterator[None]:
    """Put the advice of errors in the words of this program: `listen=` is --listen here."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(_ADVISED.sub(lambda found: _FLAGS[found[0]], str(error))) from error


def _password(file: str | None) -> str | list[str] | None:
    """Return the password: the environment, with two variables for it, wins over `password_file` of the TOML file."""
    source = click.get_current_context().get_parameter_source("password_file")
    if source is ParameterSource.DEFAULT_MAP and (password := password_from(os.environ)) is not None:
        return password
    return password_from(os.environ, file)


def _tls(cert: str | None, key: str | None, ca: str | None, mutual: bool) -> TLS | None:
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None or ca is None:
        raise ConfigError("TLS: give --tls-cert, --tls-key and --tls-ca, all three")
    return TLS(cert, key, ca, mutual=mutual)


def ended_by_signal() -> threading.Event:
    """Return an event that the first signal sets; the second, of either kind, has its usual effect."""
    ended = threading.Event()

    def end(*_: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        ended.set()

    for number in _SIGNALS:
        signal.signal(number, end)
    return ended


def _announce(node: Node, as_json: bool) -> None:
    groups, service = sorted(node.groups), node._options.service  # noqa: SLF001 - not for users
    if as_json:
        click.echo(json.dumps({"address": node.address, "id": node.id, "service": service, "groups": groups}))
        return
    click.echo(f"{service}: serving {', '.join(groups) or 'no groups'} at {node.address}; Ctrl-C ends it")
