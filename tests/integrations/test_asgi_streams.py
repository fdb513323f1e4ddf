"""ResponseCache and answers that come in pieces, late, with an error, or never: a client has what it has without it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, Router

from kamacache import Clock, ConfigError, Node
from kamacache.integrations import run
from kamacache.integrations.asgi import ResponseCache

Handler = Callable[[Request], Awaitable[Response]]


class Client:
    """A request under way, and what has come of its answer."""

    def __init__(self, app: Any, path: str = "/a", **more: Any) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.whole = False
        self.gone = asyncio.Event()
        self._asked = False
        headers = [(name.encode(), value.encode()) for name, value in more.pop("headers", {}).items()]
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": headers,
            "root_path": "",
        }
        scope |= {"http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1)} | more
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert not self.status
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert not self.whole
            self.body += message.get("body", b"")
            self.whole = not message.get("more_body", False)


class App:
    """An application of one route with its cache, which counts how often it was asked."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        self.count = 0
        self.handler = handler
        self.node = Node(clock=(clock := Clock(manual=True)), **options.pop("of_node", {}))
        self.clock = clock
        inner = Starlette(routes=[Route("/{rest:path}", self._answer)])
        self.app = ResponseCache(inner, node=self.node, routes={"/": "10m"}, **options)

    async def _answer(self, request: Request) -> Response:
        self.count += 1
        return await self.handler(request)

    def run(self, main: Callable[[App], Awaitable[None]]) -> None:
        async def all_of_it() -> None:
            async with self.node:
                await asyncio.wait_for(main(self), 30)

        asyncio.run(all_of_it())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def get(app: App, path: str = "/a", **more: Any) -> Client:
    client = Client(app.app, path, **more)
    await client.task
    return client


class Pieces:
    """A stream whose pieces come when they are asked for."""

    def __init__(self, count: int = 3, **headers: str) -> None:
        self.next = asyncio.Semaphore(0)
        self.count = count
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    async def __call__(self, _: Request) -> Response:
        return StreamingResponse(self._pieces(), headers=self.headers, media_type="text/plain")

    async def _pieces(self) -> AsyncIterator[bytes]:
        for number in range(self.count):
            await self.next.acquire()
            yield b"%d" % number


def says(status: int, text: str = "new", *, stream: bool = False, **headers: str) -> Handler:
    """Return a route that answers so; a status of 0 stands for an exception."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def pieces() -> AsyncIterator[bytes]:
        yield text.encode()

    async def answer(_: Request) -> Response:
        if not status:
            raise ZeroDivisionError(text)
        return StreamingResponse(pieces(), status, named) if stream else PlainTextResponse(text, status, named)

    return answer


@pytest.mark.parametrize("headers", [{}, {"content_length": "3"}, {"etag": '"own"'}, {"cache_tag": "all"}])
def test_a_stream_is_passed_on_piece_by_piece_and_kept_at_its_end(headers: dict[str, str]) -> None:
    async def main(app: App) -> None:
        stream = app.handler = Pieces(3, **headers)
        first = Client(app.app)
        await until(lambda: app.count)
        second = Client(app.app)
        for number in range(3):
            stream.next.release()
            await until(lambda number=number: len(first.body) == number + 1)  # type: ignore[misc]
            assert number == 2 or not second.status
        await asyncio.gather(first.task, second.task)
        third = await get(app)
        assert first.body == second.body == third.body == b"012"
        assert first.headers["etag"] == second.headers["etag"] == third.headers["etag"]
        assert headers.get("etag", third.headers["etag"]) == third.headers["etag"]
        assert {"age"} == third.headers.keys() - first.headers.keys()
        assert "cache-tag" not in first.headers.keys() | third.headers.keys()
        assert (await get(app, headers={"if-none-match": third.headers["etag"]})).status == 304
        assert app.count == 1

    App(Pieces()).run(main)


def test_what_its_client_leaves_before_the_end_is_not_kept() -> None:
    async def main(app: App) -> None:
        stream = app.handler = Pieces()
        first = Client(app.app)
        await until(lambda: app.count)
        second = Client(app.app)
        stream.next.release()
        await until(lambda: first.body)
        first.gone.set()
        await first.task
        assert not first.whole
        for _ in range(3):
            stream.next.release()
        await second.task
        assert second.body == b"012"
        stream.next = asyncio.Semaphore(9)
        assert (await get(app)).body == b"012"

    App(Pieces()).run(main)


def test_a_cancelled_request_cancels_the_application() -> None:
    async def main(app: App) -> None:
        ended = asyncio.Event()

        async def endless(_: Request) -> Response:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

        app.handler = endless
        first = Client(app.app)
        await until(lambda: app.count)
        second = Client(app.app)
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
        assert ended.is_set()
        await until(lambda: app.count == 2)
        second.task.cancel()

    App(Pieces()).run(main)


def test_endless_and_large_streams_are_passed_on() -> None:
    async def main(app: App) -> None:
        for stream in (Pieces(99, content_type="text/event-stream"), Pieces(99, cache_control="no-store")):
            app.handler = stream
            clients = [Client(app.app), Client(app.app)]
            await until(lambda clients=clients: all(client.status for client in clients))  # type: ignore[misc]
            stream.next = asyncio.Semaphore(2)
            for client in clients:
                client.gone.set()
                await client.task
        app.handler = stream = Pieces(20)
        stream.next = asyncio.Semaphore(99)
        assert [len((await get(app)).body) for _ in range(2)] == [30, 30]
        assert app.count == 6

    App(Pieces(), of_node={"max_value": "25 B"}).run(main)


def test_a_background_task_neither_delays_the_answer_nor_breaks_it() -> None:
    async def main(app: App) -> None:
        go_on = asyncio.Event()

        async def later() -> None:
            await go_on.wait()
            raise ZeroDivisionError

        async def answer(_: Request) -> Response:
            return PlainTextResponse("text", background=BackgroundTask(later))

        app.handler = answer
        first = Client(app.app)
        await until(lambda: first.whole)
        assert (await get(app)).body == first.body == b"text"
        assert not first.task.done()
        go_on.set()
        with pytest.raises(ZeroDivisionError):
            await first.task
        assert (await get(app)).status == 200
        assert app.count == 1

    App(Pieces()).run(main)


def test_an_answer_that_comes_later_than_a_load_may() -> None:
    async def main(app: App) -> None:
        go_on = asyncio.Event()

        async def slow(_: Request) -> Response:
            await go_on.wait()
            return PlainTextResponse("text")

        app.handler = slow
        clients = [Client(app.app), Client(app.app)]
        await until(lambda: app.count == 2)  # the second waited for the first, for load_timeout
        go_on.set()
        await asyncio.gather(*(client.task for client in clients))
        assert [client.body for client in clients] == [b"text"] * 2

    App(Pieces(), load_timeout="200ms").run(main)


def test_each_has_its_own_error() -> None:
    async def main(app: App) -> None:
        go_on = asyncio.Event()

        async def fails(_: Request) -> Response:
            number = app.count
            await go_on.wait()
            raise ValueError(number)

        app.handler = fails
        clients = [Client(app.app) for _ in range(3)]
        await until(lambda: app.count)
        go_on.set()
        raised = await asyncio.gather(*(client.task for client in clients), return_exceptions=True)
        assert sorted(map(repr, raised)) == [f"ValueError({number})" for number in (1, 2, 3)]

    App(Pieces()).run(main)


@pytest.mark.parametrize("options", [{"refresh_after": "1m"}, {"soft_timeout": "50ms", "stale_while_revalidate": "1h"}])
def test_an_older_answer_goes_out_while_another_is_made(options: dict[str, str]) -> None:
    """Answer at once, and keep all of the new response, although its client is gone by then."""

    async def main(app: App) -> None:
        async def number(_: Request) -> Response:
            stream = Pieces()
            stream.next = asyncio.Semaphore(9)
            response = await stream(_)
            response.headers["n"] = str(app.count)
            return response

        app.handler = number
        assert (await get(app)).headers["n"] == "1"
        app.clock.advance(120.0 if "refresh_after" in options else 601.0)
        client = Client(app.app)
        client.gone.set()
        await client.task
        await until(lambda: app.count == 2)
        for _ in range(200):
            again = await get(app)
            assert again.body == b"012"
            if again.headers["n"] == "2":
                break
            await asyncio.sleep(0.01)
        assert again.headers["n"] == "2"

    App(Pieces(), **options).run(main)


def test_one_site_does_not_answer_for_another() -> None:
    async def where(request: Request) -> Response:
        return PlainTextResponse(str(request.url))

    async def main(app: App) -> None:
        for scheme in ("http", "https"):
            for host in ("a.test", "b.test"):
                client = await get(app, headers={"host": host}, scheme=scheme)
                assert client.body.decode() == f"{scheme}://{host}/a"
        assert (await get(app, headers={"host": "A.test"})).body == b"http://a.test/a"
        assert app.count == 4

    App(where).run(main)


def test_paths_are_those_below_the_root() -> None:
    node, count = Node(), [0]

    async def answer(_: Request) -> Response:
        count[0] += 1
        return PlainTextResponse("text")

    inner = ResponseCache(Starlette(routes=[Route("/kept", answer)]), node=node, routes={"/kept": "10m"})
    outer = Starlette(routes=[Mount("/api", inner)])

    async def main() -> None:
        async with node:
            for _ in range(2):
                await Client(outer, "/api/kept").task
                await Client(inner, "/other/kept", root_path="/other").task

    asyncio.run(main())
    assert count == [2]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"cache-control": "s-maxage=1, max-age=100"}, 1),
        ({"cache-control": "max-age=100, s-maxage=0"}, 0),
        ({"cache-control": 'max-age="5"'}, 5),
        ({"cache-control": "MAX-AGE = 5"}, 5),
        ({"cache-control": "max-age=-1"}, 0),
        ({"cache-control": "max-age=soon"}, 0),
        ({"cache-control": "max-age=99999999999999999999"}, 2**31),
        ({"cache-control": "max-age=" + "9" * 5000}, 2**31),
        ({"cache-control": "max-age=100", "age": "99"}, 1),
        ({"cache-control": "max-age=100", "age": "100"}, 0),
        ({"cache-control": "max-age=100", "age": "soon"}, 100),
        ({"expires": "Thu, 01 Jan 2026 00:00:05 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT", "age": "3"}, 2),
        ({"cache-control": 'private="x", max-age=5'}, 0),
        ({"cache-control": 'x="no-store, private", max-age=5'}, 5),
        ({"expires": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"expires": "0"}, 0),
        ({"expires": "Thu, 01 Jan 2026 00:00:05 GMT", "date": "Thu, 01 Jan 2026 00:00:00 GMT"}, 5),
        ({"expires": "0", "cache-control": "max-age=5"}, 5),
    ],
)
def test_what_a_response_says_of_its_time(headers: dict[str, str], seconds: int) -> None:
    async def answer(_: Request) -> Response:
        return PlainTextResponse("text", headers=headers)

    async def main(app: App) -> None:
        await get(app)
        await get(app)
        assert app.count == (1 if seconds else 2)
        app.clock.advance(seconds + 0.02)
        await get(app)
        assert app.count == (2 if seconds else 3)

    App(answer).run(main)


@pytest.mark.parametrize(
    ("headers", "control"),
    [({"age": "99"}, "public, max-age=699"), ({"age": "99", "cache-control": "max-age=100"}, "max-age=100")],
)
def test_an_age_goes_on(headers: dict[str, str], control: str) -> None:
    """A response that was kept before it came here is as old as that cache says."""

    async def answer(_: Request) -> Response:
        return PlainTextResponse("text", headers=headers)

    async def main(app: App) -> None:
        asked = [await get(app) for _ in range(2)]
        assert app.count == 1
        for client in asked:
            assert client.headers["age"] in {"99", "100"}
            assert client.headers["cache-control"] == control

    App(answer).run(main)


@pytest.mark.parametrize("stream", [False, True])
def test_what_belongs_to_a_connection_is_not_kept(stream: bool) -> None:
    """Only the client that made the application answer gets such headers (RFC 9110, 7.6.1)."""
    hop = {"connection": "close, X-Own", "x_own": "1", "keep_alive": "timeout=5", "te": "trailers", "upgrade": "h2c"}

    async def main(app: App) -> None:
        first, second = [await get(app) for _ in range(2)]
        names = {name.replace("_", "-") for name in hop}
        assert names <= first.headers.keys()
        assert not names & second.headers.keys()
        assert second.headers["x-other"] == "2"
        assert app.count == 1

    App(says(200, stream=stream, x_other="2", **hop)).run(main)


def test_when_it_was_changed() -> None:
    changed = "Thu, 01 Jan 2026 00:00:00 GMT"

    async def answer(_: Request) -> Response:
        return PlainTextResponse("text", headers={"last-modified": changed})

    async def main(app: App) -> None:
        asked = [changed, "Fri, 02 Jan 2026 00:00:00 GMT", "Wed, 31 Dec 2025 00:00:00 GMT", "yesterday"]
        statuses = [(await get(app, headers={"if-modified-since": since})).status for since in asked]
        assert statuses == [304, 304, 200, 200]
        both = {"if-modified-since": changed, "if-none-match": '"other"'}
        assert (await get(app, headers=both)).status == 200
        assert app.count == 1

    App(answer).run(main)


@pytest.mark.parametrize(
    "how", [{"method": "POST"}, {"headers": {"cookie": "a=b"}}, {"headers": {"range": "bytes=0-1"}}]
)
def test_tags_are_hidden_from_all(how: dict[str, Any]) -> None:
    async def answer(_: Request) -> Response:
        return PlainTextResponse("text", headers={"Cache-Tag": "all"})

    async def main(app: App) -> None:
        for _ in range(2):
            assert "cache-tag" not in (await get(app, **how)).headers

    app = App(answer)
    app.app._app = Starlette(routes=[Route("/{rest:path}", answer, methods=["GET", "POST"])])
    app.run(main)


def test_others_do_not_wait_for_a_client_that_reads_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the application answer them after a while, as beside a stream that never ends."""
    monkeypatch.setattr(run, "_PATIENCE", 0.1)

    async def main(app: App) -> None:
        stream = app.handler = Pieces(9)
        stream.next.release()
        first = Client(app.app)
        await until(lambda: first.body)
        second = Client(app.app)
        await until(lambda: app.count == 2)
        for _ in range(30):
            stream.next.release()
        await second.task
        assert second.body == b"012345678"
        await first.task

    App(Pieces()).run(main)


def test_a_node_that_is_closed_does_not_break_answers() -> None:
    async def main(app: App) -> None:
        stream = app.handler = Pieces()
        first = Client(app.app)
        stream.next.release()
        await until(lambda: first.body)
        await app.node.aclose(drain=0)
        stream.next = asyncio.Semaphore(9)
        for _ in range(3):
            stream.next.release()
        assert (await get(app)).body == b"012"
        stream.next.release()
        first.task.cancel()

    app = App(Pieces())
    app.run(main)


def test_a_request_that_is_over_begins_nothing() -> None:
    async def main(app: App) -> None:
        for _ in range(20):
            client = Client(app.app)
            await asyncio.sleep(0)
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
            count, status = app.count, client.status
            await asyncio.sleep(0.01)
            assert (app.count, client.status) == (count, status)

    App(Pieces()).run(main)


@pytest.mark.parametrize("bare", [False, True])  # else Starlette answers an exception with 500, and raises it then
@pytest.mark.parametrize("handler", [says(500), says(503, stream=True), says(0)])
@pytest.mark.parametrize("clients", [1, 3])
def test_an_old_answer_in_the_place_of_a_failure(
    handler: Handler, clients: int, caplog: pytest.LogCaptureFixture, *, bare: bool
) -> None:
    """Give it to every client: to the one that made the application answer, and to those who waited."""

    async def main(app: App) -> None:
        if bare:
            app.app._app = Router([Route("/{rest:path}", app._answer)])
        await get(app)
        app.clock.advance(601)
        app.handler = handler
        for count in (2, 3):
            asked = await asyncio.gather(*(get(app) for _ in range(clients)))
            assert [(client.status, client.body) for client in asked] == [(200, b"old")] * clients
            assert app.count == count

    App(says(200, "old"), stale_if_error="1h").run(main)
    gc.collect()
    assert not [record for record in caplog.records if "never retrieved" in record.message]


@pytest.mark.parametrize("handler", [says(404), says(301), says(200, cache_control="private"), says(200, "n" * 2000)])
@pytest.mark.parametrize("failure", [says(500, "fails"), says(0, "fails")])
def test_an_answer_that_is_not_kept_ends_the_old_one(handler: Handler, failure: Handler) -> None:
    async def main(app: App) -> None:
        await get(app)
        app.clock.advance(601)
        app.handler = handler
        assert b"n" in (await get(app)).body
        app.handler = failure
        for _ in range(2):
            failed = Client(app.app)
            await asyncio.wait([failed.task])
            assert failed.task.exception() or (failed.status, failed.body) == (500, b"fails")

    App(says(200, "old"), stale_if_error="1h", of_node={"max_value": "1 KiB"}).run(main)


def test_a_condition_does_not_keep_the_cache_empty() -> None:
    async def answer(request: Request) -> Response:
        known = "if-none-match" in request.headers
        return Response(status_code=304) if known else PlainTextResponse("text", headers={"etag": '"own"'})

    async def main(app: App) -> None:
        statuses = [(await get(app, headers={"if-none-match": '"own"'})).status for _ in range(3)]
        assert statuses == [304] * 3
        assert app.count == 1

    App(answer).run(main)


def test_keys_are_unambiguous() -> None:
    async def answer(request: Request) -> Response:
        return PlainTextResponse(f"{request.scope['path']} {request.url.query}")

    async def main(app: App) -> None:
        for path, query, host in (("/a?b", b"c", "x"), ("/a", b"b?c", "x"), ("/b", b"", "x/a"), ("/a/b", b"", "x")):
            client = await get(app, path, query_string=query, headers={"host": host})
            assert client.body.decode() == f"{path} {query.decode()}"

    App(answer).run(main)
    with pytest.raises(ConfigError, match="must be a list of names"):
        ResponseCache(Starlette(), node=Node(), routes={}, vary="accept")


def test_a_body_of_another_length_is_not_kept() -> None:
    async def short(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b"0123456789"})
        count[0] += 1

    async def main(app: App) -> None:
        for _ in range(2):
            assert (await get(app)).body == b"0123456789"

    count = [0]
    app = App(Pieces())
    app.app._app = short
    app.run(main)
    assert count == [2]


def test_a_request_with_a_body_passes_by() -> None:
    async def answer(request: Request) -> Response:
        return PlainTextResponse(str(app.count))

    async def main(app: App) -> None:
        for headers in ({"content-length": "3"}, {"transfer-encoding": "chunked"}):
            count = app.count
            assert [(await get(app, headers=headers)).status for _ in range(2)] == [200] * 2
            assert app.count == count + 2

    app = App(answer)
    app.run(main)
