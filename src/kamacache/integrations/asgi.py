"""Keep whole HTTP responses, for FastAPI, Starlette and every other ASGI application; and a lifespan for its node.

app = FastAPI(lifespan=lifespan(node))
app.add_middleware(ResponseCache, node=node, routes={"/products/": "10m"})

Each request that finds nothing kept has the application answer in a task (Run). Its messages go on to the client as
they come, while a copy is made, which is kept once the response has come to its end.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from kamacache import LoadError, Node, Overloaded, PeerError, Value
from kamacache.integrations.response import TAGS, Headers, Message, Response, Send
from kamacache.units import Duration, parse_duration

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_LONGEST = 8_192  # characters of a key
# Headers of a request whose response belongs to one user, or is a part of one, or depends on what is there.
_OWN = {b"authorization", b"cookie", b"range", b"if-match", b"if-unmodified-since"}


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
    those of `vary` is not kept, nor one that is larger than a value may be, a stream of events, or what ended early.
    Requests with Cookie, Authorization or Range are neither answered from here nor kept; Cache-Control of a request has
    no effect. Answers have an ETag, Age and Cache-Control; a request with a matching If-None-Match or If-Modified-Since
    gets 304. The header Cache-Tag of a response, with commas, is its tags: `node.adelete_tag` drops it everywhere.

    The client that asks first is answered as without this: at once, piece by piece, and with the error if there is one.
    Others that ask for the same wait for its response. If that cannot be kept, each has the application answer it.
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
        send, asked = _hiding(send), _headers(scope)
        ttl = self._ttl(scope, asked)
        if ttl is None or len(key := self._key(scope, asked)) > _LONGEST:
            await self._app(scope, receive, send)
            return
        run = _Run(self._app, scope, receive, send, ttl=ttl, vary=self._vary, most=self._most)

        async def load(_: str) -> Value[bytes]:
            response = await run.response(self._tasks)
            return Value(response.encoded(), ttl=response.ttl, tags=response.tags())

        try:
            kept = Response.decoded(await self.group.aget_or_load(key, load))
        except (LoadError, Overloaded, PeerError):
            if run.task is None:  # the response of another request is not for this one, or did not come
                await self._app(scope, receive, send)
                return
        except BaseException:
            run.cancel()
            raise
        else:
            if not run.taken:
                run.answered = True
                await kept.answering(asked).send(send)
                return
        await run.end()

    def _ttl(self, scope: Scope, asked: Mapping[bytes, bytes]) -> float | None:
        if scope["method"] != "GET" or not _OWN.isdisjoint(asked):
            return None
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return next((ttl for start, ttl in self._routes if path.startswith(start)), None)

    def _key(self, scope: Scope, asked: Mapping[bytes, bytes]) -> str:
        host = asked.get(b"host", b"").lower().decode("latin-1")
        varied = "".join(f"\n{asked.get(name, b'').decode('latin-1')}" for name in self._vary)
        query = scope["query_string"].decode("latin-1")
        return f"{scope.get('scheme', 'http')}://{host}{scope['path']}?{query}{varied}"


class _NotKept(Exception):
    """The response of this request belongs to it alone."""


class _Run:
    """One answer of the application, on its way to a client and to the cache.

    The client is `taken` once it gets something of this answer, and `answered` if it got an older one, while this one
    is made for the cache alone. It is never both.
    """

    def __init__(
        self, app: App, scope: Scope, receive: Receive, send: Send, *, ttl: float, vary: list[bytes], most: int
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self.taken = self.answered = False
        self._app = app
        self._scope = scope
        self._asked = _headers(scope)
        self._whole: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._receiving = receive
        self._sending = send
        self._ttl = ttl
        self._vary = vary
        self._most = most  # bytes of a body that is kept
        self._start: Message | None = None  # until it is sent
        self._begun = Response(0, [])
        self._body: list[bytes] | None = None  # None: it is not kept
        self._size = 0

    async def response(self, tasks: set[asyncio.Task[None]]) -> Response:
        """Have the application answer, and return the response once it is whole. Raises _NotKept, and its error."""
        if self.task is not None:
            raise _NotKept
        self.task = asyncio.create_task(self._run())
        tasks.add(self.task)  # the loop itself would lose it
        self.task.add_done_callback(tasks.discard)
        try:
            return await self._whole
        except asyncio.CancelledError:
            if self.answered:
                self.cancel()
            raise

    async def end(self) -> None:
        """Wait until the application has done all that it does after its answer, and raise what it raises."""
        if self.task is not None:
            await self.task  # which is cancelled with its caller

    def cancel(self) -> None:
        """Stop the application, as its client is gone."""
        if self.task is not None:
            self.task.cancel()

    async def _run(self) -> None:
        try:  # without extensions it answers in messages that are understood here
            await self._app({**self._scope, "extensions": {}}, self._receive, self._send)
        except Exception as error:
            self._fail(error)
            raise
        finally:
            self._fail(_NotKept())  # if it has ended too early

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
        if ttl is None or (length.isdigit() and int(length) > self._most):
            self._fail(_NotKept())
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
                self._fail(_NotKept())
            elif not more:
                self._done(self._begun._replace(body=b"".join(self._body)))
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if not self.answered:
            self.taken = True
            await self._sending(message)

    def _done(self, whole: Response) -> None:
        if not self._whole.done():
            self._whole.set_result(whole)

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
