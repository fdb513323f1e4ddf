"""The counters of groups, of one node or of all members together, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from kamacache.cli import output
from kamacache.cli.client import OutOfReach, Refused
from kamacache.cli.finding import Place
from kamacache.serve.status import can_answer, sum_of_stats

_SIZES = {"bytes", "near_bytes", "remembered_bytes", "max_bytes"}
_CLEAR = "\x1b[H\x1b[2J"

Counters = dict[str, dict[str, float]]  # by group and name


def of_one(place: Place, group: str | None) -> tuple[str, Counters]:
    """Return the address of a node, and its counters. Raises OutOfReach, Refused."""
    with place.connect(group) as client:
        return client.address, client.ask_json("KC.STATS", *([] if group is None else [group]))


def of_all(place: Place, group: str | None) -> tuple[str, Counters]:
    """Return how many of the members that one node knows answer, in words, and the sums of their counters.

    Members without the group count as zero, and those that do not answer are named on standard error. Raises
    OutOfReach if no node answers, and Refused.
    """
    with place.connect(group) as client:
        known = client.ask_json("KC.MEMBERS")
        each: list[Counters] = [client.ask_json("KC.STATS")]
    others = [member["address"] for member in known if not member["me"] and _is_asked(member)]
    for address in others:
        try:
            with place.answering(address) as client:
                each.append(client.ask_json("KC.STATS"))
        except OutOfReach as error:
            click.echo(f"kamacache: {error}", err=True)
    names = {name for counters in each for name in counters if group in (None, name)}
    if group is not None and not names:
        raise Refused(f"NOGROUP no group '{group}' on any member")
    sums = {name: sum_of_stats(counters[name] for counters in each if name in counters) for name in sorted(names)}
    return f"{len(each)} of {len(others) + 1} members together", sums


def _is_asked(member: dict[str, Any]) -> bool:
    """Return whether a member counts: a dead one does if the registry lists it, one that is gone for good does not."""
    return can_answer(member) or bool(member["address"] and member["registered"])


def show(title: str, found: Counters) -> None:
    """Print the counters as a table, a column for each group."""
    names = sorted(found)
    if not names:
        click.echo(f"{title}: there are no groups", err=True)
        return
    click.echo(f"{title}:")
    rows = [[row.replace("_", " "), *(_cell(row, found[name][row]) for name in names)] for row in found[names[0]]]
    output.table(["", *names], rows, right=True)


def _cell(row: str, value: float) -> str:
    if row == "hit_rate":
        return f"{value:.1%}"
    return output.size(value) if row in _SIZES else f"{value:,}"


def times(every: float | None) -> Iterator[None]:
    """Yield once, or again and again with a pause. At a terminal the screen is cleared each time."""
    yield
    while every is not None:
        time.sleep(every)
        if sys.stdout.isatty():
            click.echo(_CLEAR, nl=False)
        yield
