"""Examine a whole service from outside, and say what is wrong and what to do: `kamacache doctor`."""

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
from kamacache.cluster.exchange import DENIED
from kamacache.errors import ConfigError
from kamacache.member import PROTOCOL
from kamacache.net.addresses import parse_address
from kamacache.registry import parse as parse_registry

_SKEW = 1.0  # seconds between clocks that are worth a finding
_LONGEST = 10.0  # seconds to wait for one of many members
_FAILED = 1


class Finding(NamedTuple):
    """The result of one check; `advice` says what to do if it is not `ok`."""

    ok: bool
    what: str
    text: str
    advice: str = ""


def _fine(what: str, text: str, advice: str = "") -> Finding:
    return Finding(True, what, text, advice)


def _wrong(what: str, text: str, advice: str) -> Finding:
    return Finding(False, what, text, advice)


class Seen(NamedTuple):
    """The answers of a member about itself and others, and by how much at least its clock is ahead of ours."""

    address: str
    info: dict[str, Any]
    members: list[dict[str, Any]]
    ahead: float


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON value, for machines.")
@places
def doctor(place: Place, as_json: bool) -> None:
    """Check the registry, and every member's address, clock, version, groups and view of the others.

    Exit code 1 if something is wrong. With --node, check the members that this node knows.
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
    """Run all checks, one after the other."""
    place = replace(place, timeout=min(place.timeout, _LONGEST))
    addresses = yield from _listed(place)
    seen: list[Seen] = []
    for address in addresses:
        try:
            member = _look(place, address)
        except (OutOfReach, Refused, ConfigError) as error:
            said = str(error).removeprefix(f"{address}: ")
            yield _wrong(address, f"cannot be queried: {said}", _why(error, address))
        else:
            seen.append(member)
            yield from _alone(member, place)
    yield from _together(seen)


def _listed(place: Place) -> Generator[Finding, None, list[str]]:
    """Return the addresses of all members, as the given node or the registry knows them."""
    if place.node is not None:
        with place.client(place.node) as client:
            found = client.ask_json("KC.MEMBERS")
        listed = [member for member in found if (member["me"] or member["registered"]) and member["state"] != "client"]
        addresses = [member["address"] or place.node for member in listed]
        yield _fine("members", f"{place.node} knows {_count(addresses)}")
        return addresses
    try:
        found = place.members()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - a registry of the user may raise anything
        said = str(error).removeprefix(f"registry {place.scheme}: ")
        advice = "check that it runs, that its URL is right, and that this machine and user may reach it"
        yield _wrong(f"registry {place.scheme}", f"cannot be read: {said}", advice)
        return []
    addresses = [str(member) for member in found if not member.client]
    if not addresses:
        advice = "start a node of it, or name another --service or --registry"
        yield _wrong(f"registry {place.scheme}", f"lists no member of service {place.service!r}", advice)
    else:
        yield _fine(f"registry {place.scheme}", f"lists {_count(addresses)} of {place.service!r}")
    yield from _reachable(place, addresses)
    return addresses


def _reachable(place: Place, addresses: list[str]) -> Iterator[Finding]:
    """Find the addresses that no other machine can use, if the registry or a member is on another machine."""
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
                yield _wrong(address, "cannot be reached from other machines", advice)
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
        return "it has another version, or is not a node: check what runs there"
    if "nothing listens" in text:
        return "its process is gone, or listens elsewhere: start it again, or take the address off the list"
    if "in time" in text:
        on_the_way = "" if address.startswith("unix:") else ", or a firewall drops what is sent there"
        return f"its process is frozen or overloaded{on_the_way}"
    return "check that its process runs, that the address is right, and that TLS is the same on both sides"


def _alone(member: Seen, place: Place) -> Iterator[Finding]:
    """Check the answers of one member by themselves."""
    info = member.info
    what = member.address
    groups = ", ".join(sorted(info["groups"])) or "no groups"
    yield _fine(what, f"answers; kamacache {info['version']}, {groups}")
    if not info["joined"]:
        advice = "it cannot read its registry, or a member does not answer it: its log says which"
        yield _wrong(what, "has not joined: its writes return False", advice)
    for trouble in info.get("troubles", []):
        advice = "check that its machine reaches the address named there; it tries again by itself"
        if trouble.startswith(DENIED):
            advice = "give both the same password, and certificates of one authority; see their logs"
        yield _wrong(what, trouble, advice)
    if info["protocol"] != PROTOCOL:
        advice = f"run the same version everywhere; this one is {__version__}"
        yield _wrong(what, f"speaks protocol {info['protocol']}, not {PROTOCOL}", advice)
    if place.node is None and info["service"] != place.service:
        advice = "two services use one address: give one of them another"
        yield _wrong(what, f"is of service {info['service']!r}, not {place.service!r}", advice)
    for other in member.members:
        if other["registered"] and other["state"] == "dead":
            advice = "check that this process runs, and that this member can reach it"
            yield _wrong(what, f"considers {other['address']} dead", advice)
        elif not other["registered"] and other["state"] == "alive":
            advice = "normal a moment after its start; else it cannot reach the registry or uses another: see its log"
            text = f"hears from {other['address']}, which is not registered"
            yield _wrong(what, text, advice)


def _together(seen: list[Seen]) -> Iterator[Finding]:
    """Compare the answers of all members."""
    if not seen:
        return
    versions = _by((member.info["version"], member) for member in seen)
    if len(versions) > 1:
        advice = "fine while an upgrade is under way; finish it"
        yield _wrong("versions", _shown(versions), advice)
    else:
        yield _fine("versions", f"all run {next(iter(versions))}")
    known = [other for member in seen for other in member.members]
    clients = {other["address"]: other.get("id") for other in known if other["state"] == "client"}
    doubtful = {other["address"] for other in known if other.get("client") and other["state"] == "unknown"}
    if nodes := sorted(address for address, identity in clients.items() if identity):
        yield _fine("client nodes", f"{', '.join(nodes)}: own no keys, load for no other, and are notified of writes")
    if foreign := sorted(address for address, identity in clients.items() if not identity):
        text = f"{', '.join(foreign)}: listed as clients; they may call nodes, and nodes never call them"
        yield _fine("clients", text)
    if doubtful:
        text = "listed as clients; without the password or a certificate they are refused, as KamaCache-Go's nodes are"
        yield _fine("clients", f"{', '.join(sorted(doubtful))}: {text}")
    yield _clocks(seen)
    addresses = {member.address for member in seen}
    for member in seen:
        listed = {other["address"] for other in member.members if other["me"] or other["registered"]}
        if missing := addresses - listed - {member.address}:
            advice = "a moment after a start that is normal; else it reads another registry: see its log"
            yield _wrong(member.address, f"does not know {', '.join(sorted(missing))}", advice)
    for group in sorted({group for member in seen for group in member.info["groups"]}):
        having = [member for member in seen if group in member.info["groups"]]
        if len(having) < len(seen):
            lacking = ", ".join(sorted({member.address for member in seen} - {member.address for member in having}))
            advice = "fine if that is intended; clients that request it there get NOGROUP"
            yield _fine(f"group {group}", f"is not at {lacking}", advice)
        yield from _alike(group, having)


def _alike(group: str, having: list[Seen]) -> Iterator[Finding]:
    """Compare the loaders and the options of one group at all members that have it."""
    options = {member.address: member.info["groups"][group] for member in having}
    loading = [member for member in having if options[member.address].get("loads", True)]
    if loading and len(loading) < len(having):
        lacking = ", ".join(sorted({member.address for member in having} - {member.address for member in loading}))
        advice = "fine if that is intended; it owns no keys of the group, and asks the members that have the loader"
        yield _fine(f"group {group}", f"has no loader at {lacking}", advice)
    for option in sorted({name for each in options.values() for name in each} - {"loads"}):
        loader = option in {"loader", "load_many"}
        compared = loading if loader else having
        values = _by((str(options[member.address].get(option)), member) for member in compared)
        if len(values) > 1:
            advice = f"make the group with the same {option} everywhere"
            if loader:
                advice += ", and give each program a service of its own: members of one service share their values"
            yield _wrong(f"group {group}", f"{option}: {_shown(values)}", advice)


def _clocks(seen: list[Seen]) -> Finding:
    """Compare the clocks of the members, which order their writes."""
    slowest, fastest = (pick(seen, key=lambda member: member.ahead) for pick in (min, max))
    apart = fastest.ahead - slowest.ahead
    if apart > _SKEW:
        text = f"{fastest.address} is {apart:.1f} s ahead of {slowest.address}"
        advice = "have the clocks of all machines set by NTP: of two writes the one with the later time wins"
        return _wrong("clocks", text, advice)
    if abs(slowest.ahead) > _SKEW:
        way = "behind" if slowest.ahead > 0 else "ahead of"
        text = f"agree; this machine's clock is {abs(slowest.ahead):.1f} s {way} theirs"
        return _fine("clocks", text, "have this machine's clock set by NTP, too")
    return _fine("clocks", "agree")


def _by(values: Iterable[tuple[str, Seen]]) -> dict[str, list[str]]:
    """Return the addresses that have each value."""
    found: dict[str, list[str]] = defaultdict(list)
    for value, member in values:
        found[value].append(member.address)
    return found


def _shown(by: dict[str, list[str]]) -> str:
    return "; ".join(f"{value} at {', '.join(addresses)}" for value, addresses in sorted(by.items()))


def _count(addresses: list[str]) -> str:
    return "1 member" if len(addresses) == 1 else f"{len(addresses)} members"
