"""Writes with wait=False: the cluster follows by itself, in order, from one thread per group."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from kamacache.errors import KamaCacheError
from kamacache.steps import Path, Wait, drive

if TYPE_CHECKING:
    from kamacache._engine import Store
    from kamacache.load.miss import Loading
    from kamacache.net.messages import WriteItem
    from kamacache.write.write import Writing

log = logging.getLogger("kamacache")

LIMIT = 10_000  # pending writes of a group above which a call waits
_BATCH = 1_000  # writes sent at once
_IDLE = 5.0  # seconds after which the thread ends


class _Pending:
    """A set or delete, or with no item a clear that raised the floor here."""

    __slots__ = ("end", "floor", "item")

    def __init__(self, item: WriteItem | None, floor: int = 0) -> None:
        self.item = item
        self.floor = floor
        self.end: Future[None] = Future()


class WriteBehind:
    """The pending writes of one group.

    Invariant, under `_lock`: `_queue` holds the writes not yet taken by the thread, each key in the order it was
    written; `_count` counts these and what is being sent. `_last` has for every key with a pending write the end of
    its last one, `_clear` the end of the last pending clear; all these keys are blocked in `loading`, and while there
    are any, the store's `pending` is set, so that it asks nobody by itself. A clear is in the
    queue as its floor: it was applied here before, and its version keeps older values out.
    """

    def __init__(self, name: str, store: Store, loading: Loading, writing: Writing) -> None:
        self._name = name
        self._store = store
        self._loading = loading
        self._writing = writing
        self._lock = threading.Condition()
        self._queue: deque[_Pending] = deque()
        self._last: dict[str, Future[None]] = {}
        self._clear: Future[None] | None = None
        self._count = 0
        self._room: Future[None] | None = None
        self._running = False
        self._closed = False

    def submit(self, items: Sequence[WriteItem]) -> Path[None]:
        """Take these writes on; waits while there are too many."""
        yield from self._wait_for_room()
        keys = [item.key for item in items]
        pending = [_Pending(item) for item in items]
        with self._lock:
            self._store.pending = True
            self._loading.block(keys)
            for key in keys:
                self._store.drop(key)
            self._last.update((key, write.end) for key, write in zip(keys, pending, strict=True))
            self._add(pending)

    def submit_clear(self, floor: int) -> None:
        """Have the others told of a clear."""
        pending = _Pending(None, floor)
        with self._lock:
            self._store.pending = True
            self._clear = pending.end
            self._add([pending])

    def settled(self) -> Path[None]:
        """Wait for the end of all that is pending now: a clear comes after it."""
        with self._lock:
            ends = [*self._last.values(), *([self._clear] if self._clear else [])]
        for end in ends:
            yield Wait(end)

    def pending(self, keys: Iterable[str]) -> list[Future[None]]:
        """The ends of the writes of these keys that are pending now."""
        if not self._count:
            return []
        with self._lock:
            return [self._last[key] for key in keys if key in self._last] + ([self._clear] if self._clear else [])

    def flush(self, deadline: float) -> bool:
        """Wait until all is sent, or time.monotonic() is at `deadline`."""
        with self._lock:
            while self._count:
                left = deadline - time.monotonic()
                if left <= 0 or not self._running:
                    return False
                self._lock.wait(left)
        return True

    def close(self) -> None:
        """Let the thread end as soon as all is sent."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _wait_for_room(self) -> Path[None]:
        while True:
            with self._lock:
                if self._count <= LIMIT:
                    return
                if self._room is None:
                    self._room = Future()
                room = self._room
            yield Wait(room)

    def _add(self, pending: Sequence[_Pending]) -> None:
        self._queue.extend(pending)
        self._count += len(pending)
        if not self._running:
            self._running = True
            threading.Thread(target=self._run, name=f"kamacache-writes-{self._name}", daemon=True).start()
        self._lock.notify_all()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue and not self._closed:
                    self._lock.wait(_IDLE)
                if not self._queue:
                    self._running = False
                    return
                batch = self._take()
            try:
                self._send(batch)
            except KamaCacheError as error:
                log.warning("%d writes of %r were not sent: %s", len(batch), self._name, error)
            except Exception:
                log.exception("%d writes of %r were not sent", len(batch), self._name)
            finally:
                self._ended(batch)

    def _take(self) -> list[_Pending]:
        """The next writes that may go together: no key twice, a clear alone."""
        batch: list[_Pending] = []
        keys: set[str] = set()
        while self._queue and len(batch) < _BATCH:
            item = self._queue[0].item
            if item is None:
                return batch or [self._queue.popleft()]
            if item.key in keys:
                break
            keys.add(item.key)
            batch.append(self._queue.popleft())
        return batch

    def _send(self, batch: list[_Pending]) -> None:
        items = [write.item for write in batch if write.item is not None]
        drive(self._writing.write(items) if items else self._writing.clear(batch[0].floor))

    def _ended(self, batch: list[_Pending]) -> None:
        self._loading.unblock([write.item.key for write in batch if write.item is not None])
        with self._lock:
            for write in batch:
                if write.item is None:
                    self._clear = None if self._clear is write.end else self._clear
                elif self._last.get(write.item.key) is write.end:
                    del self._last[write.item.key]
            self._count -= len(batch)
            self._store.pending = self._count > 0
            room, self._room = self._room, None
            self._lock.notify_all()
        for write in batch:
            write.end.set_result(None)
        if room is not None:
            room.set_result(None)
