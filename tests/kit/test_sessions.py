"""The test kit beside other tools: each test runs a session of pytest with them, as users do."""

from __future__ import annotations

from pathlib import Path

from tests.kit.sessions import passed

ALONE = 'import os\n\nos.environ["KAMACACHE_REGISTRY"] = "none"\n'


def test_xdist(tmp_path: Path) -> None:
    """Two workers import an application whose node would find the others, and share what they load."""
    app = """
from kamacache import Node

node = Node.from_env(registry="local://", service="kit-xdist")


@node.loader(codec="text")
def users(key):
    return f"user {key}"
"""
    tests = """
import os

import pytest
from app import node, users


@pytest.fixture(autouse=True)
def fresh():
    yield
    node.reset()


@pytest.mark.parametrize("number", range(6))
def test_alone(number, kamacache_node):
    assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
    assert users.get("7") == "user 7"
    assert users.stats().loads == 1
    assert len(node.members()) == len(kamacache_node.members()) == 1
"""
    assert passed(tmp_path, {"conftest.py": ALONE, "app.py": app, "test_app.py": tests}, "-n", "2", plugin="xdist") == 6


def test_asyncio_with_a_loop_for_each_test(tmp_path: Path) -> None:
    """A node of the module runs its async loaders on the loop of the test that asks, also after a test without one."""
    tests = """
import asyncio

import pytest
from kamacache import Node

node = Node()
loops = []


@node.loader(codec="text")
async def users(key):
    loops.append(asyncio.get_running_loop())
    await asyncio.sleep(0.001)
    return f"user {key}"


@pytest.fixture(autouse=True)
def fresh():
    yield
    node.reset()


def test_before():
    assert users.get("7") == "user 7"


async def test_first():
    assert await users.aget("7") == "user 7"
    assert loops[-1] is asyncio.get_running_loop()
    asyncio.create_task(users.aget("left behind"))
    await asyncio.sleep(0)


async def test_second(kamacache_node):
    assert await asyncio.gather(*(users.aget("7") for _ in range(3))) == ["user 7"] * 3
    assert loops[-1] is asyncio.get_running_loop()
    assert users.stats().loads == 1
    mine = kamacache_node.group("mine", users.loader, codec="text")
    assert await mine.aget("8") == "user 8"
    assert loops[-1] is asyncio.get_running_loop()


def test_after():
    assert users.get("7") == "user 7"
    assert len(set(loops)) == 4
"""
    options = ("-oasyncio_mode=auto", "-oasyncio_default_fixture_loop_scope=function")
    assert passed(tmp_path, {"test_app.py": tests}, *options, plugin="asyncio") == 4


def test_frozen_clocks(tmp_path: Path) -> None:
    """Neither freezegun nor time-machine moves a node: ttl goes on, waits end, and nothing breaks before or after."""
    tests = """
import asyncio
import threading
import time
from datetime import datetime, timedelta

import kamacache
import pytest
import time_machine
from freezegun import freeze_time
from kamacache.deadline import Deadline

sleep = time.sleep
FREEZERS = [
    lambda: freeze_time("2030-01-01"),
    lambda: freeze_time("1990-01-01", tick=True),
    lambda: time_machine.travel(datetime(2030, 1, 1), tick=False),
    lambda: time_machine.travel(datetime(1990, 1, 1)),
]


@pytest.mark.parametrize("freeze", FREEZERS)
def test_frozen(freeze, kamacache_node):
    stop = threading.Event()
    held = kamacache_node.group("held", lambda key: stop.wait(20) and b"v", load_timeout=0.1)
    short = kamacache_node.group("short", str.encode, ttl=0.05, jitter=0)
    kamacache_node.start()
    with freeze():
        assert short.get("k") == b"k"
        with pytest.raises(kamacache.LoadTimeout):  # joins the load of the thread, and waits in vain
            leader = threading.Thread(target=held.get, args=["k"])
            leader.start()
            while not len(kamacache_node._groups.cores["held"].misses.local.flights):
                sleep(0.001)
            held.get("k")
        while short.peek("k") is not None:
            sleep(0.01)
    stop.set()
    leader.join()
    assert short.get("k") == b"k"


@pytest.mark.parametrize("freeze", FREEZERS)
def test_async_loader_of_a_plain_get_ends_in_its_time(freeze, kamacache_node):
    cancelled = threading.Semaphore(0)

    async def load(key):
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.release()

    group = kamacache_node.group("g", load, load_timeout=0.1)
    with freeze():
        with pytest.raises(kamacache.LoadTimeout):
            group.get("k")
        assert cancelled.acquire(timeout=10)
    with pytest.raises(kamacache.LoadTimeout):
        group.get("k")
    assert cancelled.acquire(timeout=10)


@pytest.mark.parametrize("freeze", FREEZERS)
def test_a_deadline_goes_on(freeze):
    before = Deadline.after(60)
    with freeze():
        assert 30 < before.left() <= 60
        inside = Deadline.after(60)
    assert 30 < inside.left() <= 60


@pytest.mark.parametrize("freeze", FREEZERS)
def test_cluster(freeze, kamacache_cluster):
    first, second = kamacache_cluster(2, lambda node: node.group("g", str.encode))
    keys = [str(number) for number in range(20)]
    with freeze():
        assert len(first.groups["g"].get_many(keys)) == 20
        assert second.groups["g"].delete_many(keys) is True
    assert len(second.groups["g"].get_many(keys)) == 20
    assert len(first.members()) == 2


def test_the_clock_of_the_kit_moves_ttl(kamacache_node, kamacache_clock):
    with freeze_time("2030-01-01") as frozen:
        group = kamacache_node.group("g", str.encode, ttl="1h", jitter=0)
        group.get("k")
        frozen.tick(timedelta(hours=2))
        assert group.peek("k") == b"k"
        kamacache_clock.advance(3600)
        assert group.peek("k") is None
"""
    assert passed(tmp_path, {"test_app.py": tests}, plugin="time_machine") == 17


def test_django(tmp_path: Path) -> None:
    """A plain loader runs on the thread of the test, so it sees what the test has not committed."""
    conftest = (
        ALONE
        + """
import django
import pytest
from django.conf import settings

database = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(INSTALLED_APPS=["django.contrib.contenttypes"], DATABASES={"default": database}, USE_TZ=True)
django.setup()


@pytest.fixture(scope="session", autouse=True)
def databases():
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(made, verbosity=0)
"""
    )
    tests = """
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.test import TestCase
from kamacache import Node
from kamacache.testing import fake

node = Node.from_env(registry="local://", service="kit-django")


@node.loader(codec="text")
def models(key):
    return ContentType.objects.filter(app_label=key).values_list("model", flat=True).first()


class TestModels(TestCase):
    def setUp(self):
        self.addCleanup(node.reset)

    def test_first(self):
        assert models.get("shop") is None
        with self.captureOnCommitCallbacks(execute=True):
            ContentType.objects.create(app_label="shop", model="order")
            transaction.on_commit(lambda: models.delete("shop"))
        assert models.get("shop") == "order"

    def test_second(self):
        assert models.get("shop") is None  # rolled back, and not in the cache either
        with fake(models, {"shop": "basket"}):
            assert models.get("shop") == "basket"
"""
    assert passed(tmp_path, {"conftest.py": conftest, "test_app.py": tests}) == 2


def test_fastapi(tmp_path: Path) -> None:
    """Enter an application again and again, with the node of its module, and with one that its lifespan makes."""
    app = """
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from kamacache import Node

started = Node.from_env(registry="local://", service="kit-fastapi")
loaded = []


@started.loader(codec="text")
async def names(key):
    loaded.append(key)
    return f"name {key}"


async def load_user(key):
    loaded.append(key)
    return {"id": key}


@asynccontextmanager
async def lifespan(app):
    async with started, Node.from_env(registry="local://", service="kit-fastapi") as node:
        app.state.users = node.group("users", load_user, codec="json")
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/users/{key}")
async def user(key: str, request: Request) -> Any:
    return await request.app.state.users.aget(key), await names.aget(key)
"""
    tests = """
import pytest
from app import app, loaded, names, started
from fastapi.testclient import TestClient
from kamacache.testing import fake


@pytest.fixture
def client():
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("turn", [1, 2])
def test_entered(turn, client):
    loaded.clear()
    for _ in range(2):
        assert client.get("/users/7").json() == [{"id": "7"}, "name 7"]
    assert loaded == ["7", "7"]


def test_faked(client):
    with fake(app.state.users, {"7": {"id": "faked"}}), fake(names, {"7": "faked"}):
        assert client.get("/users/7").json() == [{"id": "faked"}, "faked"]
"""
    newer = "-Wignore:Using `httpx`"  # starlette would rather have another library
    assert passed(tmp_path, {"conftest.py": ALONE, "app.py": app, "test_app.py": tests}, newer) == 3
