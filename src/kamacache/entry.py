"""The results of get_entry and remove."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Entry(NamedTuple, Generic[V]):
    """A value in memory, and what is known of it.

    - `value`: what get returns.
    - `age`: seconds since it was loaded or set where it is, to 16 ms.
    - `ttl`: seconds left; math.inf: it never expires.
    - `stale`: whether its ttl is over: the options of the group may allow it as an answer.
    - `version`: what set and remove take as `if_version`. It changes with every write of the key.
    - `source`: "main", the main copy in this node's memory; "near", a short-lived copy here; "owner", the owner's copy.
    """

    value: V
    age: float
    ttl: float
    stale: bool
    version: int
    source: str


class Removed(NamedTuple):
    """The result of remove: whether the key `existed`, and whether every node has `confirmed`.

    If a member stands in for an owner that does not answer, `existed` says what that member has, and `confirmed` is
    False.
    """

    existed: bool
    confirmed: bool
