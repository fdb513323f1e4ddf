"""One run of an application for one request: what it answers goes to the client and to the cache."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping

from kamacache.integrations.response import App, Message, Receive, Response, Scope, Send

_PATIENCE = 5.0  # seconds from the beginning of a stream to its end, for which others wait for it
_FAILED = 500  # the least status that says so
_CONDITIONS = {b"if-none-match", b"if-modified-since"}


class _Failed(Exception):
    """The application has not answered."""


class Run:
    """One answer of the application, on its way to a client and to the cache.

    The client is `taken` once it gets something of this answer, and `answered` if it got an older one, while this one
    is made for the cache alone. It is never both. An answer that says of a failure waits until it is known which.
    """

    def __init__(
        self,
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        asked: Mapping[bytes, bytes],
        ttl: float,
        vary: list[bytes],
        most: int,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self.taken = self.answered = False
        self._app = app
        self._scope = scope
        self._asked = asked
        self._cancelled = False
        self._decided = asyncio.Event()  # whether the client gets this answer or an older one
        self._timer: asyncio.TimerHandle | None = None
        self._receiving = receive
        self._sending = send
        self._ttl = ttl
        self._vary = vary
        self._most = most  # bytes of a body that is kept
        self._start: Message | None = None  # until it is sent
        self._begun = Response(0, [])
        self._body: list[bytes] | None = None  # None: it is not kept
        self._size = 0

    async def response(self, tasks: set[asyncio.Task[None]]) -> Response | None:
        """Have the application answer, and return the response once it is whole, or None if it is not to be kept.

        Raises _Failed, and the error of the application.
        """
        if self.task is not None or self._cancelled:
            raise _Failed
        self._whole: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run())
        tasks.add(self.task)  # the loop itself would lose it
        self.task.add_done_callback(lambda task: self._over(task, tasks))
        try:
            return await self._whole
        except asyncio.CancelledError:  # it took too long, or the node is closed
            self._body = None
            if self.answered:
                self.cancel()
            raise

    def _over(self, task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.discard(task)
        self._retrieve()

    def _retrieve(self) -> None:
        """Look at the error of an answer for the cache alone. The group has logged it, and no other code asks."""
        if self.answered and self.task is not None and self.task.done() and not self.task.cancelled():
            self.task.exception()

    async def end(self) -> None:
        """Give the client this answer. Wait until the application has done all that it does, and raise its error."""
        self._decided.set()
        if self.task is not None:
            await self.task  # which is cancelled with its caller

    def replace(self) -> None:
        """Take note that the client gets an older answer, so that this one is made for the cache alone."""
        self.answered = True
        self._decided.set()
        self._retrieve()

    def cancel(self) -> None:
        """Stop the application, as its client is gone, or have it not begin."""
        self._cancelled = True
        if self.task is not None:
            self.task.cancel()

    async def _run(self) -> None:
        # Without extensions it answers in messages that are understood here, and without conditions with all of it.
        headers = [one for one in self._scope["headers"] if bytes(one[0]).lower() not in _CONDITIONS]
        try:
            await self._app({**self._scope, "extensions": {}, "headers": headers}, self._receive, self._send)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._fail(_Failed())  # if it has ended too early
            if self._timer is not None:
                self._timer.cancel()

    async def _receive(self) -> Message:
        message = await self._receiving()
        if message["type"] == "http.disconnect" and self.answered:
            await asyncio.Event().wait()  # the client that is gone had its answer: this one is for others
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._go_on(message)
        else:
            await self._pass(message)

    async def _begin(self, message: Message) -> None:
        self._begun, self._start = Response.started(message), message
        ttl, length = self._begun.lifetime(self._ttl, self._vary), self._begun.said(b"content-length")
        if self._begun.status >= _FAILED:
            self._fail(_Failed(f"the application has answered {self._begun.status}"))
            await self._decided.wait()
        elif ttl is None or (length.isdigit() and int(length) > self._most):
            self._leave()
        else:
            self._body, self._ttl = [], ttl
        if self._body is None or not length:
            await self._pass_start()  # else the first piece of the body is most often all of it

    async def _pass_start(self) -> None:
        message, self._start = self._start, None
        if message is None:
            return
        if self._body is not None:
            self._begun = self._begun.kept(self._ttl, self._vary, b'"%s"' % secrets.token_hex(16).encode())
            message = {**message, "headers": self._begun.headers}
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._leave)  # its client may read slowly
        await self._pass(message)

    async def _go_on(self, message: Message) -> None:
        piece, more = bytes(message.get("body", b"")), message.get("more_body", False)
        if self._start is not None and not more:
            whole = self._begun._replace(body=piece).kept(self._ttl, self._vary)
            self._done(whole)
            await whole.answering(self._asked).send(self._pass)
            return
        await self._pass_start()
        if self._body is not None:
            self._body.append(piece)
            self._size += len(piece)
            if self._size > self._most:
                self._leave()
            elif not more:
                self._done(self._begun._replace(body=b"".join(self._body)))
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if not self.answered:
            self.taken = True
            await self._sending(message)

    def _done(self, whole: Response) -> None:
        length = whole.said(b"content-length")
        if length and length != b"%d" % len(whole.body):
            self._fail(_Failed())
        elif not self._whole.done():
            self._whole.set_result(whole)

    def _leave(self) -> None:
        """Keep nothing of this response."""
        self._body = None
        if not self._whole.done():
            self._whole.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._body = None
        if not self._whole.done():
            self._whole.set_exception(error)
