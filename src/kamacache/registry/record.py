"""The registration of a member in JSON."""

from __future__ import annotations

import json
import math

from kamacache.member import Member


def written(me: Member, *, address: bool) -> bytes:
    """Return the registration of a member, with its address if nothing else names it."""
    record: dict[str, object] = {"id": me.id, "weight": me.weight, "groups": me.groups, "protocol": me.protocol}
    if me.loads:
        record["loads"] = me.loads
    if me.client:
        record["client"] = True
    if me.leaving:
        record["leaving"] = True
    if me.revision:
        record["revision"] = me.revision
    if address:
        record["address"] = me.address
    return json.dumps(record).encode()


def read(data: bytes, *, address: str | None = None) -> Member | None:
    """Return the member of a registration, at `address` or its own; None if it was written by an unknown version."""
    try:
        record = json.loads(data)
        groups, loads = (tuple(map(str, names)) for names in (record["groups"], record.get("loads", ())))
        found = str(record["address"]) if address is None and record["address"] is not None else address
        identity, weight, protocol = str(record["id"]), float(record["weight"]), int(record["protocol"])
        revision = int(record.get("revision", 0))
        client, leaving = (record.get(name) is True for name in ("client", "leaving"))
        member = Member(identity, found, weight, groups, protocol, loads, client, leaving, revision)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None
    sendable = 0 <= protocol < 1 << 32 and 0 <= revision < 1 << 64
    return member if 0 < member.weight < math.inf and sendable else None
