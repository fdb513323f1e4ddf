"""Keep whole HTTP responses, for FastAPI, Starlette and every other ASGI application; and a lifespan for its node.

app = FastAPI(lifespan=lifespan(node))
app.add_middleware(ResponseCache, node=node, routes={"/products/": "10m"})
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

from kamacache import LoadError, Node, Value
from kamacache.callrun import noting
from kamacache.units import Duration, parse_duration

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_PRIVATE = re.compile(rb"\b(no-store|no-cache|private)\b", re.IGNORECASE)
_MAX_AGE = re.compile(rb"\bmax-age=(\d+)", re.IGNORECASE)
_LONGEST = 8_192  # characters of a path and query
OK, NOT_MODIFIED = 200, 304
_OWN = {b"authorization", b"cookie"}  # of a request whose response belongs to one user


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

    - `node`: whose group `group` has the responses. The key of one is its path and query.
    - `routes`: how long responses are kept, by the beginning of the path. The longest one that matches holds.
    - `vary`: names of request headers whose values are part of the key, such as "accept-language".
    - `options`: options of node.group, such as max_bytes and stale_while_revalidate.

    Kept are responses with status 200, without Set-Cookie, and without `no-store`, `no-cache` or `private` in
    Cache-Control; `max-age` there says for how long. One that varies by another header than those of `vary` is not
    kept. Requests with Cookie or Authorization are neither answered from here nor kept. Answers have an ETag, Age and
    Cache-Control; a request with a matching If-None-Match gets 304. The header Cache-Tag of a response, with commas, is
    its tags: `node.adelete_tag` drops it everywhere. A response is kept whole, and its background tasks end before.
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ttl = self._ttl(scope)
        if ttl is None or len(key := self._key(scope)) > _LONGEST:
            await self._app(scope, receive, send)
            return
        made: list[_Response] = []
        caught: list[BaseException] = []

        async def load(_: str) -> Value[bytes]:
            with noting(caught):
                response = await _made(self._app, scope, receive)
                kept = response.lifetime(ttl, self._vary)
                if kept is None:
                    made.append(response)
                    raise _NotKept  # and not a value of ttl 0: those who wait would get it
                return Value(response.encoded(kept), ttl=kept, tags=response.tags())

        try:
            kept = _Response.decoded(await self.group.aget_or_load(key, load))
        except LoadError as error:
            if made:
                await made.pop().send(send)
            elif caught:
                raise caught.pop() from None
            elif error.cause_type == _NotKept.__name__:  # so another request has found
                await self._app(scope, receive, send)
            else:
                raise
        else:
            await kept.answering(_headers(scope), self._vary).send(send)

    def _ttl(self, scope: Scope) -> float | None:
        if scope["type"] != "http" or scope["method"] != "GET" or not _OWN.isdisjoint(_headers(scope)):
            return None
        return next((ttl for path, ttl in self._routes if scope["path"].startswith(path)), None)

    def _key(self, scope: Scope) -> str:
        headers = _headers(scope)
        varied = "".join(f"\n{headers.get(name, b'').decode('latin-1')}" for name in self._vary)
        return f"{scope['path']}?{scope['query_string'].decode('latin-1')}{varied}"


class _NotKept(Exception):
    """The response of this request belongs to it alone."""


class _Response(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    kept_at: float = 0.0  # unix seconds
    ttl: float = 0.0

    def lifetime(self, ttl: float, vary: Iterable[bytes]) -> float | None:
        """Return for how many seconds it may be kept; None: not at all."""
        control, varies = self._said(b"cache-control"), self._said(b"vary").lower()
        others = {name.strip() for name in varies.split(b",")} - {b"", *vary}
        if self.status != OK or self._said(b"set-cookie") or others or _PRIVATE.search(control):
            return None
        said = _MAX_AGE.search(control)
        return (float(said[1]) or None) if said else ttl

    def _said(self, name: bytes) -> bytes:
        return b",".join(value for one, value in self.headers if one == name)

    def tags(self) -> list[str]:
        text = self._said(b"cache-tag").decode("latin-1")
        return list(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))

    def encoded(self, ttl: float) -> bytes:
        """Return it as it is kept, with an ETag: hits need not make one."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
        if not self._said(b"etag"):
            headers.append(("etag", f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'))
        return json.dumps([self.status, headers, time.time(), ttl]).encode() + b"\n" + self.body

    @classmethod
    def decoded(cls, data: bytes | None) -> _Response:
        head, _, body = (data or b"").partition(b"\n")
        status, headers, kept_at, ttl = json.loads(head)
        return cls(
            status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body, kept_at, ttl
        )

    def answering(self, asked: Mapping[bytes, bytes], vary: list[bytes]) -> _Response:
        """Return the answer of one that is kept to a request with these headers."""
        etag, age = self._said(b"etag"), max(time.time() - self.kept_at, 0)
        more = {b"cache-control": b"public, max-age=%d" % self.ttl, b"vary": b", ".join(vary)}
        headers = [one for one in self.headers if one[0] != b"age"]
        headers += [(name, value) for name, value in more.items() if value and not self._said(name)]
        headers.append((b"age", b"%d" % age))
        wanted = [one.strip().removeprefix(b"W/") for one in asked.get(b"if-none-match", b"").split(b",")]
        if b"*" not in wanted and etag.removeprefix(b"W/") not in wanted:
            return self._replace(headers=headers)
        of_body = {b"content-length", b"content-type", b"content-encoding"}
        return _Response(NOT_MODIFIED, [one for one in headers if one[0] not in of_body], b"")

    async def send(self, send: Send) -> None:
        headers = [one for one in self.headers if one[0] != b"cache-tag"]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


async def _made(app: App, scope: Scope, receive: Receive) -> _Response:
    """Have the application answer, and return the whole response."""
    start: Message = {}
    body: list[bytes] = []

    async def take(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        elif message["type"] == "http.response.body":
            body.append(bytes(message.get("body", b"")))

    await app({**scope, "extensions": {}}, receive, take)  # as it answers in messages that are understood here
    headers = [(bytes(name).lower(), bytes(value)) for name, value in start.get("headers", ())]
    return _Response(start["status"], headers, b"".join(body))


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
