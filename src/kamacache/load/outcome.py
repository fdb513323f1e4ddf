"""The counters of Store.OUTCOMES by name, and what a store has by now as the end of a flight."""

from __future__ import annotations

from kamacache._engine import Store
from kamacache.load.flight import Outcome

GETS, HITS, NEAR_HITS, ABSENT, PEER_HITS, JOINED, LOADS, PEER_LOADS, SERVED, LOAD_ERRORS, WRITES = (
    Store.OUTCOMES.index(name)
    for name in (
        "gets",
        "hits",
        "near_hits",
        "absent",
        "peer_hits",
        "joined",
        "loads",
        "peer_loads",
        "served",
        "load_errors",
        "writes",
    )
)


def in_memory(store: Store, key: str, *, former: bool = False) -> Outcome | None:
    """The value here; one that is no longer owned only with `former`."""
    found = store.find(key)
    if found is None or (found[3] == Store.FORMER and not former):
        return None
    value, version, remaining, kind = found
    return Outcome(value, version, remaining, ABSENT if value is None else NEAR_HITS if kind == Store.NEAR else HITS)
