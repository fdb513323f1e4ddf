"""The registration of a member in JSON."""

from __future__ import annotations

import json
import math

from kamacache.member import Member


def written(me: Member, *, address: bool) -> bytes:
    """Return the registration of a member, with its address if nothing else names it."""
    record = {"id": me.id, "weight": me.weight, "groups": me.groups, "protocol": me.protocol}
    if address:
        record["address"] = me.address
    return json.dumps(record).encode()


def read(data: bytes, *, address: str | None = None) -> Member | None:
    """Return the member of a registration, at `address` or its own; None if it was written by an unknown version."""
    try:
        record = json.loads(data)
        groups = tuple(str(group) for group in record["groups"])
        found = str(record["address"]) if address is None and record["address"] is not None else address
        member = Member(str(record["id"]), found, float(record["weight"]), groups, int(record["protocol"]))
    except (ValueError, TypeError, LookupError):
        return None
    return member if 0 < member.weight < math.inf else None
