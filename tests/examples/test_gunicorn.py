"""The shop of examples/gunicorn_workers, served by gunicorn: one load for all workers, one delete for all."""

from __future__ import annotations

import http.client
import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster.cluster import wait_until
from tests.examples.conftest import PATIENCE, Examples, Running

WORKERS = 4


class Answer(NamedTuple):
    status: int
    worker: str
    body: Any


class Shop:
    def __init__(self, running: Running, database: Path) -> None:
        self.running = running
        self.port = int(running.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[0][1])
        self._database = database
        self._threads = ThreadPoolExecutor(WORKERS)

    def request(self, path: str, body: str | None = None) -> Answer:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request("GET" if body is None else "PUT", path, body)
            response = connection.getresponse()
            return Answer(response.status, response.headers["X-Worker"], json.load(response))

    def ask(self, path: str) -> Future[Answer]:
        return self._threads.submit(self.request, path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the database, so that no worker reads it meanwhile."""
        with closing(sqlite3.connect(self._database, timeout=PATIENCE)) as database, database:
            database.execute("BEGIN EXCLUSIVE")
            yield

    def ask_all(self, path: str) -> list[Answer]:
        """Ask each worker, all at once: a sync worker that waits for the database takes no second request."""
        before = len(self.running.lines)
        with self.held():
            answers = [self.ask(path) for _ in range(WORKERS)]
            self.running.wait_for(f"DEBUG. GET {path}$", WORKERS, after=before)
        return [answer.result(PATIENCE) for answer in answers]

    def reads(self, key: str) -> int:
        return sum(line.endswith(f" reads product {key}\n") for line in self.running.lines)

    def close(self) -> None:
        self._threads.shutdown()


@pytest.fixture(params=["", "--preload"], ids=["loaded in workers", "preloaded"])
def shop(request: pytest.FixtureRequest, examples: Examples) -> Iterator[Shop]:
    database = examples.directory / "shop.sqlite3"
    options = f"--bind 127.0.0.1:0 --log-level debug {request.param}"
    running = examples.start("gunicorn workers", SHOP_DATABASE=str(database), GUNICORN_CMD_ARGS=options)
    made = Shop(running, database)
    examples.wait_for_nodes(WORKERS, "products")
    yield made
    running.close()  # before the threads that wait for it
    made.close()


def test_workers_share_one_cache_until_they_are_ended(shop: Shop, examples: Examples) -> None:
    towel = {"id": "42", "name": "Towel", "price": 9.99}
    answers = shop.ask_all("/products/42")
    assert [(answer.status, answer.body) for answer in answers] == [(200, towel)] * WORKERS
    workers = {answer.worker for answer in answers}
    assert len(workers) == WORKERS
    assert shop.reads("42") == 1

    dearer = '{"name": "Towel", "price": 12.5}'
    wait_until(lambda: shop.request("/products/42", dearer).body == {"everywhere": True}, PATIENCE)
    answers = shop.ask_all("/products/42")
    assert [answer.body for answer in answers] == [towel | {"price": 12.5}] * WORKERS
    assert {answer.worker for answer in answers} == workers
    assert shop.reads("42") == 2

    assert [shop.request("/products/7")[::2] for _ in range(2)] == [(404, None)] * 2
    assert shop.reads("7") == 1

    with shop.held():
        answer = shop.ask("/products/43")
        shop.running.wait_for("reads product 43")  # by its owner, that another worker may have asked
        shop.running.stop()
        shop.running.wait_for("Worker exiting", WORKERS - 1)
    assert answer.result(PATIENCE).status == 404
    assert shop.running.end() == 0
    assert not examples.registered()
    assert "Traceback" not in shop.running.said
    assert "Exception" not in shop.running.said
