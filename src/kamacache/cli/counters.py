"""The counters of groups, of one node or of all members together, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress

import click

from kamacache.cli import output
from kamacache.cli.client import OutOfReach, Refused
from kamacache.cli.finding import Place
from kamacache.serve.status import sum_of_stats

_SIZES = {"bytes", "near_bytes", "remembered_bytes", "max_bytes"}
_CLEAR = "\x1b[H\x1b[2J"

Counters = dict[str, dict[str, float]]  # by group and name


def of_one(place: Place, group: str | None) -> tuple[str, Counters]:
    """Return the address of a node, and its counters. Raises OutOfReach, Refused."""
    with place.connect(group) as client:
        return client.address, client.ask_json("KC.STATS", *([] if group is None else [group]))


def of_all(place: Place, group: str | None) -> tuple[str, Counters]:
    """Return how many members answer, in words, and the sums of their counters.

    Members without the group count as zero, and those that do not answer are named on standard error. Raises
    OutOfReach if none answers, and Refused.
    """
    each: dict[str, list[dict[str, float]]] = {}
    silent: list[str] = []
    members = place.members()
    for member in members:
        try:
            with place.answering(str(member)) as client:
                found: Counters = client.ask_json("KC.STATS")
        except OutOfReach as error:
            silent.append(str(error))
            continue
        for name, counters in found.items():
            if group in (None, name):
                each.setdefault(name, []).append(counters)
    answered = len(members) - len(silent)
    if not answered:
        raise OutOfReach("no member answers: " + "; ".join(silent) if silent else "no node is registered")
    for line in silent:
        click.echo(f"kamacache: {line}", err=True)
    if group is not None and not each:
        raise Refused(f"NOGROUP no group '{group}' on any member")
    sums = {name: sum_of_stats(counters) for name, counters in each.items()}
    return f"{answered} of {len(members)} members together", sums


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
    """Yield once, or again and again with a pause, until Ctrl-C. At a terminal the screen is cleared each time."""
    yield
    with suppress(KeyboardInterrupt):
        while every is not None:
            time.sleep(every)
            if sys.stdout.isatty():
                click.echo(_CLEAR, nl=False)
            yield
