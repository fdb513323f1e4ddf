"""examples/fastapi_app.py, served by two workers of uvicorn before an API that can be held, changed and broken."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.cluster.cluster import wait_until
from tests.examples.conftest import PATIENCE, Examples, Running

WORKERS = 2


class Upstream(ThreadingHTTPServer):
    """The slow API."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.names: dict[str, str | None] = {}  # None: the API fails
        self.asked: Counter[str] = Counter()
        self.go_on = threading.Event()
        self.go_on.set()


class Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_GET(self) -> None:
        login = self.path.removeprefix("/users/")
        self.server.asked[login] += 1
        name = self.server.names.get(login, "")
        self.server.go_on.wait(PATIENCE)
        body = json.dumps({"login": login, "name": name, "id": 1}).encode()
        self.send_response(500 if name is None else 200 if name else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Client:
    """A connection that is kept, and so one worker."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        status, self.health = self.request("/healthz")
        assert status == 200

    def request(self, path: str, method: str = "GET") -> tuple[int, Any]:
        self._connection.request(method, path)
        response = self._connection.getresponse()
        return response.status, json.load(response)

    def close(self) -> None:
        self._connection.close()


class App:
    def __init__(self, running: Running) -> None:
        self.running = running
        self._port = int(running.wait_for(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")[0][1])
        running.wait_for("Application startup complete", WORKERS)
        self._threads = ThreadPoolExecutor(20)
        self._open: list[Client] = []
        self.clients = self._one_of_each()

    def _one_of_each(self) -> list[Client]:
        """Return a client of each worker, as the system chooses the worker that takes a connection."""
        found: dict[int, Client] = {}
        deadline = time.monotonic() + PATIENCE
        while len(found) < WORKERS:
            assert time.monotonic() < deadline, f"only {list(found)} answer"
            client = Client(self._port)
            self._open.append(client)
            found.setdefault(client.health["worker"], client)
        return list(found.values())

    def ask(self, path: str) -> Future[tuple[int, Any]]:
        return self._threads.submit(self._ask, path)

    def _ask(self, path: str) -> tuple[int, Any]:
        client = Client(self._port)
        try:
            return client.request(path)
        finally:
            client.close()

    def close(self) -> None:
        for client in self._open:
            client.close()
        self._threads.shutdown()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def app(examples: Examples, upstream: Upstream) -> Iterator[App]:
    running = examples.start(
        "FastAPI",
        UPSTREAM=f"http://127.0.0.1:{upstream.server_port}",
        UVICORN_PORT="0",
        UVICORN_TIMEOUT_KEEP_ALIVE="600",
        NO_PROXY="127.0.0.1",
    )
    made = App(running)
    examples.wait_for_nodes(WORKERS, "users")
    yield made
    running.close()  # before the threads that wait for it
    made.close()


def test_workers_share_fetched_values_until_they_are_ended(app: App, upstream: Upstream, examples: Examples) -> None:
    one, other = app.clients
    assert examples.registered()
    assert one.request("/healthz")[1]["members"] == WORKERS

    upstream.names["ada"] = "Ada"
    upstream.go_on.clear()
    answers = [app.ask("/users/ada") for _ in range(20)]
    wait_until(lambda: upstream.asked["ada"], PATIENCE)
    upstream.go_on.set()
    assert [answer.result(PATIENCE) for answer in answers] == [(200, {"login": "ada", "name": "Ada"})] * 20
    assert one.request("/users/ada") == other.request("/users/ada")
    assert upstream.asked["ada"] == 1

    upstream.names["ada"] = "Ada Lovelace"
    wait_until(lambda: one.request("/users/ada/changed", "POST") == (200, {"everywhere": True}), PATIENCE)
    for client in app.clients:
        assert client.request("/users/ada")[1]["name"] == "Ada Lovelace"
    assert upstream.asked["ada"] == 2

    for client in app.clients:
        assert client.request("/users/nobody") == (404, {"detail": "there is no user nobody"})
    assert upstream.asked["nobody"] == 1  # absence is remembered

    upstream.names["grace"] = None
    for client in app.clients:
        assert client.request("/users/grace") == (502, {"detail": "the users cannot be asked: HTTPStatusError"})
    upstream.names["grace"] = "Grace"
    assert other.request("/users/grace")[0] == 200  # a failure is not

    upstream.names["barbara"] = "Barbara"
    upstream.go_on.clear()
    answer = app.ask("/users/barbara")
    wait_until(lambda: upstream.asked["barbara"], PATIENCE)
    app.running.stop()
    app.running.wait_for("Shutting down", WORKERS)
    upstream.go_on.set()
    assert answer.result(PATIENCE) == (200, {"login": "barbara", "name": "Barbara"})
    assert app.running.end() == 0, app.running.said
    app.running.wait_for("Application shutdown complete", WORKERS)
    assert not examples.registered()
    # Of the failed loads alone, which the worker that loaded for another one logs.
    assert app.running.said.count("Traceback (most recent call last)") <= app.running.said.count(
        "the loader failed for"
    )
