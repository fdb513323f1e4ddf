"""Keep whole HTTP responses, for FastAPI, Starlette and every other ASGI application; and a lifespan for its node.

app = FastAPI(lifespan=lifespan(node))
app.add_middleware(ResponseCache, node=node, routes={"/products/": "10m"})

The first request that finds nothing kept has the application answer in a task (run.py). Its messages go on to the
client as they come, while a copy is made, which is kept once the response has come to its end. Others wait for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from kamacache import ConfigError, KamaCacheError, Node, Value
from kamacache._engine import MISSING
from kamacache.integrations.response import TAGS, App, Headers, Message, Receive, Response, Scope, Send
from kamacache.integrations.run import Run
from kamacache.units import Duration, parse_duration

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

_LONGEST = 8_192  # characters of a key
# Headers of a request whose response belongs to one user, or is a part of one, or depends on what is sent or there.
_OWN = {b"authorization", b"cookie", b"range", b"if-match", b"if-unmodified-since", b"transfer-encoding"}


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

    - `node`: whose group `group` has the responses. The key of one is its scheme, host, path and query,
      these as they were sent: `/a%2Fb` is another path than `/a/b`.
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
    exception, and a status from 500 on, counts as a failed load: with stale_if_error, all clients get the old response
    instead, if there is one. See also error_ttl.
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
        run = Run(self._app, scope, receive, send, asked=asked, ttl=ttl, vary=self._vary, most=self._most)

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
            run.replace()
            await Response.decoded(kept).answering(asked).send(send)

    def _key(self, scope: Scope, asked: Mapping[bytes, bytes]) -> str:
        site = scope.get("scheme", "http"), asked.get(b"host", b"").lower().decode("latin-1")
        varied = (asked.get(name, b"").decode("latin-1") for name in self._vary)
        # The path as it was sent may say more, such as /a%2Fb. The other counts as well: a middleware may change it.
        path, sent = scope["path"], (scope.get("raw_path") or b"").decode("latin-1")
        paths = [path] if sent in {"", path} else [path, sent]
        return json.dumps([*site, paths, scope["query_string"].decode("latin-1"), *varied])


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
