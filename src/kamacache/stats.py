"""Count what a group has done so far, in this process."""

from __future__ import annotations

from typing import Any, NoReturn


class GroupStats:  # no dataclass: importing these takes longer than the whole package
    """Counters of one group on one node, at one moment.

    Every requested key counts in `gets` and in exactly one of hits, near_hits, absent, peer_hits, joined, loads and
    peer_loads, errors included.
    """

    gets: int = 0
    """Keys requested by get, get_many and their twins."""
    hits: int = 0
    """Main copies found in this process."""
    near_hits: int = 0
    """Near copies found in this process."""
    absent: int = 0
    """Keys answered None: the absence is remembered here or at the owner, or there is no loader."""
    peer_hits: int = 0
    """Keys found in the memory of a peer."""
    joined: int = 0
    """Keys for which a caller waited for the load of another caller."""
    loads: int = 0
    """Keys loaded here."""
    peer_loads: int = 0
    """Keys loaded by a peer for a caller here."""
    served: int = 0
    """Keys handled for peers; in none of the above."""
    load_errors: int = 0
    """Loads here that raised or ran out of time."""
    writes: int = 0
    """Keys set or deleted, and clears, called here."""
    undecodable: int = 0
    """Values found in memory, here or at a peer, that the codec could not read; each was loaded again."""
    stale: int = 0
    """Values answered here after their ttl, as the options of the group allow; counted in one of the above as well."""
    unanswered: int = 0
    """Keys answered None because no node has a loader; counted in `absent` as well."""
    too_large: int = 0
    """Loaded values that were not kept: larger than `max_value`, or the entry than an eighth of `max_bytes`."""
    evictions: int = 0
    """Entries dropped to make room."""
    expirations: int = 0
    """Entries dropped after their ttl."""
    entries: int = 0
    """Entries in memory now, remembered absences and near copies included."""
    bytes: int = 0
    """Bytes of these entries and writes: keys, values and overhead."""
    near_bytes: int = 0
    """The part of `bytes` in near copies."""
    max_bytes: int = 0
    """The budget for `bytes`, with a budget of the node the share of it that this group has now."""
    remembered: int = 0
    """Recent writes remembered now, of any node. A load that began before a write of its key is not kept."""
    remembered_bytes: int = 0
    """The part of `bytes` in recent writes, at most half of `max_bytes`."""
    unremembered: int = 0
    """Writes that found the memory of recent writes full. A load that began before one of them is not kept."""

    def __init__(self, **counters: int) -> None:
        if unknown := counters.keys() - self.__annotations__.keys():
            raise TypeError(f"GroupStats has no counter {', '.join(sorted(unknown))}")
        self.__dict__.update(counters)

    def __setattr__(self, name: str, _: Any) -> NoReturn:
        raise AttributeError(f"GroupStats does not change: {name!r} cannot be set")

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, GroupStats) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().items()))

    def __repr__(self) -> str:
        return f"GroupStats({', '.join(f'{name}={value}' for name, value in self.as_dict().items())})"

    @property
    def hit_rate(self) -> float:
        """Return the share of `gets` answered from the memory of any node, absence included; 0.0 before any get."""
        if not self.gets:
            return 0.0
        return (self.hits + self.near_hits + self.peer_hits + self.absent - self.unanswered) / self.gets

    def as_dict(self) -> dict[str, int | float]:
        """Return all counters and hit_rate by name."""
        counters = {name: getattr(self, name) for name in self.__annotations__}
        return {**counters, "hit_rate": self.hit_rate}
