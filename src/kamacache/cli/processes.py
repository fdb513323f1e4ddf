"""The members that one node knows, each with its process, which the member itself is asked for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kamacache.cli import output
from kamacache.cli.client import Client, OutOfReach, Refused
from kamacache.cli.finding import Place
from kamacache.serve.status import can_answer

HEAD = ["", "ADDRESS", "STATE", "LISTED", "WEIGHT", "PID", "HOST", "STARTED", "GROUPS", "ID", "TITLE"]
_AT_ONCE = 16
_ANSWER = 2.0  # seconds in which a member must answer
_TITLE = 40  # characters in a table

Members = list[dict[str, Any]]


def members(place: Place) -> Members:
    """Return what a node says of all members, with the `process` of each; None if it does not answer."""
    with place.connect() as client:
        found: Members = client.ask_json("KC.MEMBERS")
        own = _process(client)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        asked = threads.map(lambda member: own if member["me"] else _asked(place, member), found)
        return [member | {"process": process} for member, process in zip(found, asked, strict=True)]


def _asked(place: Place, member: dict[str, Any]) -> dict[str, Any] | None:
    if not can_answer(member):
        return None
    try:
        with place.answering(member["address"]) as client:
            return _process(client)
    except (OutOfReach, Refused):
        return None


def _process(client: Client) -> dict[str, Any] | None:
    """Return the process of a node; None of one of an earlier version, which does not say it."""
    info: dict[str, Any] = client.ask_json("KC.INFO", within=_ANSWER)
    return info.get("process")


def show(found: Members) -> None:
    """Print the members as a table."""
    output.table(HEAD, [_row(member) for member in found])


def _row(member: dict[str, Any]) -> list[str | float]:
    process = member["process"]
    pid = host = started = title = "-"
    if process is not None:
        pid, host, title = str(process["pid"]), process["host"], process["title"][:_TITLE]
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(process["started"]))
    return [
        "*" if member["me"] else "",
        member["address"] or "-",
        member["state"],
        "yes" if member["registered"] else "no",
        member["weight"],
        *(pid, host, started),
        ", ".join(member["groups"]) or "-",
        member["id"] or "-",
        title or "-",
    ]
