"""Hits of a whole store with values of one size, beside those of its policy in one shard of the same capacity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamacache._engine import MISSING, Clock, PolicyRun, Store


def store_of(
    policy: str, max_bytes: int, decode: Callable[[bytes], Any] | None = None, *, keep_evicted: bool = False
) -> Store:
    return Store(
        "sizes",
        max_bytes=max_bytes,
        policy=policy,
        clock=Clock(manual=True),
        near_ttl=5.0,
        remember=10.0,
        decode=decode,
        shareable=True,
        keep_evicted=keep_evicted,
    )


def hits(policy: str, keys: list[int], size: int, max_bytes: int) -> tuple[int, int]:
    """Return the hits of a store, and of the policy alone. All keys share one value, so that memory is no matter."""
    store, value, found = store_of(policy, max_bytes), bytes(size), 0
    for number in keys:
        key = f"{number:08}"
        if store.lookup(key) is MISSING:
            store.put(key, value, 1, None, Store.MAIN)
        else:
            found += 1
    stats = store.stats()
    weight = stats["bytes"] // stats["entries"]
    return found, PolicyRun(policy, max_bytes // weight).run(keys)
