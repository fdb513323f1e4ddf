"""The differences between the groups of this node and those of other members that have the same names."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kamacache.log import log

if TYPE_CHECKING:
    from kamacache.member import Member
    from kamacache.net.messages import GroupState

LOADER = ("loader", "load_many")
_AT_CLIENTS = ("codec", "ttl", "near_ttl", *LOADER)  # what decides how a client node reads and writes
_OF_CLIENTS = ("codec", *LOADER)  # the same, as far as members notice it
NONE = "none"  # the name of a loader that is not there


class Differences:
    """Warns of each difference between this node and another member once; a client node, once for all members.

    Invariant, under `_lock`: `_logged` has the differences that were logged, by the id of the other member.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, set[tuple[str, ...]]] = {}

    def look(self, me: Member, mine: Mapping[str, object], other: Member, state: GroupState) -> None:
        """Compare the loader and the options of a group here, `mine`, with what a hello of another member says."""
        if me.client and other.client:  # both ask the members
            return
        theirs = dict(option.partition(": ")[::2] for option in state.options)
        here = {name: str(value) for name, value in mine.items()}
        for what, text in _differences(here, theirs, me, other):
            with self._lock:
                logged = self._logged.setdefault("" if me.client else other.id, set())
                known = (difference := (state.name, *what)) in logged
                logged.add(difference)
            if not known:
                log.warning("group %(group)r: %(difference)s", group=state.name, difference=text, peer=other.address)

    def forget(self, member: str) -> None:
        """Forget what was logged of a member that is gone."""
        with self._lock:
            self._logged.pop(member, None)


def _differences(
    here: Mapping[str, str], there: Mapping[str, str], me: Member, other: Member
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Yield each difference as the option, its value here and there, and a text that names both members."""
    lacking = [node for node, options in ((me, here), (other, there)) if _has_no_loader(options)]
    if len(lacking) == 1 and not (me.client or other.client):
        having, loader = (other, _loader(there)) if lacking[0] is me else (me, _loader(here))
        one = _named(lacking[0])
        text = f"{one} has no loader, {_named(having)} has {loader}; {one} owns no keys of the group and loads none"
        remedy = "give it the loader, or make it a client node (client=True)"
        yield ("loader", _loader(here), _loader(there)), f"{text}; {remedy}"
    stored = len(lacking) == 2 and (_is_store(me, here) or _is_store(other, there))  # noqa: PLR2004 - both
    for name in _AT_CLIENTS if me.client else _OF_CLIENTS if other.client else here:
        if here[name] == there.get(name, here[name]) or (name in LOADER and lacking):
            continue
        if stored and name in ("codec", "ttl"):
            continue
        text = f"{name} is {here[name]} at {_named(me)} and {there[name]} at {_named(other)}"
        if name in LOADER:
            text += ", and members of one service serve the values of both"
        remedy = f"make the group with the same {name} everywhere, and give each program a service of its own"
        yield (name, here[name], there[name]), f"{text}; {remedy}"


def _named(member: Member) -> str:
    """Return the address of a member. This node has none yet while it is still looking for it, as in a silent DNS."""
    return member.address or "this node"


def _is_store(member: Member, options: Mapping[str, str]) -> bool:
    """Return whether a member keeps what others write, as they wrote it: `kamacache serve --group NAME` does."""
    return not member.client and options.get("codec") == "bytes" and options.get("ttl") == "None"


def _has_no_loader(options: Mapping[str, str]) -> bool:
    return all(options.get(name, NONE) == NONE for name in LOADER)


def _loader(options: Mapping[str, str]) -> str:
    return " and ".join(options[name] for name in LOADER if options.get(name, NONE) != NONE)
