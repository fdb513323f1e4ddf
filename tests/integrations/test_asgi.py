"""Whole responses that are kept for FastAPI and Starlette, and the lifespan of a node."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import BackgroundTasks, FastAPI, Header, HTTPException, Response
from starlette.middleware.gzip import GZipMiddleware

from kamacache import Clock, Node
from kamacache.integrations.asgi import ResponseCache, lifespan

with warnings.catch_warnings():  # of the client of HTTP that it takes
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient


class Shop:
    """An application with its cache: `runs` counts what its routes have done."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock(manual=True)
        self.node = Node(clock=self.clock)
        self.runs: list[str] = []
        self.app = FastAPI(lifespan=lifespan(self.node, self.inner))
        self.app.add_middleware(ResponseCache, node=self.node, routes={"/kept/": "10m", "/kept/short/": 5.0}, **options)
        self.app.get("/kept/{rest:path}")(self.kept)
        self.app.get("/other")(self.kept)

    @asynccontextmanager
    async def inner(self, _: FastAPI) -> AsyncIterator[dict[str, Any]]:
        self.runs.append("begin")
        yield {}
        self.runs.append("end")

    async def kept(
        self,
        response: Response,
        behind: BackgroundTasks,
        rest: str = "",
        accept_language: Annotated[str, Header()] = "",
    ) -> dict[str, Any]:
        self.runs.append(rest)
        await asyncio.sleep(0.01)
        match rest:
            case "missing":
                raise HTTPException(404)
            case "broken":
                raise ZeroDivisionError
            case "private":
                response.headers["Cache-Control"] = "private, max-age=60"
            case "cookie":
                response.set_cookie("a", "b")
            case "minute":
                response.headers["Cache-Control"] = "max-age=60"
            case "tagged":
                response.headers["Cache-Tag"] = "product:7, all"
            case "behind":
                behind.add_task(self.runs.append, "behind")
        return {"run": len(self.runs), "language": accept_language}


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    with TestClient(shop.app) as client:
        shop.runs.clear()
        yield client


def test_a_response_is_made_once(shop: Shop, client: TestClient) -> None:
    first, second = client.get("/kept/a?x=1"), client.get("/kept/a?x=1")
    assert first.json() == second.json() == {"run": 1, "language": ""}
    assert client.get("/kept/a?x=2").json()["run"] == 2
    assert [client.get("/other").json()["run"] for _ in range(2)] == [3, 4]
    assert first.headers["cache-control"] == "public, max-age=600"
    assert first.headers["content-type"] == "application/json"
    assert int(second.headers["age"]) >= 0


def test_it_ends_with_its_time(shop: Shop, client: TestClient) -> None:
    for path, seconds in (("/kept/a", 600), ("/kept/short/a", 5), ("/kept/minute", 60)):
        runs = [client.get(path).json()["run"] for _ in range(2)]
        shop.clock.advance(seconds - 1)
        runs.append(client.get(path).json()["run"])
        shop.clock.advance(1.01)
        runs.append(client.get(path).json()["run"])
        assert len(set(runs[:3])) == 1, path
        assert runs[3] > runs[0], path


def test_a_matching_etag_gets_no_body(client: TestClient) -> None:
    etag = client.get("/kept/a").headers["etag"]
    for wanted in (etag, f'"other", W/{etag}', "*"):
        answer = client.get("/kept/a", headers={"If-None-Match": wanted})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
        assert "content-type" not in answer.headers
    assert client.get("/kept/a", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("rest", ["missing", "private", "cookie"])
def test_what_is_not_kept(shop: Shop, client: TestClient, rest: str) -> None:
    answers = [client.get(f"/kept/{rest}") for _ in range(2)]
    assert shop.runs == [rest] * 2
    assert all("etag" not in answer.headers and "age" not in answer.headers for answer in answers)
    client.cookies.clear()
    for headers in ({"Cookie": "session=1"}, {"Authorization": "Bearer x"}):
        assert client.get("/kept/own", headers=headers).status_code == 200
    assert shop.runs[2:] == ["own"] * 2
    assert client.post("/kept/own").status_code == 405
    assert client.get(f"/kept/{'x' * 9000}").status_code == 200


def test_an_error_reaches_the_server(client: TestClient) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            client.get("/kept/broken")


def test_a_tag_drops_a_response(shop: Shop, client: TestClient) -> None:
    assert client.get("/kept/tagged").json()["run"] == client.get("/kept/tagged").json()["run"] == 1
    assert "cache-tag" not in client.get("/kept/tagged").headers
    assert shop.node.delete_tag("product:7")
    assert client.get("/kept/tagged").json()["run"] == 2


def test_background_tasks_run_once(shop: Shop, client: TestClient) -> None:
    assert [client.get("/kept/behind").json()["run"] for _ in range(2)] == [1, 1]
    assert shop.runs == ["behind", "behind"]


def test_paths_that_decode_to_the_same() -> None:
    """Keep a response for each spelling of a path, which an application may tell apart; with a root path, too."""
    node, made = Node(), list[bytes]()

    async def app(scope: Any, _: Any, send: Any) -> None:
        made.append(scope["raw_path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["raw_path"]})

    cache = ResponseCache(app, node=node, routes={"/kept/": "10m"})
    for root in ("", "/root"):
        client = TestClient(cache, root_path=root)
        asked = [root + path for path in ("/kept/a%2Fb", "/kept/a/b", "/kept/caf%C3%A9")]
        for _ in range(2):
            assert [client.get(path).text for path in asked] == asked
    assert len(made) == 6
    node.close()


def test_headers_that_are_part_of_the_key() -> None:
    shop = Shop(vary=["Accept-Language"])
    with TestClient(shop.app) as client:
        languages = ["fr", "en", "fr"]
        answers = [client.get("/kept/a", headers={"Accept-Language": one}) for one in languages]
    assert [answer.json()["language"] for answer in answers] == languages
    assert answers[0].json() == answers[2].json()
    assert answers[0].headers["vary"] == "accept-language"


def test_a_response_that_varies_otherwise_is_not_kept() -> None:
    """GZipMiddleware below the cache says that the response varies by Accept-Encoding."""
    shop = Shop()
    inside = FastAPI(lifespan=lifespan(shop.node))
    inside.add_middleware(GZipMiddleware, minimum_size=1)
    inside.add_middleware(ResponseCache, node=shop.node, routes={"/": 60})
    inside.get("/a")(shop.kept)
    with TestClient(inside) as client:
        zipped, plain = (client.get("/a", headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity"))
    assert (zipped.headers.get("content-encoding"), plain.headers.get("content-encoding")) == ("gzip", None)
    assert zipped.json()["run"] != plain.json()["run"]


async def ask(app: FastAPI, path: str) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "http_version": "1.1"}
    await app(scope | {"scheme": "http", "root_path": "", "server": ("test", 80), "client": ("test", 1)}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_requests_at_the_same_time(shop: Shop) -> None:
    """Share what is kept, and never what belongs to one of them."""

    async def main() -> tuple[list[Any], list[Any]]:
        async with shop.node:
            kept = await asyncio.gather(*(ask(shop.app, "/kept/a") for _ in range(8)))
            private = await asyncio.gather(*(ask(shop.app, "/kept/private") for _ in range(8)))
        return kept, private

    kept, private = asyncio.run(main())
    assert len(set(kept)) == 1
    assert [status for status, _ in private] == [200] * 8
    assert shop.runs == ["a"] + ["private"] * 8


def test_the_lifespan(shop: Shop) -> None:
    for _ in range(2):  # a TestClient that is entered twice
        with TestClient(shop.app) as client:
            assert shop.runs[-1] == "begin"
            assert client.get("/kept/a").status_code == 200
        assert shop.runs[-1] == "end"
