"""Writes with wait=False: the cluster follows by itself, in order, from one thread per group."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache._engine import TAG, PendingWrite, Promise
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError
from kamacache.log import log
from kamacache.steps import Path, Wait, drive

if TYPE_CHECKING:
    from kamacache._engine import Store
    from kamacache.net.messages import WriteItem
    from kamacache.runtime import Runtime
    from kamacache.write.drops import Drops
    from kamacache.write.write import Writes

LIMIT = 10_000  # pending writes of a group above which a call waits
_BATCH = 1_000  # writes sent at once
_IDLE = 5.0  # seconds after which the thread ends
_PATIENCE = 60.0  # seconds for which a call waits for one write to be sent


class _Pending:
    """A set or delete, or with no item a clear that raised the floor here."""

    __slots__ = ("end", "floor", "item", "mark")

    def __init__(self, item: WriteItem | None, floor: int = 0, mark: PendingWrite | None = None) -> None:
        self.item = item
        self.floor = floor
        self.mark = mark  # in the store
        self.end = Promise()

    @property
    def names(self) -> tuple[str | None, ...]:
        """Return the key, and for the delete of a tag what stands for all of these."""
        key = None if self.item is None else self.item.key
        return (key, TAG) if key is not None and key.startswith(TAG) else (key,)


class WriteBehind:
    """The pending writes of one group.

    Invariant: a write is pending exactly while it is in `_queue` or `_sending`; callers add to `_queue` in a single
    step, the thread alone takes from both. The store has noted every pending set and delete (see `_noted`): it keeps
    and joins no load of such a key, so that this node's gets wait for it. `_last` has the last pending write of each
    key, under `_lock`. While any is pending, the store's `pending` is set, so that it asks no owner by itself.
    """

    def __init__(self, name: str, store: Store, writes: Writes, drops: Drops, runtime: Runtime) -> None:
        self._name = name
        self._store = store
        self._writes = writes
        self._drops = drops
        self._runtime = runtime
        self._lock = threading.RLock()
        self._queue: deque[_Pending] = deque()
        self._sending: list[_Pending] = []
        self._last: dict[str | None, _Pending] = {}  # None: the last clear; TAG: the last delete of any tag
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ident = 0  # of the thread
        self._closed = False

    def submit(self, items: Sequence[WriteItem]) -> Path[None]:
        """Take these writes on; waits while there are too many."""
        while self._count() > LIMIT and not self._is_here():
            for write in self._sending[:1] or list(self._queue)[:1]:
                yield Wait(write.end, Deadline.after(_PATIENCE))
        self._add([self._noted(item) for item in items])

    def _noted(self, item: WriteItem) -> _Pending:
        """Drop what is here, refuse what is older, and have the owner give the write a version above that."""
        mark = PendingWrite(self._store, item.key)
        version = self._runtime.hlc.next(max(item.above, self._store.known(item.key)))
        self._store.note(item.key, version)
        return _Pending(item._replace(above=version), mark=mark)

    def submit_clear(self, floor: int) -> None:
        """Have the others told of a clear."""
        self._add([_Pending(None, floor)])

    def settled(self) -> Path[None]:
        """Wait for the end of all that is pending now: a clear comes after it."""
        pending = [*self._sending, *self._queue]
        if pending and not self._is_here():
            self._ensure_thread()
            yield Wait(pending[-1].end, Deadline.after(_PATIENCE))

    def _is_here(self) -> bool:
        """Return whether this is the thread that sends: a finaliser on it cannot wait for what it sends itself."""
        return self._ident == threading.get_ident()

    def pending(self, keys: Iterable[str]) -> list[Promise]:
        """Return the ends of the writes of these keys that are pending now, of a tag: of all, as each may have it."""
        if not self._count() or self._is_here():
            return []
        self._ensure_thread()
        with self._lock:
            names: list[str | None] = [*keys, None]
            if any(key is not None and key.startswith(TAG) for key in names):
                names = list(self._last)
            return [self._last[name].end for name in (*names, TAG) if name in self._last]

    def flush(self, deadline: Deadline) -> bool:
        """Wait until all is sent. Return False if the deadline passes first."""
        with suppress(TimeoutError):
            drive(self._flushed(deadline))
        return not self._count()

    def _flushed(self, deadline: Deadline) -> Path[None]:
        while pending := [*self._sending, *self._queue]:
            self._ensure_thread()
            yield Wait(pending[-1].end, deadline)

    def close(self) -> None:
        """Let the thread end as soon as all is sent."""
        self._closed = True
        self._wake.put(None)

    def _count(self) -> int:
        return len(self._queue) + len(self._sending)

    def _add(self, pending: list[_Pending]) -> None:
        last = {name: write for write in pending for name in write.names}
        with self._lock:
            self._store.pending = True
            self._queue.extend(pending)
            self._last.update(last)
        self._ensure_thread()

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = thread.start(f"kamacache-writes-{self._name}", self._run)
        self._wake.put(None)

    # -- on the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._ident = threading.get_ident()
        while True:
            if not self._queue:
                try:
                    self._wake.get(timeout=0 if self._closed else _IDLE)
                except queue.Empty:
                    with self._lock:
                        if not self._queue:
                            self._thread = None
                            self._ident = 0  # another thread may get the same
                            return
                continue
            self._take()
            try:
                self._send()
            except KamaCacheError as error:
                text = "%(count)s writes of %(group)r were not sent: %(error)s"
                log.warning(text, count=len(self._sending), group=self._name, error=error)
            except Exception:
                text = "%(count)s writes of %(group)r were not sent"
                log.exception(text, count=len(self._sending), group=self._name)
            self._ended()

    def _take(self) -> None:
        """Take the next writes that may go together: no key twice, a clear or a tag's delete alone."""
        keys: set[str] = set()
        while self._queue and len(self._sending) < _BATCH:
            item = self._queue[0].item
            alone = item is None or item.key.startswith(TAG)
            if (alone and self._sending) or (item is not None and item.key in keys):
                return
            self._sending.append(self._queue[0])
            self._queue.popleft()
            if alone or item is None:
                return
            keys.add(item.key)

    def _send(self) -> None:
        items = [write.item for write in self._sending if write.item is not None]
        drive(self._writes.write(items) if items else self._drops.clear(self._sending[0].floor))

    def _ended(self) -> None:
        batch, self._sending = self._sending, []
        with self._lock:
            for write in batch:
                for name in write.names:
                    if self._last.get(name) is write:
                        del self._last[name]
            self._store.pending = bool(self._count())
        for write in batch:
            if write.mark is not None:
                write.mark.settle()
            write.end.set_result(None)
