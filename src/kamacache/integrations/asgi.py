"""Keep whole HTTP responses, for FastAPI, Starlette and every other ASGI application; and a lifespan for its node.

app = FastAPI(lifespan=lifespan(node))
app.add_middleware(ResponseCache, node=node, routes={"/products/": "10m"})

The first request that finds nothing kept has the application answer in a task (_Run). Its messages go on to the client
as they come, while a copy is made, which is kept once the response has come to its end. Others wait for that.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from kamacache import ConfigError, KamaCacheError, Node, Value
from kamacache._engine import MISSING
from kamacache.integrations.response import TAGS, Headers, Message, Response, Send
from kamacache.units import Duration, parse_duration

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_LONGEST = 8_192  # characters of a key
_PATIENCE = 5.0  # seconds from the beginning of a stream to its end, for which others wait for it
_FAILED = 500  # the least status that says so
# Headers of a request whose response belongs to one user, or is a part of one, or depends on what is sent or there.
_OWN = {b"authorization", b"cookie", b"range", b"if-match", b"if-unmodified-since", b"transfer-encoding"}
_CONDITIONS = {b"if-none-match", b"if-modified-since"}


def lifespan(node: Node, inner: Lifespan | None = None) -> Lifespan:
    """Return a lifespan that starts a node before the first request and closes it after the last.

    - `inner`: a lifespan of the application's own. It begins after the node has joined, and ends before it is closed.
    """

    @asynccontextmanager
    async def both(app: Any) -> AsyncIterator[Any]:
        async with node:
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state

    return both


class ResponseCache:
    """Answer GET requests below some paths with responses that one request in the cluster has made.

    - `node`: whose group `group` has the responses. The key of one is its scheme, host, path and query.
    - `routes`: how long responses are kept, by the beginning of the path below the application's `root_path`. The
      longest one that matches holds.
    - `vary`: names of request headers whose values are part of the key, such as "accept-language".
    - `options`: options of node.group, such as max_bytes and stale_while_revalidate.

    Kept are responses with status 200, without Set-Cookie, and without `no-store`, `no-cache` or `private` in
    Cache-Control; `s-maxage` or `max-age` there says for how long, or Expires. One that varies by another header than
    those of `vary` is not kept, nor one that is larger than a value may be, a stream of events or of more than five
    seconds, or what ended early. Requests with Cookie, Authorization, Range or a body are neither answered from here
    nor kept; Cache-Control of a request has no effect. Answers have an ETag, Age and Cache-Control; a request with a
    matching If-None-Match or If-Modified-Since gets 304. The header Cache-Tag of a response, with commas, is its tags:
    `node.adelete_tag` drops it everywhere.

    The client that asks first is answered as without this: at once, piece by piece, and with the error if there is one.
    Others that ask for the same wait for its response. If that cannot be kept, each has the application answer it. An
    exception, and a status from 500 on, counts as a failed load: see stale_if_error and error_ttl.
    """

    def __init__(
        self,
        app: App,
        /,
        *,
        node: Node,
        routes: Mapping[str, Duration],
        vary: Iterable[str] = (),
        group: str = "responses",
        **options: Any,
    ) -> None:
        if isinstance(vary, str):
            raise ConfigError(f"vary={vary!r}: must be a list of names")
        self._app = app
        lifetimes = ((path, parse_duration(ttl, name=f"routes[{path!r}]")) for path, ttl in routes.items())
        self._routes = sorted(lifetimes, key=lambda route: -len(route[0]))
        self._vary = sorted(name.lower().encode() for name in vary)
        self.group = node.group(group, codec="bytes", **options)
        core = self.group._core  # noqa: SLF001 - the limits of the group
        self._most = min(core.runtime.max_value, core.options.max_bytes // 8)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        ttl = next((ttl for start, ttl in self._routes if path.startswith(start)), None)
        if ttl is None:
            await self._app(scope, receive, send)
            return
        send, asked = _hiding(send), _headers(scope)
        own = scope["method"] != "GET" or not _OWN.isdisjoint(asked) or asked.get(b"content-length", b"0") != b"0"
        if own or len(key := self._key(scope, asked)) > _LONGEST:
            await self._app(scope, receive, send)
            return
        run = _Run(self._app, scope, receive, send, asked=asked, ttl=ttl, vary=self._vary, most=self._most)

        async def load(_: str) -> Value[Any]:
            response = await run.response(self._tasks)
            if response is None:
                return Value(MISSING, ttl=0)  # which also drops an older one
            return Value(response.encoded(), ttl=response.ttl, tags=response.tags())

        try:
            kept = await self.group.aget_or_load(key, load)
        except KamaCacheError:
            kept = None
        except BaseException:
            run.cancel()
            raise
        if run.taken or (kept is None and run.task is not None):
            await run.end()
        elif kept is None:  # the response of another request is not for this one, or did not come
            await self._app(scope, receive, send)
        else:
            run.answered = True
            await Response.decoded(kept).answering(asked).send(send)

    def _key(self, scope: Scope, asked: Mapping[bytes, bytes]) -> str:
        site = scope.get("scheme", "http"), asked.get(b"host", b"").lower().decode("latin-1")
        varied = (asked.get(name, b"").decode("latin-1") for name in self._vary)
        return json.dumps([*site, scope["path"], scope["query_string"].decode("latin-1"), *varied])


class _Failed(Exception):
    """The application has not answered."""


class _Run:
    """One answer of the application, on its way to a client and to the cache.

    The client is `taken` once it gets something of this answer, and `answered` if it got an older one, while this one
    is made for the cache alone. It is never both.
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
        if self.answered and not task.cancelled():
            task.exception()  # as no other code asks for it; the group has logged that a load failed

    async def end(self) -> None:
        """Wait until the application has done all that it does after its answer, and raise what it raises."""
        if self.task is not None:
            await self.task  # which is cancelled with its caller

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
            self._fail(_Failed())
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


def _hiding(send: Send) -> Send:
    """Return what sends all but the tags."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Headers = [one for one in message.get("headers", ()) if bytes(one[0]).lower() != TAGS]
            message = {**message, "headers": headers}
        await send(message)

    return sent


def _headers(scope: Scope) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for given, value in scope["headers"]:
        name = bytes(given).lower()
        headers[name] = headers[name] + b"," + value if name in headers else bytes(value)
    return headers
