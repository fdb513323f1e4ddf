"""The commands of `kamacache`.

Exit codes: 0 done, 1 absent, not confirmed or a check failed, 2 wrong usage or configuration, 3 no node or registry in
reach, 4 the node refused.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import click

import kamacache
from kamacache.cli import output
from kamacache.cli.client import OutOfReach, Refused
from kamacache.cli.doctor import doctor
from kamacache.cli.finding import Place, places
from kamacache.cli.serve import serve
from kamacache.errors import ConfigError, KamaCacheError, RegistryError
from kamacache.units import parse_duration

ABSENT, USAGE, OUT_OF_REACH, REFUSED = 1, 2, 3, 4
_SIZES = {"bytes", "near_bytes", "max_bytes"}


class Program(click.Group):
    """Turns what went wrong into words and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
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
        click.echo(f"kamacache: {text}", err=True)
        sys.exit(code)


def _advice(error: Refused) -> str:
    if error.code in {"NOAUTH", "WRONGPASS"}:
        return " (give --password-file FILE, or set KAMACACHE_PASSWORD)"
    if error.code == "NOGROUP":
        return " (`kamacache stats` lists the groups of a node)"
    return ""


as_json = click.option("--json", "as_json", is_flag=True, help="One JSON value, for machines.")


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kamacache.__version__, prog_name="kamacache")
def cli() -> None:
    """A distributed read-through cache: run nodes, ask them, look after them.

    Exit codes: 0 done; 1 absent, not confirmed, or a check failed; 2 wrong usage or configuration; 3 no node or
    registry in reach; 4 the node refused.
    """


cli.add_command(serve)
cli.add_command(doctor)


@cli.command()
@click.argument("group")
@click.argument("key")
@as_json
@places
def get(place: Place, group: str, key: str, as_json: bool) -> None:
    """Print the value of KEY, loaded where nobody has it; exit code 1 where there is none."""
    with place.connect(group) as client:
        value = client.ask("GET", f"{group}:{key}")
    if value is not None and not isinstance(value, bytes):
        raise OutOfReach(f"{client.address} answers GET as no node does")
    if as_json:
        output.show_json({"group": group, "key": key, "value": output.value_as_json(value)})
    elif value is not None:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()
        if sys.stdout.isatty():
            click.echo()
    if value is None:
        if not as_json:
            click.echo(f"kamacache: {group} has no {key!r}", err=True)
        sys.exit(ABSENT)


@cli.command()
@click.argument("group")
@click.argument("key")
@click.argument("value")
@click.option("--ttl", metavar="TIME", help="How long it lives, as in 90s or 1h30m; else the group's ttl.")
@places
def set(place: Place, group: str, key: str, value: str, ttl: str | None) -> None:  # noqa: A001 - the command's name
    """Set KEY to VALUE on all nodes, as the group's codec writes it; VALUE - is read from standard input."""
    data = sys.stdin.buffer.read() if value == "-" else value.encode()
    lives: list[str] = []
    if ttl is not None:
        lives = ["PX", str(max(1, round(parse_duration(ttl, name="--ttl") * 1000)))]
    with place.connect(group) as client:
        client.ask("SET", f"{group}:{key}", data, *lives)


@cli.command()
@click.argument("group")
@click.argument("keys", nargs=-1, required=True)
@places
def delete(place: Place, group: str, keys: tuple[str, ...]) -> None:
    """Delete KEYS on all nodes; the next get loads them again."""
    with place.connect(group) as client:
        client.ask("DEL", *(f"{group}:{key}" for key in keys))


@cli.command()
@click.argument("group")
@places
def clear(place: Place, group: str) -> None:
    """Forget every key of GROUP on all nodes; exit code 1 where one of them did not confirm."""
    with place.connect(group) as client:
        if not client.ask_json("KC.CLEAR", group)["confirmed"]:
            click.echo("kamacache: not all nodes have confirmed; see `kamacache members`", err=True)
            sys.exit(ABSENT)


@cli.command()
@as_json
@places
def members(place: Place, as_json: bool) -> None:
    """Show the members as one node sees them; that node is marked with *."""
    with place.connect() as client:
        found = client.ask_json("KC.MEMBERS")
    if as_json:
        output.show_json(found)
        return
    rows = [
        [
            "*" if member["me"] else "",
            member["address"] or "-",
            member["state"],
            "yes" if member["registered"] else "no",
            member["weight"],
            ", ".join(member["groups"]) or "-",
            member["id"] or "-",
        ]
        for member in found
    ]
    output.table(["", "ADDRESS", "STATE", "LISTED", "WEIGHT", "GROUPS", "ID"], rows)


@cli.command()
@click.argument("group")
@click.argument("key")
@as_json
@places
def owner(place: Place, group: str, key: str, as_json: bool) -> None:
    """Show which member owns KEY, and who is next in line."""
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
@click.argument("group", required=False)
@as_json
@places
def stats(place: Place, group: str | None, as_json: bool) -> None:
    """Show the counters of one node's groups, or of GROUP alone."""
    with place.connect(group) as client:
        found = client.ask_json("KC.STATS", *([] if group is None else [group]))
    if as_json:
        output.show_json(found)
        return
    names = sorted(found)
    if not names:
        click.echo(f"{client.address} has no groups", err=True)
        return
    click.echo(f"{client.address}:")
    rows = [[row.replace("_", " "), *(_cell(row, found[name][row]) for name in names)] for row in found[names[0]]]
    output.table(["", *names], rows, right=True)


def _cell(row: str, value: float) -> str:
    if row == "hit_rate":
        return f"{value:.1%}"
    return output.size(value) if row in _SIZES else f"{value:,}"


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


@cli.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Show three nodes on this machine that share a cache and survive a crash.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> None:
    """Run kamacache.demo with these ARGUMENTS."""
    from kamacache.demo.__main__ import main  # noqa: PLC0415 - it needs sqlite3, which not every Python has

    sys.exit(main(arguments))
