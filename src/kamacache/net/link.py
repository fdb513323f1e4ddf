"""A connection from an event loop to a peer's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kamacache._engine import Promise
from kamacache.errors import PeerError
from kamacache.net.lane import PEEK_TIMEOUT

if TYPE_CHECKING:
    import asyncio

    from kamacache._engine import Pipeline, Transport
    from kamacache.errors import KamaCacheError
    from kamacache.net.lane import Found, Look

_WHOLE = 1.0  # seconds until an answer is whole, however steadily its bytes come
_HELD_UP = 0.05  # seconds by which a timer is late if its loop, not the peer, stood still


class Link:
    """One pipelined connection to a peer's memory. It belongs to one event loop and is used on its thread alone.

    The requests of one turn of the loop are written together; answers come in order. A task that awaits a Question is
    continued when the answer is read, and what it asks next is written with what the other tasks of the turn ask.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport, address: str, *, guarded: bool) -> None:
        self.address = address
        self.closed = False
        self.connected = Promise()  # of a Pipeline
        self.pipeline: Pipeline | None = None  # while it takes questions
        self._loop = loop
        self._guarded = guarded
        self._blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self.connected.wake(lambda: loop.call_soon_threadsafe(self._open))
        transport.connect(self.connected, address)

    def _open(self) -> None:
        if self.connected.exception() is not None:
            self.closed = True
        elif not self.closed and self.pipeline is None:
            pipeline: Pipeline = self.connected.result()
            self._fd = pipeline.fileno()
            self._loop.add_reader(self._fd, self._readable)
            self.pipeline = pipeline

    def ask(self, group: str, keys: list[str], look: Look) -> asyncio.Future[list[Found | None]]:
        """Return a future of the answers, once `connected` has ended. It fails with PeerError if none comes in time."""
        if self.pipeline is None:
            self._open()  # the waker calls it a turn later than a task finds it connected
        if self.pipeline is None:
            raise PeerError(f"the connection to {self.address} was closed")
        future: asyncio.Future[list[Found | None]] = self._loop.create_future()
        self.prepare(look.timeout)
        self.pipeline.ask(future, group, keys, look)
        return future

    def prepare(self, timeout: float = PEEK_TIMEOUT) -> None:
        """Have a question that comes next sent and watched.

        Each step is done before it is noted, and the question comes last. So an interrupt in between leaves at most a
        needless flush or timer, and never a question that is not sent or not watched.
        """
        if self._timer is None:
            self._wait(timeout)
        if self.pipeline is not None and not self.pipeline.flushing:
            self._loop.call_soon(self._flush)
            self.pipeline.flushing = True

    def _wait(self, silence: float, left: float | None = None) -> None:
        due = self._loop.time() + (silence if left is None else left)
        self._timer = self._loop.call_at(due, self._late, silence, due)

    def _flush(self) -> None:
        if self.pipeline is None:
            return
        try:
            self._flushed(self.pipeline.flush())
        except PeerError as error:
            self._fail(error)

    def _flushed(self, done: bool) -> None:
        if not done and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._fd, self._flush)
        elif done and self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        if self.pipeline is None:
            return
        try:
            answers = self.pipeline.receive()
            for future, found in answers:
                if not future.done():
                    if isinstance(found, Exception):
                        future.set_exception(found)
                    else:
                        future.set_result(found)
            self._flushed(self.pipeline.resume())  # also a handshake, or what waited for its end
        except PeerError as error:
            self._fail(error)
        else:
            if self._timer is not None and self.pipeline.patience(PEEK_TIMEOUT, _WHOLE) is None:
                self._timer.cancel()
                self._timer = None

    def _late(self, silence: float, due: float) -> None:
        """Fail if the peer was silent for too long. A loop that was held up itself reads first, and waits once more."""
        held_up = self._loop.time() - due > _HELD_UP
        self._wait(silence)  # an interrupt may end a task that continues now, and with it this
        self._readable()
        if self._timer is None or self.pipeline is None:
            return
        left = self.pipeline.patience(silence, _WHOLE)
        if left == 0 and not held_up:
            self._fail(PeerError(f"{self.address} did not answer within {silence * 1000:.0f} ms"))
        elif left and not held_up:
            self._timer.cancel()
            self._wait(silence, left)

    def _fail(self, error: KamaCacheError) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.pipeline is None:
            return
        pipeline, self.pipeline = self.pipeline, None
        self._loop.remove_reader(self._fd)
        if self._blocked:
            self._loop.remove_writer(self._fd)
        for future in pipeline.close(error):
            if not future.done():
                future.set_exception(error)

    def close_soon(self, error: KamaCacheError | None = None) -> None:
        """Close from any thread. What waits fails with this error."""
        try:
            error = error or PeerError(f"the connection to {self.address} was closed")
            self._loop.call_soon_threadsafe(self._fail, error)
        except RuntimeError:  # the loop is closed, and its tasks with it
            self.closed = True
            pipeline, self.pipeline = self.pipeline, None
            if pipeline is not None:
                pipeline.close()
