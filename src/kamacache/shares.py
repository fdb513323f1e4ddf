"""Divide the memory of a node among its groups, by what each lacks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kamacache._engine import Budget

if TYPE_CHECKING:
    from kamacache._engine import Store

_STEP = 16  # a sweep moves this part of the memory at most
_LEAST = 8  # a group that lacks nothing keeps this part of an equal share at least


class _Share:
    """The memory that one group may use: `now` bytes, and `most` by its own options."""

    def __init__(self, store: Store, most: int) -> None:
        self.budget = Budget(store)
        self.most = most
        self.now = self.budget.limit(0)


class Shares:
    """The budgets of a node's groups, if the node has one, `total`.

    A group lacks the bytes of entries that were loaded again soon after they had been evicted. Each group gives the
    same part of its budget, and what was given is divided by what they lack. So memory goes from groups whose evicted
    keys are not asked for again to those whose keys are, as in Cliffhanger (Cidon et al., NSDI 2016).

    Invariant: the budgets sum up to `total` at most, under `_lock`. Each store keeps to its own at all times.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self.forget()
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """Take a new lock: a thread of the parent may hold the old one."""
        self._lock = threading.RLock()  # it may be held where values are dropped, which run code of the user's

    def forget(self) -> None:
        """Begin without groups: in a new life of the node they have new stores."""
        self._shares: dict[str, _Share] = {}

    def add(self, store: Store, most: int) -> None:
        """Give each group an equal share, as nothing is known of the use of a new one."""
        if self._total is not None:
            with self._lock:
                self._shares[store.name] = _Share(store, most)
                self._level(self._total)

    def remove(self, name: str) -> None:
        """Give the share of a closed group to the others."""
        if self._total is not None:
            with self._lock:
                self._shares.pop(name, None)
                self._level(self._total)

    def _level(self, left: int) -> None:
        wanted = {}
        for number, (name, share) in enumerate(sorted(self._shares.items(), key=lambda item: item[1].most)):
            wanted[name] = min(share.most, left // (len(self._shares) - number))
            left -= wanted[name]
        self._set(wanted)

    def divide(self) -> None:
        """Move memory to the groups that lack some. The sweeper calls this."""
        total = self._total
        if total is None:
            return
        with self._lock:
            lacks = {name: share.budget.returned() for name, share in self._shares.items()}
            lacking, held = sum(lacks.values()), self._held()
            if not lacking:
                return
            moved = min(lacking, total // _STEP)
            given = max(0, moved - (total - held))  # what nobody has goes first
            least = total // len(self._shares) // _LEAST
            wanted = {}
            for name, share in self._shares.items():
                rest = share.now - given * share.now // held
                wanted[name] = min(share.most, max(rest, min(least, share.now)) + moved * lacks[name] // lacking)
            self._set(wanted)

    def _held(self) -> int:
        return sum(share.now for share in self._shares.values())

    def _set(self, wanted: Mapping[str, int]) -> None:
        """Lower budgets, then raise others by what is free then."""
        for name, share in self._shares.items():
            if wanted[name] < share.now:
                share.now = share.budget.limit(wanted[name])
        free = (self._total or 0) - self._held()
        for name, share in self._shares.items():
            if (more := min(wanted[name] - share.now, free)) > 0:
                free -= more
                share.now = share.budget.limit(share.now + more)
