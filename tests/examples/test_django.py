"""examples/django_app.py, served by two workers of gunicorn: what one computes, the other answers with."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.examples.conftest import PATIENCE, Examples


@pytest.fixture
def port(examples: Examples) -> int:
    running = examples.start("Django", GUNICORN_CMD_ARGS="--bind 127.0.0.1:0")
    return int(running.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[0][1])


def ask(port: int, path: str, method: str = "GET") -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def test_one_worker_computes_for_all(port: int, examples: Examples) -> None:
    with ThreadPoolExecutor(8) as threads:
        # A worker joins with its first request.
        examples.wait_for_nodes(2, "django", lambda: list(threads.map(lambda _: ask(port, "/"), range(8))))
        reports = set(threads.map(lambda _: ask(port, "/reports/7"), range(40)))
        assert len(reports) == 1
        assert len(set(threads.map(lambda _: ask(port, "/"), range(20)))) == 1
        gone = [json.loads(ask(port, "/reports/7", "DELETE")) for _ in range(2)]
    assert gone == [{"existed": True}, {"existed": False}]
