"""A backend for regions of dogpile.cache, by the name "kamacache": its processes share one cache, and one mutex a key.

region = make_region().configure("kamacache", expiration_time=600, arguments={"place": "local://"})
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dogpile.cache.api import NO_VALUE, BytesBackend, CacheMutex, KeyType, SerializedReturnType

from kamacache import Conflict, Entry, Group, LockTaken, Node, PeerError, ValueTooLarge
from kamacache.deadline import Deadline
from kamacache.group.lock import Lock
from kamacache.integrations.place import GROUP, NODE, kept, placed
from kamacache.log import log
from kamacache.units import parse_duration

_HALF = 1 << 63  # makes the identity of a node an integer of 64 bits, which every codec reads
_PATIENCE = 1.0  # seconds that a waiter waits before it looks whether the holder of the lock lives


class KamaCacheBackend(BytesBackend):
    """The entries of a region in a group of a node.

    Arguments, beside options of Node and of node.group by name:

    - `place`: a registry, or "none" for a node alone ("local://"); KAMACACHE_REGISTRY wins.
    - `group`: the name of the group ("dogpile"), and `node`, the dotted name of a node of the application.
    - `ttl`: how long an entry stays at most, a duration; None: until it is evicted. Make it longer than
      expiration_time, after which dogpile still answers an old value while another caller makes a new one.
    - `distributed_lock`: whether one process in the cluster creates a value, and not each (True).
    - `lock_timeout`: how long a creator may take at most before another one begins ("60s"), and `lock_wait`, how long a
      caller without any value waits for others ("10m").
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        given = dict(arguments)
        place = given.pop("place", "local://")
        self._distributed = given.pop("distributed_lock", True)
        self._lease = given.pop("lock_timeout", "60s")
        self._wait = parse_duration(given.pop("lock_wait", "10m"), name="lock_wait")
        if unknown := given.keys() - NODE - GROUP - {"group", "node", "ttl"}:  # every backend of dogpile takes any
            text = "a region of dogpile.cache has arguments that are unknown here: %(arguments)s"
            log.warning(text, arguments=", ".join(sorted(unknown)))
        known = {name: value for name, value in given.items() if name not in unknown}
        defaults = {"service": "dogpile", "group": "dogpile", "codec": "bytes", "ttl": None}
        self._node, self.group = placed(place, known, **defaults)

    def get_mutex(self, key: KeyType) -> CacheMutex | None:
        """Return the lock of a key: an entry of the same group, that its owner adds and removes."""
        return Mutex(self._node, self.group, f"\x01lock:{key}", self._lease, self._wait) if self._distributed else None

    def get_serialized(self, key: KeyType) -> SerializedReturnType:
        found = self.group.get(key)
        return NO_VALUE if found is None else found

    def get_serialized_multi(self, keys: Iterable[KeyType]) -> Sequence[SerializedReturnType]:
        asked = list(keys)
        found = self.group.get_many(asked)
        return [found.get(key, NO_VALUE) for key in asked]

    def set_serialized(self, key: KeyType, value: bytes) -> None:
        """Set a value. One that is too large is logged, and the key has none then."""
        kept(self.group, key, value, of="dogpile.cache")

    def set_serialized_multi(self, mapping: Mapping[KeyType, bytes]) -> None:
        try:
            self.group.set_many(mapping)
        except ValueTooLarge:
            for key, value in mapping.items():
                self.set_serialized(key, value)

    def delete(self, key: KeyType) -> None:
        self.group.delete(key)

    def delete_multi(self, keys: Iterable[KeyType]) -> None:
        self.group.delete_many(keys)


class Mutex(CacheMutex):
    """The lock of one key, for any thread. It excludes others while the members agree on the owner of the key.

    A value that is made twice is better than none: if the owner does not answer, a creator runs without the lock, and a
    waiter takes the lock of a node that is gone.
    """

    def __init__(self, node: Node, group: Group[bytes], key: str, lease: Any, wait: float) -> None:
        self._node = node
        self._group = group
        self._key = key
        self._lease = lease
        self._wait = wait
        self._held: deque[Lock | None] = deque()  # None stands for a creator without the lock, and is released first

    def acquire(self, wait: bool = True) -> bool:
        until = Deadline.after(self._wait if wait else 0.0)
        try:
            while (lock := self._taken(until)) is None:
                if until.passed:
                    return False
                self._release_of_the_dead()
        except PeerError as error:
            log.warning("a value for dogpile.cache is made without its lock: %(error)s", error=error)
            self._held.appendleft(None)
        else:
            self._held.append(lock)
        return True

    def _taken(self, until: Deadline) -> Lock | None:
        """Return the lock once it is ours; None if others have it all the time, for a second at most."""
        lock = self._group.lock(self._key, self._lease, min(until.left(), _PATIENCE))
        lock.mark = int(self._node.id, 16) - _HALF
        try:
            return lock.__enter__()
        except LockTaken:
            return None

    def _release_of_the_dead(self) -> None:
        """Remove the lock if the node that has it is no member any more, or is considered dead."""
        entry: Entry[Any] | None = self._group.get_entry(self._key)
        members = self._node.members()
        if entry is None or not all(member.protocol for member in members):  # one that has not answered may have it
            return
        if f"{entry.value + _HALF:016x}" not in {member.id for member in members}:
            with suppress(Conflict):
                self._group.remove(self._key, if_version=entry.version)

    def release(self) -> None:
        lock = self._held.popleft() if self._held else None
        if lock is not None:
            lock.__exit__(None, None, None)

    def locked(self) -> bool:
        return self._group.contains(self._key)
