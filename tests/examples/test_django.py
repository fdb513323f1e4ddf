"""examples/django_app.py, served by two workers of gunicorn: what one computes, the other answers with."""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.examples.conftest import PATIENCE, Examples, Running


@pytest.fixture
def running(examples: Examples) -> Running:
    running = examples.start("Django", GUNICORN_CMD_ARGS="--bind 127.0.0.1:0")
    examples.wait_for_nodes(2, "django")  # they join before their first request
    return running


@pytest.fixture
def port(running: Running) -> int:
    return int(running.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[0][1])


def ask(port: int, path: str, method: str = "GET") -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 200
        return response.read().decode()


def test_new_workers_take_over_without_traffic(running: Running, port: int, examples: Examples) -> None:
    reports = [f"/reports/{number}" for number in range(12)]  # some for each worker
    with ThreadPoolExecutor(8) as threads:
        before = list(threads.map(lambda report: ask(port, report), reports))
    running.reload()
    running.wait_for("Worker exiting", 2)
    running.wait_for("Booting worker", 4)
    examples.wait_for_nodes(2, "django")
    assert [ask(port, report) for report in reports] == before


def test_one_worker_computes_for_all(port: int, examples: Examples) -> None:
    examples.wait_for_nodes(2, "django")
    ask(port, "/")  # cache_page has no lock: several workers may render what none has kept
    with ThreadPoolExecutor(8) as threads:
        reports = set(threads.map(lambda _: ask(port, "/reports/7"), range(40)))
        assert len(reports) == 1
        assert len(set(threads.map(lambda _: ask(port, "/"), range(20)))) == 1
        gone = [json.loads(ask(port, "/reports/7", "DELETE")) for _ in range(2)]
    assert gone == [{"existed": True}, {"existed": False}]
