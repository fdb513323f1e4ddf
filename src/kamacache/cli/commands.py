"""Define the commands of `kamacache`.

Exit codes: 0 done, 1 absent, not confirmed or a check failed, 2 wrong usage or configuration, 3 no node or registry in
reach, 4 the node refused, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import kamacache
from kamacache.cli import counters, output, processes
from kamacache.cli.client import OutOfReach, Refused
from kamacache.cli.doctor import doctor
from kamacache.cli.finding import Place, places
from kamacache.cli.page import page
from kamacache.cli.serve import serve
from kamacache.cli.top import top
from kamacache.errors import ConfigError, KamaCacheError, RegistryError
from kamacache.units import check_full_name, parse_duration

ABSENT, USAGE, OUT_OF_REACH, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130


class Program(click.Group):
    """Turn errors into a message and an exit code."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the arguments, and print the help if they ask for it."""
        with _silent_at_a_closed_pipe():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _silent_at_a_closed_pipe():
                return super().invoke(ctx)
        except OutOfReach as error:
            code, text = OUT_OF_REACH, str(error)
        except Refused as error:
            code, text = REFUSED, f"the node refused: {error}{_advice(error)}"
        except RegistryError as error:
            code, text = OUT_OF_REACH, str(error)
        except ConfigError as error:
            code, text = USAGE, str(error)
        except KamaCacheError as error:
            code, text = ABSENT, str(error)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except OSError as error:
            code, text = USAGE, str(error)
        click.echo(f"kamacache: {text}", err=True)
        sys.exit(code)


@contextmanager
def _silent_at_a_closed_pipe() -> Iterator[None]:
    """End without words if the reader of the output has closed the pipe."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is written at the exit
        sys.exit(USAGE)


def _name(ctx: click.Context, param: click.Parameter, group: str | None) -> str | None:
    """Check the name here: in a command to a node the key follows it after a colon."""
    if group is None:
        return None
    try:
        return check_full_name(group)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _utf8(ctx: click.Context, param: click.Parameter, typed: str | tuple[str, ...]) -> Any:
    """Return keys as they were typed, whatever the locale."""
    if isinstance(typed, tuple):
        return tuple(_utf8(ctx, param, key) for key in typed)
    try:
        return os.fsencode(typed).decode()
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{typed!r} is not UTF-8", ctx, param) from error


def _advice(error: Refused) -> str:
    if error.code in {"NOAUTH", "WRONGPASS"}:
        return " (give --password-file FILE, or set KAMACACHE_PASSWORD)"
    if error.code == "NOGROUP":
        return " (`kamacache stats` lists the groups of a node, --node asks another)"
    if error.has_no_password:
        return " (leave --password-file and KAMACACHE_PASSWORD out)"
    return ""


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON value, for machines.")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kamacache.__version__, prog_name="kamacache")
def cli() -> None:
    """A distributed read-through cache: run nodes, query them, check them.

    Exit codes: 0 done; 1 absent, not confirmed, or a check failed; 2 wrong usage or configuration; 3 no node or
    registry in reach; 4 the node refused; 130 Ctrl-C.
    """
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False


cli.add_command(serve)
cli.add_command(doctor)
cli.add_command(top)
cli.add_command(page)


@cli.command()
@click.argument("group", callback=_name)
@click.argument("key", callback=_utf8)
@as_json
@places
def get(place: Place, group: str, key: str, as_json: bool) -> None:
    """Print the value of KEY, loading it if no node has it.

    Exit code 1 if there is none.
    """
    with place.connect(group) as client:
        value = client.ask("KC.LOAD", f"{group}:{key}")
    if value is not None and not isinstance(value, bytes):
        raise OutOfReach(f"{client.address} does not answer KC.LOAD as a node does")
    if as_json:
        output.show_json({"group": group, "key": key, "value": output.value_as_json(value)})
    elif value is not None:
        click.echo(value, nl=sys.stdout is not None and sys.stdout.isatty())
    if value is None:
        if not as_json:
            click.echo(f"kamacache: {group} has no {key!r}", err=True)
        sys.exit(ABSENT)


@cli.command()
@click.argument("group", callback=_name)
@click.argument("key", callback=_utf8)
@click.argument("value")
@click.option("--ttl", metavar="TIME", help="How long it lives, as in 90s or 1h30m; else the group's ttl.")
@places
def set(place: Place, group: str, key: str, value: str, ttl: str | None) -> None:  # noqa: A001 - the command's name
    """Set KEY to VALUE on all nodes.

    VALUE is the bytes that the codec of the group writes; - reads them from standard input.
    """
    lives: list[str] = []
    if ttl is not None:
        seconds = parse_duration(ttl, name="--ttl")
        if seconds <= 0:
            raise ConfigError(f"--ttl={ttl!r}: must be more than zero; see `kamacache delete`")
        lives = ["PX", str(max(1, round(seconds * 1000)))]
    data = _standard_input() if value == "-" else os.fsencode(value)
    with place.connect(group) as client:
        client.ask("SET", f"{group}:{key}", data, *lives)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise ConfigError("VALUE is -, and standard input is closed")
    return sys.stdin.buffer.read()


@cli.command()
@click.argument("group", callback=_name)
@click.argument("keys", callback=_utf8, nargs=-1, required=True)
@places
def delete(place: Place, group: str, keys: tuple[str, ...]) -> None:
    """Delete KEYS on all nodes.

    The next get loads them again.
    """
    with place.connect(group) as client:
        client.ask("DEL", *(f"{group}:{key}" for key in keys))


@cli.command()
@click.argument("group", callback=_name)
@places
def clear(place: Place, group: str) -> None:
    """Forget every key of GROUP on all nodes.

    Exit code 1 if one of them did not confirm.
    """
    with place.connect(group) as client:
        if not client.ask_json("KC.CLEAR", group)["confirmed"]:
            click.echo("kamacache: not all nodes have confirmed; see `kamacache members`", err=True)
            sys.exit(ABSENT)


@cli.command()
@as_json
@places
def members(place: Place, as_json: bool) -> None:
    """Show the members as one node sees them, and their processes.

    That node is marked with *. A member that does not answer within 2 s has no process.
    """
    found = processes.members(place)
    if as_json:
        output.show_json(found)
    else:
        processes.show(found)


@cli.command()
@click.argument("group", callback=_name)
@click.argument("key", callback=_utf8)
@as_json
@places
def owner(place: Place, group: str, key: str, as_json: bool) -> None:
    """Show which member owns KEY, and the candidates after it."""
    with place.connect(group) as client:
        found = client.ask_json("KC.OWNER", group, key)
    if as_json:
        output.show_json(found)
        return
    now = found["owner"]["id"]
    line = [(number, member) for number, member in enumerate(found["candidates"], 1)]
    rows = [[str(n), m["address"] or "-", "owner" if m["id"] == now else "", m["id"]] for n, m in line]
    output.table(["PLACE", "ADDRESS", "", "ID"], rows)


@cli.command()
@click.argument("group", callback=_name, required=False)
@as_json
@click.option("--all", "everyone", is_flag=True, help="The sums of all members, instead of one of them.")
@click.option("--watch", metavar="TIME", help="Again and again, with this pause, such as 2s.")
@places
def stats(place: Place, group: str | None, as_json: bool, everyone: bool, watch: str | None) -> None:
    """Show the counters of one node, or of all members together: of GROUP or of all groups."""
    every = None if watch is None else parse_duration(watch, name="--watch", least=0.1)
    for _ in counters.times(every):
        title, found = (counters.of_all if everyone else counters.of_one)(place, group)
        if as_json:
            output.show_json(found)
        else:
            counters.show(title, found)


@cli.command()
@as_json
@places
def ping(place: Place, as_json: bool) -> None:
    """Say whether a node answers, and how fast."""
    with place.connect() as client:
        began = time.perf_counter()
        client.ask("PING")
        took = time.perf_counter() - began
    if as_json:
        output.show_json({"address": client.address, "seconds": took})
    else:
        click.echo(f"{client.address} answers in {took * 1000:.1f} ms")
