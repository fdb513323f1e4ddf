"""The metrics of a node in the text format of Prometheus (0.0.4), for `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from kamacache._engine import Histogram, __version__
from kamacache.cluster.membership import AWAY, UNREGISTERED
from kamacache.stats import GroupStats

if TYPE_CHECKING:
    from kamacache.core import GroupCore
    from kamacache.runtime import Runtime

OUTCOMES = ("hits", "near_hits", "absent", "peer_hits", "joined", "loads", "peer_loads")
_GAUGES = ("entries", "bytes", "near_bytes", "max_bytes", "remembered", "remembered_bytes")
_HELP = {
    "loads": "Keys loaded here for callers here.",
    "load_errors": "Loads here that raised or ran out of time.",
    "writes": "Keys set or deleted, and clears, called here.",
    "stale": "Values answered after their ttl.",
    "unanswered": "Gets that no node could answer, for want of a loader.",
    "too_large": "Values loaded here that are too large to be kept.",
    "undecodable": "Values that the codec could not read; they were loaded again.",
    "evictions": "Entries dropped to make room.",
    "expirations": "Entries dropped because their time was over.",
    "served": "Keys handled for peers.",
    "entries": "Entries in memory, remembered absences and near copies included.",
    "bytes": "Bytes of the entries and recent writes: keys, values and overhead.",
    "near_bytes": "The part of bytes in near copies.",
    "max_bytes": "The budget for bytes.",
    "remembered": "Recent writes in memory.",
    "remembered_bytes": "The part of bytes in recent writes.",
    "unremembered": "Writes that found the memory of recent writes full.",
}

Sample = tuple[dict[str, str], float]  # labels, value


class Metrics(Protocol):
    """Something that takes metrics in."""

    def metric(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """Take a counter or a gauge."""


class Page:
    """A page of metrics."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def metric(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """Add a counter or a gauge."""
        self._head(name, kind, text)
        self._lines += [f"{name}{labelled(labels)} {value}" for labels, value in samples]

    def histogram(self, name: str, text: str, samples: Iterable[tuple[dict[str, str], list[int], float]]) -> None:
        """Add a histogram, given labels, counts of the buckets of Histogram, and the sum of each."""
        self._head(name, "histogram", text)
        bounds = [*(repr(bound) for bound in Histogram.BOUNDS), "+Inf"]
        for labels, counts, total in samples:
            so_far = 0
            for bound, count in zip(bounds, counts, strict=True):
                so_far += count
                self._lines.append(f"{name}_bucket{labelled(labels | {'le': bound})} {so_far}")
            self._lines.append(f"{name}_sum{labelled(labels)} {total}")
            self._lines.append(f"{name}_count{labelled(labels)} {so_far}")

    def _head(self, name: str, kind: str, text: str) -> None:
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def labelled(labels: Mapping[str, str]) -> str:
    """Return labels as they stand in a sample, with braces; nothing if there are none."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def render(groups: Mapping[str, GroupCore], runtime: Runtime) -> str:
    """Return the page with the values of now."""
    page = Page()
    measure(page, groups, runtime)
    cores = dict(sorted(groups.items()))
    loads = [({"group": name}, *core.misses.times.read()) for name, core in cores.items()]
    page.histogram("kamacache_load_seconds", "Time of the calls of loaders here; a batch is one call.", loads)
    peers = [({"peer": peer, "kind": kind}, counts, total) for peer, kind, counts, total in runtime.lane.peer_times()]
    page.histogram("kamacache_peer_seconds", "Time until other members answered, or this node gave up.", peers)
    return str(page)


def measure(page: Metrics, groups: Mapping[str, GroupCore], runtime: Runtime) -> None:
    """Add the counters and gauges of now."""
    _node(page, runtime)
    _gets(page, {name: core.stats() for name, core in sorted(groups.items())})


def _node(page: Metrics, runtime: Runtime) -> None:
    import platform  # noqa: PLC0415 - only a scrape needs it

    build = {"version": __version__, "python": platform.python_version()}
    page.metric("kamacache_build_info", "gauge", "Versions of kamacache and Python.", [(build, 1)])
    page.metric("kamacache_joined", "gauge", "1 if the node has joined.", [({}, int(runtime.joined))])
    up = runtime.membership.troubles.all().keys().isdisjoint({AWAY, UNREGISTERED})
    page.metric("kamacache_registry_up", "gauge", "1 if the registry answers, or if there is none.", [({}, int(up))])
    peers = [peer for peer in runtime.membership.peers.known() if not peer.left]
    states = {"alive": 0, "dead": 0, "unlisted": 0, "client": 0}
    states["client" if runtime.client else "alive"] = 1
    for peer in peers:
        listed = "client" if peer.member.client else "alive" if peer.registered else "unlisted"
        states["dead" if peer.dead else listed] += 1
    members = [({"state": state}, count) for state, count in states.items()]
    page.metric("kamacache_members", "gauge", "Members as this node sees them, itself included.", members)
    alive = [({"peer": peer.address}, int(not peer.dead)) for peer in peers]
    page.metric("kamacache_peer_up", "gauge", "1 if this node considers that member alive.", alive)


def _gets(page: Metrics, stats: Mapping[str, GroupStats]) -> None:
    """Add the counters. A get counts when it is answered, so that the outcomes add up to the gets at any moment."""
    answered = {name: sum(getattr(of, outcome) for outcome in OUTCOMES) for name, of in stats.items()}
    page.metric(
        "kamacache_gets_total", "counter", "Keys requested by get and the like, and answered.", _each(answered.items())
    )
    under_way = ((name, of.gets - answered[name]) for name, of in stats.items())
    page.metric("kamacache_gets_under_way", "gauge", "Keys requested and not answered yet.", _each(under_way))
    outcomes = [
        ({"group": name, "outcome": outcome}, getattr(of, outcome))
        for name, of in stats.items()
        for outcome in OUTCOMES
    ]
    page.metric("kamacache_get_outcomes_total", "counter", "The same gets by the origin of their answers.", outcomes)
    for field, text in _HELP.items():
        values = _each((name, getattr(of, field)) for name, of in stats.items())
        kind, name = ("gauge", f"kamacache_{field}") if field in _GAUGES else ("counter", f"kamacache_{field}_total")
        page.metric(name, kind, text, values)


def _each(values: Iterable[tuple[str, float]]) -> list[Sample]:
    return [({"group": name}, value) for name, value in values]
