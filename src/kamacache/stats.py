"""What a group has done so far, in this process."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class GroupStats:
    """Counters of one group on one node, at one moment.

    Every key asked counts in `gets` and in exactly one of hits, near_hits, absent, peer_hits, joined, loads and
    peer_loads, errors included.
    """

    gets: int = 0
    """Keys asked by get, get_many and their twins."""
    hits: int = 0
    """Main copies found in this process."""
    near_hits: int = 0
    """Near copies found in this process."""
    absent: int = 0
    """Answered None by remembered absence, here or at the owner, or for want of a loader."""
    peer_hits: int = 0
    """Found in a peer's memory."""
    joined: int = 0
    """Waited for the load that another caller had begun."""
    loads: int = 0
    """Loaded here."""
    peer_loads: int = 0
    """Loaded by a peer for a caller here."""
    served: int = 0
    """Keys worked on for peers; in none of the above."""
    load_errors: int = 0
    """Loads here that raised or ran out of time."""
    writes: int = 0
    """Keys set or deleted, and clears, called here."""
    evictions: int = 0
    """Entries dropped for want of room."""
    expirations: int = 0
    """Entries dropped because their time was over."""
    entries: int = 0
    """Entries in memory now, remembered absences and near copies included."""
    bytes: int = 0
    """Bytes they take: keys, values and overhead."""
    near_bytes: int = 0
    """The part of `bytes` in near copies."""
    max_bytes: int = 0
    """The budget for `bytes`."""

    @property
    def hit_rate(self) -> float:
        """The share of `gets` answered from memory, anybody's, absence included; 0.0 before the first get."""
        if not self.gets:
            return 0.0
        return (self.hits + self.near_hits + self.peer_hits + self.absent) / self.gets

    def as_dict(self) -> dict[str, int | float]:
        """All of it, hit_rate included, by name."""
        return {**asdict(self), "hit_rate": self.hit_rate}
