"""Servers that make their workers by fork or anew, and end them all the time: each request gets its answer."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.asking import Stalls, union, within
from tests.cluster.cluster import wait_until
from tests.etcd.server import free_port
from tests.support.environment import own_environment

ROOT = Path(__file__).parents[2]
SOAK = "KAMACACHE_SOAK" in os.environ
REQUESTS = 10_000 if SOAK else 200
CLIENTS = 16
PATIENCE = 60.0  # seconds for the start of workers
LONGEST = 20.0  # seconds for a request that waits until a worker has imported the application
KEYS = [f"key{number}" for number in range(200)]

GUNICORN = "gunicorn tests.deploy.served:application -w 4 --threads 4 --max-requests 300 --max-requests-jitter 100"
HTTP = {
    "gunicorn": f"{GUNICORN} -b 127.0.0.1:PORT",
    "gunicorn preloaded": f"{GUNICORN} -b 127.0.0.1:PORT --preload",
    "gunicorn used before the fork": f"{GUNICORN} -b 127.0.0.1:PORT --preload",
    "uvicorn": "uvicorn tests.deploy.served:app --host 127.0.0.1 --port PORT --workers 4 --log-level warning",
}
CELERY = "celery -A tests.deploy.served_tasks:tasks worker -P prefork -c 4 --max-tasks-per-child 10 -l WARNING"
QUIET = "--without-gossip --without-mingle --without-heartbeat"


@contextmanager
def running(command: str, directory: Path, *, early: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server; end it by SIGTERM, and check that it ends."""
    for name in ("queue", "control", "results", "done"):
        (directory / name).mkdir()
    environment = own_environment() | {
        "HOME": str(directory),  # gunicorn has a control socket there
        "KAMACACHE_REGISTRY": f"local://{directory}/reg",
        "SERVED_FOLDER": str(directory),
        "PYTHONPATH": str(ROOT),
    }
    environment |= {"SERVED_EARLY": "1"} if early else {}
    program, *arguments = command.split()
    with (directory / "log").open("w") as log:
        server = subprocess.Popen(
            [f"{sysconfig.get_path('scripts')}/{program}", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield server
        server.terminate()
        assert server.wait(30) == 0, (directory / "log").read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def ask(port: int, key: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", f"/{key}", headers={"Connection": "close"})
        response = connection.getresponse()
        return f"{response.status} {response.read().decode()}"


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.parametrize("server", HTTP if SOAK else ["gunicorn used before the fork"])
def test_each_request_is_answered(server: str, tmp_path: Path) -> None:
    port = free_port()
    ends: Counter[str] = Counter()
    waits: list[tuple[float, float]] = []
    turns = itertools.count()

    def work(seed: int) -> None:
        chance = random.Random(seed)
        while next(turns) < REQUESTS:
            key = chance.choice(KEYS)
            began = time.monotonic()
            try:
                answer = ask(port, key)
                ends["right" if answer == f"200 value of {key}" else answer] += 1
            except Exception as error:  # noqa: BLE001 - counted
                ends[repr(error)] += 1
            waits.append((time.monotonic() - began, began))

    with running(HTTP[server].replace("PORT", str(port)), tmp_path, early="before" in server):
        wait_until(lambda: accepts(port), PATIENCE)
        for key in KEYS[:20]:  # until the workers are up
            ask(port, key)
        stalls = Stalls()
        clients = [threading.Thread(target=work, args=(seed,)) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        seen = union(stalls.end())
    assert ends == {"right": REQUESTS}, (tmp_path / "log").read_text()[-2000:]
    assert max(took - within(seen, began, took) for took, began in waits) < LONGEST
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("early", [False, True] if SOAK else [True])
def test_each_task_of_celery_is_done(early: bool, tmp_path: Path) -> None:
    """Let children of a prefork pool, each of which ends after ten tasks, get keys in every task."""
    with running(f"{CELERY} {QUIET}", tmp_path, early=early):
        tasks = [" ".join(random.choices(KEYS, k=10)) for _ in range(REQUESTS // 10)]
        send(tasks, tmp_path)
        done, since = 0, time.monotonic()
        while done < len(tasks) * 10:
            now = sum(len(path.read_text().splitlines()) for path in (tmp_path / "done").iterdir())
            if now > done:
                done, since = now, time.monotonic()
            assert time.monotonic() - since < PATIENCE, f"{done} of {len(tasks) * 10}"
            time.sleep(0.1)
        assert len(list((tmp_path / "done").iterdir())) >= len(tasks) / 10
    assert "Traceback" not in (tmp_path / "log").read_text()


def send(tasks: list[str], directory: Path) -> None:
    code = "import sys; from tests.deploy.served_tasks import ask; [ask.delay(keys.split()) for keys in sys.stdin]"
    environment = own_environment() | {"SERVED_FOLDER": str(directory)}
    subprocess.run([sys.executable, "-c", code], input="\n".join(tasks).encode(), check=True, cwd=ROOT, env=environment)
