"""`kamacache doctor`: looks at a whole service from outside, and says in words what is wrong and what to do."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import click

from kamacache import __version__
from kamacache.cli import output
from kamacache.cli.client import OutOfReach, Refused
from kamacache.cli.finding import Place, places
from kamacache.errors import ConfigError
from kamacache.member import PROTOCOL
from kamacache.net.addresses import parse_address
from kamacache.registry import parse as parse_registry

_SKEW = 1.0  # seconds between clocks that are worth a word
_LONGEST = 10.0  # seconds to wait for one of many members
_FAILED = 1


class Finding(NamedTuple):
    """One thing looked at; `advice` says what to do where it is not `ok`."""

    ok: bool
    what: str
    text: str
    advice: str = ""


class Seen(NamedTuple):
    """What a member says of itself and of others, and by how much its clock is ahead of ours for certain."""

    address: str
    info: dict[str, Any]
    members: list[dict[str, Any]]
    ahead: float


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON value, for machines.")
@places
def doctor(place: Place, as_json: bool) -> None:
    """Check the registry, and every member's address, clock, version, groups and view of the others.

    Exit code 1 where something is wrong. With --node, the members that this node knows are checked.
    """
    findings: list[Finding] = []
    for finding in examine(place):
        findings.append(finding)
        if not as_json:
            mark = click.style("ok   ", fg="green") if finding.ok else click.style("WRONG", fg="red")
            click.echo(f"{mark}  {finding.what}: {finding.text}")
            if finding.advice:
                click.echo(f"       -> {finding.advice}")
    wrong = sum(not finding.ok for finding in findings)
    if as_json:
        output.show_json({"ok": not wrong, "findings": [finding._asdict() for finding in findings]})
    else:
        click.echo(f"{wrong} of {len(findings)} checks failed" if wrong else f"all {len(findings)} checks are fine")
    if wrong:
        sys.exit(_FAILED)


def examine(place: Place) -> Iterator[Finding]:
    """Everything that can be looked at, one after the other."""
    place = replace(place, timeout=min(place.timeout, _LONGEST))
    addresses = yield from _listed(place)
    seen: list[Seen] = []
    for address in addresses:
        try:
            member = _look(place, address)
        except (OutOfReach, Refused, ConfigError) as error:
            said = str(error).removeprefix(f"{address}: ")
            yield Finding(ok=False, what=address, text=f"cannot be asked: {said}", advice=_why(error, address))
        else:
            seen.append(member)
            yield from _alone(member, place)
    yield from _together(seen)


def _listed(place: Place) -> Generator[Finding, None, list[str]]:
    """The addresses of all members, by the node named or by the registry."""
    if place.node is not None:
        with place.client(place.node) as client:
            found = client.ask_json("KC.MEMBERS")
        addresses = [member["address"] or place.node for member in found if member["me"] or member["registered"]]
        yield Finding(ok=True, what="members", text=f"{place.node} knows {_count(addresses)}")
        return addresses
    try:
        found = place.members()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
        said = str(error).removeprefix(f"registry {place.scheme}: ")
        advice = "see that it runs, that its URL is right, and that this machine and user may reach it"
        yield Finding(ok=False, what=f"registry {place.scheme}", text=f"cannot be read: {said}", advice=advice)
        return []
    addresses = [str(member) for member in found]
    if not addresses:
        advice = "start a node of it, or name another --service or --registry"
        yield Finding(
            ok=False, what=f"registry {place.scheme}", text=f"lists nobody for service {place.service!r}", advice=advice
        )
    else:
        yield Finding(ok=True, what=f"registry {place.scheme}", text=f"lists {_count(addresses)} of {place.service!r}")
    yield from _reachable(place, addresses)
    return addresses


def _reachable(place: Place, addresses: list[str]) -> Iterator[Finding]:
    """Addresses that no other machine can use, where the registry is for other machines or members are on some."""
    registry = parse_registry(place.registry)
    try:
        here = {address for address in addresses if parse_address(address, name="member").is_loopback}
        for address in addresses:
            try:
                told = registry.advertise(address)
                mixed = registry.beyond_machine and len(here) < len(addresses)
                useless = address in here and (mixed or told != address)
            except ConfigError:
                useless = True
            if useless:
                advice = "give that node an advertise= that other machines can reach"
                yield Finding(ok=False, what=address, text="cannot be reached from other machines", advice=advice)
    finally:
        registry.close()


def _look(place: Place, address: str) -> Seen:
    with place.client(address) as client:
        before = time.time()
        info = client.ask_json("KC.INFO")
        after = time.time()
        clock = info["clock"]
        return Seen(address, info, client.ask_json("KC.MEMBERS"), clock - min(max(clock, before), after))


def _why(error: Exception, address: str) -> str:
    text = str(error)
    if isinstance(error, Refused):
        if error.code in {"NOAUTH", "WRONGPASS"}:
            return "give --password-file FILE with the password of the nodes, or set KAMACACHE_PASSWORD"
        if error.has_no_password:
            return "it was started without a password: give all nodes of the service the same one"
        return "it is of another version, or no node: see what runs there"
    if "nothing listens" in text:
        return "its process is gone, or listens elsewhere: start it again, or take the address off the list"
    if "in time" in text:
        on_the_way = "" if address.startswith("unix:") else ", or a firewall drops what is sent there"
        return f"its process is frozen or overloaded{on_the_way}"
    return "see that its process runs, that the address is right, and that TLS is the same on both sides"


def _alone(member: Seen, place: Place) -> Iterator[Finding]:
    """What one member tells by itself."""
    info = member.info
    what = f"{member.address}"
    groups = ", ".join(sorted(info["groups"])) or "no groups"
    yield Finding(ok=True, what=what, text=f"answers; kamacache {info['version']}, {groups}")
    if not info["joined"]:
        advice = "it cannot read its registry, or a member does not answer it: its log says which"
        yield Finding(ok=False, what=what, text="has not joined: its writes return False", advice=advice)
    for trouble in info.get("troubles", []):
        advice = "see that its machine reaches what is named there; it tries again by itself"
        yield Finding(ok=False, what=what, text=trouble, advice=advice)
    if info["protocol"] != PROTOCOL:
        advice = f"run the same version everywhere; this one is {__version__}"
        yield Finding(ok=False, what=what, text=f"speaks protocol {info['protocol']}, not {PROTOCOL}", advice=advice)
    if place.node is None and info["service"] != place.service:
        advice = "two services use one address: give one of them another"
        yield Finding(
            ok=False, what=what, text=f"is of service {info['service']!r}, not {place.service!r}", advice=advice
        )
    for other in member.members:
        if other["registered"] and other["state"] == "dead":
            advice = "see whether that process runs, and whether this member can reach it"
            yield Finding(ok=False, what=what, text=f"holds {other['address']} for dead", advice=advice)
        elif not other["registered"] and other["state"] == "alive":
            advice = "normal a moment after its start; else it cannot reach the registry or uses another: see its log"
            text = f"hears from {other['address']}, which is not registered"
            yield Finding(ok=False, what=what, text=text, advice=advice)


def _together(seen: list[Seen]) -> Iterator[Finding]:
    """What members say that does not fit together."""
    if not seen:
        return
    versions = _by((member.info["version"], member) for member in seen)
    if len(versions) > 1:
        advice = "fine while an upgrade is under way; finish it"
        yield Finding(ok=False, what="versions", text=_shown(versions), advice=advice)
    else:
        yield Finding(ok=True, what="versions", text=f"all run {next(iter(versions))}")
    known = [other for member in seen for other in member.members]
    if clients := sorted({other["address"] for other in known if other["state"] == "client"}):
        text = f"{', '.join(clients)}: listed, but no nodes; they may call, and are never asked anything"
        yield Finding(ok=True, what="clients", text=text)
    yield _clocks(seen)
    addresses = {member.address for member in seen}
    for member in seen:
        listed = {other["address"] for other in member.members if other["me"] or other["registered"]}
        if missing := addresses - listed - {member.address}:
            advice = "a moment after a start that is normal; else it reads another registry: see its log"
            yield Finding(
                ok=False, what=member.address, text=f"does not know {', '.join(sorted(missing))}", advice=advice
            )
    for group in sorted({group for member in seen for group in member.info["groups"]}):
        having = [member for member in seen if group in member.info["groups"]]
        if len(having) < len(seen):
            lacking = ", ".join(sorted({member.address for member in seen} - {member.address for member in having}))
            advice = "fine where that is meant; clients that ask for it there get NOGROUP"
            yield Finding(ok=True, what=f"group {group}", text=f"is not at {lacking}", advice=advice)
        for option in ("codec", "ttl", "near_ttl"):
            values = _by((str(member.info["groups"][group][option]), member) for member in having)
            if len(values) > 1:
                advice = f"make the group with the same {option} everywhere"
                yield Finding(ok=False, what=f"group {group}", text=f"{option}: {_shown(values)}", advice=advice)


def _clocks(seen: list[Seen]) -> Finding:
    """Whether the members' clocks agree: their writes are put in order by them."""
    slowest, fastest = (pick(seen, key=lambda member: member.ahead) for pick in (min, max))
    apart = fastest.ahead - slowest.ahead
    if apart > _SKEW:
        text = f"{fastest.address} is {apart:.1f} s ahead of {slowest.address}"
        advice = "have the clocks of all machines set by NTP: of two writes the one with the later time wins"
        return Finding(ok=False, what="clocks", text=text, advice=advice)
    if abs(slowest.ahead) > _SKEW:
        way = "behind" if slowest.ahead > 0 else "ahead of"
        text = f"agree; this machine's clock is {abs(slowest.ahead):.1f} s {way} theirs"
        return Finding(ok=True, what="clocks", text=text, advice="have this machine's clock set by NTP, too")
    return Finding(ok=True, what="clocks", text="agree")


def _by(values: Iterable[tuple[str, Seen]]) -> dict[str, list[str]]:
    """The addresses that have each value."""
    found: dict[str, list[str]] = defaultdict(list)
    for value, member in values:
        found[value].append(member.address)
    return found


def _shown(by: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} at {', '.join(addresses)}" for value, addresses in sorted(by.items()))


def _count(addresses: list[str]) -> str:
    return "1 member" if len(addresses) == 1 else f"{len(addresses)} members"
