"""gunicorn reloads: its new workers take over the values of the old ones, which end at the same time."""

from __future__ import annotations

import http.client
import re
from contextlib import closing

import pytest

from tests.cluster.cluster import wait_until
from tests.examples.conftest import PATIENCE, Examples

KEYS = 400
APP = f"""
import os
from kamacache import Node
from kamacache.cluster import exchange
from kamacache.net import native

native.PEEK_TIMEOUT = native.FORMER_TIMEOUT = exchange.HELLO_TIMEOUT = 10.0  # the machine of the test may be starved
node = Node.from_env(service="shop")

def load(key):
    os.write(1, f"loaded {{key}}\\n".encode())
    return b"value of " + key.encode()

group = node.group("g", load, ttl="1h")

def application(environ, start_response):
    values = group.get_many([f"key{{number}}" for number in range({KEYS})])
    os.write(1, b"answers\\n")  # after what it has loaded
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{len(values)}} {{os.getpid()}}".encode()]
"""
HOOKS = """
def post_worker_init(_):
    from app import node

    node.start()


def worker_exit(_, worker):
    from app import node

    node.close(drain="30s")  # of which it needs a fraction
"""


@pytest.mark.parametrize("workers", [2, 4])
def test_a_reload_keeps_the_values(examples: Examples, workers: int) -> None:
    """Load at most 10 % of the keys again."""
    (examples.directory / "app.py").write_text(APP)
    (examples.directory / "gunicorn.conf.py").write_text(HOOKS)
    place = f"--chdir {examples.directory} -c {examples.directory}/gunicorn.conf.py"
    running = examples.run(f"gunicorn {place} -w {workers} -b 127.0.0.1:0 app:application")
    (listening,) = running.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+) \((\d+)\)")
    port = int(listening[1])

    def ask() -> int:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            connection.request("GET", "/")
            found, worker = connection.getresponse().read().split()
            assert int(found) == KEYS
            return int(worker)

    examples.wait_for_nodes(workers, "g")
    ask()
    old = {int(booted[1]) for booted in running.wait_for(r"Booting worker with pid: (\d+)", workers)}
    running.wait_for("answers")
    before = running.said.count("loaded key")
    running.reload()
    running.wait_for("Worker exiting", workers)
    wait_until(lambda: len(re.findall("Booting worker", running.said)) == 2 * workers, PATIENCE)
    examples.wait_for_nodes(workers, "g")
    assert ask() not in old
    running.wait_for("answers", 2)
    again = running.said.count("loaded key") - before
    assert again <= KEYS * 0.1
