"""What a node shows of itself and of all members to people: one document for the web page and for `kamacache top`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kamacache._engine import Histogram, hot
from kamacache.history import COUNTS, LEVELS, PERIODS, STEP
from kamacache.stats import GroupStats

if TYPE_CHECKING:
    from kamacache.core import GroupCore
    from kamacache.history import History

_OF_NODE = ("version", "joined", "troubles", "uptime", "process")
_HOT = 20  # keys of a group that a node names
_SHOWN = 10  # keys that are shown of all
_LATE = 1.5  # seconds after its end by which a period is noted: the sweeper looks once a second
_MINUTE = int(60 // STEP)
_LEAST = 1.0  # seconds for which a rate is told: one get in a moment is no rate
_SILENT = ("dead", "left")

Document = dict[str, Any]


def can_answer(member: Document) -> bool:
    """Return whether a member can be asked what it knows of itself."""
    return bool(member["address"] and member["id"]) and member["state"] not in _SILENT


def of_node(info: Document, groups: Mapping[str, GroupCore], history: History) -> Document:
    """Return what one node knows of itself: what `info` says, counters, the last minutes, and keys of each group."""
    return {name: info[name] for name in _OF_NODE} | {
        "groups": {name: _of_group(core, history) for name, core in sorted(groups.items())}
    }


def _of_group(core: GroupCore, history: History) -> Document:
    counts, seconds = history.times(core)
    sampled, keys = hot(core.store, _HOT)
    return {
        "age": core.age,
        "stats": core.stats().as_dict(),
        "history": history.of(core.name),
        "times": {"counts": counts, "seconds": seconds},
        "hot": {"sampled": sampled, "keys": keys},
    }


def together(info: Document, members: list[Document], answers: Mapping[str, Document | str], now: float) -> Document:
    """Return one document of all members.

    `members` are those that one node knows, `info` is what it says of itself. `answers` are the documents of nodes by
    their ids, or why a member gave none.
    """
    last = int((now - _LATE) // STEP) - 1  # the last period that all nodes have noted
    names = sorted({name for answer in answers.values() if isinstance(answer, dict) for name in answer["groups"]})
    nodes = [answer for answer in answers.values() if isinstance(answer, dict)]
    parts = {name: [node["groups"][name] for node in nodes if name in node["groups"]] for name in names}
    lately = _Lately(last, now)
    groups = [_group(name, each, lately) for name, each in parts.items()]
    shares = _shares(members, names)
    return {
        "service": info["service"],
        "registry": info["registry"],
        "address": info["address"],
        "clock": now,
        "step": STEP,
        **lately.of(part for each in parts.values() for part in each),
        "members": [
            _member(member, answers.get(member["id"]), lately) | {"share": share}
            for member, share in zip(members, shares, strict=True)
        ],
        "groups": groups,
        "hot": sorted((each for group in groups for each in group["hot"]), key=_rate, reverse=True)[:_SHOWN],
    }


def _shares(members: list[Document], groups: list[str]) -> list[float]:
    """Return which part of the keys each member owns, on average of the groups: see routes.py.

    Others stand in for a member that requests skip, as one that is considered dead. It still counts as one that loads.
    """
    sums = [0.0] * len(members)
    for group in groups:
        having = [_owns(member) * (group in member["groups"] or not member["protocol"]) for member in members]
        loading = [weight * (group in member["loads"]) for weight, member in zip(having, members, strict=True)]
        owning = loading if any(loading) else having
        weights = [weight * (not member["skipped"]) for weight, member in zip(owning, members, strict=True)]
        if whole := sum(weights):
            sums = [before + weight / whole for before, weight in zip(sums, weights, strict=True)]
    whole = sum(sums)
    return [one / whole if whole else 0.0 for one in sums]


def _owns(member: Document) -> float:
    """Return the weight of a member; 0.0 if it owns no keys. After its goodbye, one of a list owns as the dead."""
    leaves = member["leaving"] and member["state"] != "left"
    return float(member["weight"]) if member["registered"] and not member["client"] and not leaves else 0.0


def _rate(key: Document) -> float:
    return float(key["rate"])


def _member(member: Document, answer: Document | str | None, lately: _Lately) -> Document:
    shown = {name: member[name] for name in ("id", "address", "me", "state", "registered", "client", "weight")}
    if not isinstance(answer, dict):
        return shown | {"answers": False, "error": answer or "", "history": _sum_of_histories(())}
    groups = list(answer["groups"].values())
    sums = {"stats": sum_of_stats(group["stats"] for group in groups), "groups": sorted(answer["groups"])}
    return shown | {name: answer[name] for name in _OF_NODE} | {"answers": True} | sums | lately.of(groups)


def _group(name: str, parts: list[Document], lately: _Lately) -> Document:
    counts = [sum(column) for column in zip(*(part["times"]["counts"] for part in parts), strict=True)]
    seen = lately.of(parts)
    return {
        "name": name,
        "members": len(parts),
        "stats": sum_of_stats(part["stats"] for part in parts),
        "load": _times(counts, sum(part["times"]["seconds"] for part in parts)),
        "hot": list(_hottest(name, parts, seen["rate"])),
    } | seen


class _Lately:
    """What happened lately, until the end of the period `last`, as it is `now`."""

    def __init__(self, last: int, now: float) -> None:
        self._last = last
        self._until = now - (last + 1) * STEP  # seconds ago

    def of(self, parts: Iterable[Document]) -> Document:
        """Return the history of groups of nodes together, and how often a second each thing happened in a minute.

        Of a group that is younger, the seconds since it was made count. The hit ratio is None without any get.
        """
        parts = list(parts)
        histories = [_aligned(part["history"], self._last) for part in parts]
        seconds = [self._seconds(part) for part in parts]
        history = _sum_of_histories(histories)
        gets, memory = (sum(history[name][-_MINUTE:]) for name in ("gets", "memory"))

        def rate(name: str) -> float:
            each = [sum(one[name][-_MINUTE:]) / lasted for one, lasted in zip(histories, seconds, strict=True)]
            return float(sum(each))

        return {
            "history": history,
            "rate": rate("gets"),
            "load_rate": rate("loads"),
            "error_rate": rate("errors"),
            "hit_rate": min(1.0, memory / gets) if gets else None,  # a get is counted before its answer
        }

    def _seconds(self, part: Document) -> float:
        """Return the seconds that a group of a node has of the last minute. A node of an earlier version has no age."""
        age: float = part.get("age", math.inf)
        return min(_MINUTE * STEP, max(_LEAST, age - self._until))


def _hottest(group: str, parts: list[Document], rate: float) -> Iterator[Document]:
    """Yield the keys that have most of the samples of all nodes, with the least share that they must have."""
    sampled = sum(part["hot"]["sampled"] for part in parts)
    certain: dict[str, int] = {}
    for part in parts:
        for key, count, error in part["hot"]["keys"]:
            certain[key] = certain.get(key, 0) + count - error
    for key, count in sorted(certain.items(), key=lambda item: -item[1])[:_SHOWN]:
        yield {"group": group, "key": key, "share": count / sampled, "rate": rate * count / sampled}


def _aligned(history: Document, last: int) -> Document:
    """Return the history with one number for each of the last whole periods, zero if there is none."""
    places = {at: place for place, at in enumerate(history["at"])}
    wanted = [places.get(at) for at in range(last - PERIODS + 1, last + 1)]
    return {
        name: [0 if place is None else column[place] for place in wanted]
        for name, column in history.items()
        if name != "at"
    }


def _sum_of_histories(histories: Iterable[Document]) -> Document:
    none = {name: [0] * PERIODS for name in (*COUNTS, *LEVELS)}
    each = [none, *histories]
    return {name: [sum(column) for column in zip(*(one[name] for one in each), strict=True)] for name in none}


def sum_of_stats(each: Iterable[Document]) -> Document:
    """Return the sums of the counters of several nodes or groups, with the hit rate of all."""
    sums: dict[str, int] = dict.fromkeys(GroupStats.__annotations__, 0)
    for stats in each:
        for name in sums:
            sums[name] += stats.get(name, 0)  # a node of another version may have others
    return GroupStats(**sums).as_dict()


def _times(counts: list[int], seconds: float) -> Document:
    """Return the number of loads, their mean, and bounds that half of them and 99 % keep; None: 30 s and more."""
    total = sum(counts)
    if not total:
        return {"count": 0, "mean": None, "median": None, "p99": None}
    return {
        "count": total,
        "mean": seconds / total,
        "median": _bound(counts, total * 0.5),
        "p99": _bound(counts, total * 0.99),
    }


def _bound(counts: list[int], wanted: float) -> float | None:
    so_far = 0
    for bound, count in zip((*Histogram.BOUNDS, None), counts, strict=True):
        so_far += count
        if so_far >= wanted:
            return bound
    return None
