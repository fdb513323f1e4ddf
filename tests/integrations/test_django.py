"""The cache backend for Django, in processes of their own. Its own tests are run by test_suites.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integrations.pair import ROOT, run_two

PROLOGUE = """
import asyncio, json, os, pickle, sys, threading, time, warnings
import django
from django.conf import settings

BACKEND = "kamacache.integrations.django.KamaCache"

def configured(**given):
    options = given.pop("OPTIONS", {})
    cache = {"BACKEND": BACKEND, "LOCATION": given.pop("LOCATION", "none"), "OPTIONS": options} | given.pop("CACHE", {})
    settings.configure(CACHES={"default": cache}, SECRET_KEY="x", **given)
    django.setup()
    from django.core.cache import cache
    return cache
"""


def run(code: str, **environ: str) -> Any:
    """Run code in a process of its own, and return what it prints last, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error", **environ},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_async_twins() -> None:
    found = run("""
cache = configured()

async def main():
    await cache.aset("a", {"x": [1]})
    await cache.aset_many({"b": 2, "n": None}, 100)
    said = [await cache.aget("a"), await cache.aget("none", 7), await cache.aget("n", 7),
            await cache.aget_many(["a", "b", "z"]), await cache.aadd("a", 1), await cache.aadd("c", 1),
            await cache.aincr("c", 4), await cache.adecr("c", 2), await cache.atouch("c", 100), await cache.atouch("z"),
            await cache.ahas_key("n"), await cache.adelete("a"), await cache.adelete("a"),
            await cache.aget_or_set("d", lambda: 5), await cache.aget_or_set("d", lambda: 6)]
    async def asked():
        return 8
    said.append(await cache.aget_or_set("e", asked))
    await cache.adelete_many(["b", "c"])
    said += [await cache.aget("b"), await cache.aclear(), await cache.aget("d")]
    try:
        await cache.aincr("gone")
    except ValueError as error:
        said.append(str(error))
    return said

print(json.dumps(asyncio.run(main())))
""")
    assert found == [
        *({"x": [1]}, 7, None, {"a": {"x": [1]}, "b": 2}, False, True, 5, 3, True, False, True, True, False, 5, 5, 8),
        *(None, True, None, "Key 'gone' not found"),
    ]


def test_get_or_set_runs_once_in_the_cluster(tmp_path: Path) -> None:
    """Two processes of eight threads ask at once: one runs the function; its own error reaches the one that ran it."""
    code = f"""
cache = configured(LOCATION="local://", OPTIONS={{"service": "once-{os.getpid()}"}})
here = open({str(tmp_path / "runs")!r}, "a")

def slow():
    here.write("x"); here.flush()
    import time; time.sleep(0.5)
    return os.getpid()

cache.get("warm")
agree("django", ":1:k")
found = []
threads = [threading.Thread(target=lambda: found.append(cache.get_or_set("k", slow, 60))) for _ in range(8)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
try:
    cache.get_or_set("bad" + str(os.getpid()), lambda: 1 / 0)
except ZeroDivisionError:
    found.append("its own error")
print(json.dumps(found), flush=True)
sys.stdin.read()
"""
    found = [json.loads(line) for line in run_two(PROLOGUE + code)]
    assert (tmp_path / "runs").read_text() == "x"
    assert len({value for values in found for value in values[:8]}) == 1
    assert [values[8:] for values in found] == [["its own error"]] * 2


def test_a_function_that_fails_fails_for_its_own_caller() -> None:
    """Callers that waited for a function that failed run their own: the errors are theirs, and so are the values."""
    found = run("""
cache = configured()

class Missing(Exception):
    pass

turns = iter(range(100))

def missing():
    time.sleep(0.2)
    raise Missing(next(turns))

def once_broken():
    time.sleep(0.2)
    if not next(turns):
        raise Missing
    return "made"

async def amissing():
    missing()

def said(ask, *args):
    try:
        return ask(*args)
    except Exception as error:
        return type(error).__name__

def together(key, function):
    found = []
    threads = [threading.Thread(target=lambda: found.append(said(cache.get_or_set, key, function))) for _ in range(4)]
    [thread.start() for thread in threads]; [thread.join() for thread in threads]
    return sorted(found)

async def main():
    asked = (cache.aget_or_set("a", amissing) for _ in range(3))
    return [type(one).__name__ for one in await asyncio.gather(*asked, return_exceptions=True)]

found = [together("k", missing), asyncio.run(main())]
turns = iter(range(100))
found += [together("once", once_broken), cache.get("once")]
found += [said(cache.get_or_set, "lock", threading.Lock), said(asyncio.run, cache.aget_or_set("lock", threading.Lock))]
print(json.dumps(found))
""")
    assert found == [
        *(["Missing"] * 4, ["Missing"] * 3, ["Missing", "made", "made", "made"], "made", "TypeError", "TypeError")
    ]


def test_values_that_are_too_large_are_dropped() -> None:
    found = run("""
cache = configured(OPTIONS={"max_bytes": "1 MiB"})
cache.set("k", "old")
cache.set("k", "x" * 1_000_000)
said = [cache.get("k"), cache.set_many({"k": "y" * 1_000_000, "j": 1}), cache.get_many(["k", "j"])]
try:
    cache.set("k", threading.Lock())
except TypeError as error:
    said.append("pickle" in str(error))
said += [cache.add("n", "x" * 1_000_000), asyncio.run(cache.aadd("n", "x" * 1_000_000)), cache.get("n")]
print(json.dumps(said))
""")
    assert found == [None, ["k"], {"j": 1}, True, False, False, None]


def test_sessions_and_views() -> None:
    found = run("""
cache = configured(
    SESSION_ENGINE="django.contrib.sessions.backends.cache", ROOT_URLCONF="__main__", ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=["django.contrib.sessions"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
)
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.cache import cache_page

runs = []

@cache_page(60)
def page(request):
    runs.append(1)
    return HttpResponse(f"run {len(runs)}")

def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse(str(request.session["visits"]))

urlpatterns = [path("page", page), path("visits", visits)]
from django.test import Client
client, other = Client(), Client()
asked = [client.get("/page"), other.get("/page"), client.get("/visits"), client.get("/visits"), other.get("/visits")]
print(json.dumps([answer.content.decode() for answer in asked]))
""")
    assert found == ["run 1", "run 1", "1", "2", "1"]


def test_a_node_of_the_project(tmp_path: Path) -> None:
    """The cache is a group of the node whose loaders the project has, which use the database on any thread."""
    (tmp_path / "shop_caching.py").write_text(
        """
import kamacache
from kamacache.integrations.django import with_connections

node = kamacache.Node()
closed = []

@node.loader("names", codec="text")
@with_connections
def names(key):
    from django.db import connection
    with connection.cursor() as cursor:
        return cursor.execute("select ?", [key]).fetchone()[0]
""".replace("?", "%s")
    )
    found = run(
        f"""
sys.path.insert(0, {str(tmp_path)!r})
database = {{"ENGINE": "django.db.backends.sqlite3", "NAME": {str(tmp_path / "db")!r}}}
cache = configured(OPTIONS={{"node": "shop_caching.node", "group": "pages"}}, DATABASES={{"default": database}})
import shop_caching
cache.set("k", 1)

async def main():
    return await shop_caching.names.aget("Ada")

from django.db import connections
opened = []
connect = connections["default"].__class__.close
connections["default"].__class__.close = lambda self: (opened.append(threading.get_ident()), connect(self))[1]
said = [asyncio.run(main()), sorted(shop_caching.node.groups), len(set(opened) - {{threading.get_ident()}})]
print(json.dumps(said))
"""
    )
    assert found == ["Ada", ["names", "pages"], 1]


def test_other_settings_in_a_test() -> None:
    """Use the options of overridden settings in the place of the old ones, and keep entries whose options stay."""
    found = run("""
cache = configured(OPTIONS={"max_bytes": "64 MiB"}, INSTALLED_APPS=["kamacache.integrations.django"])
from django.core.cache import caches
from django.core.checks import run_checks
from django.test import override_settings

def other(**options):
    return {"BACKEND": BACKEND, "LOCATION": "none", "OPTIONS": options}

cache.set("a", 1)
said = []
with override_settings(CACHES={"default": other(max_bytes="8 MiB"), "one": other(group="one")}):
    cache.set("b", 2); caches["one"].set("c", 3)
    said += [cache.get("a"), cache.get("b")]
    with override_settings(CACHES={"default": other(max_bytes="8 MiB"), "one": other(group="one", codec="json")}):
        said += [cache.get("b"), caches["one"].get("c")]
cache.set("a", 4)
said += [cache.get("a"), cache.get("b")]
with override_settings(CACHES={"default": other(max_bytes="8 MiB"), "two": other(max_bytes="16 MiB")}):
    said.append([found.id for found in run_checks(tags=["caches"]) if found.id == "kamacache.E001"])
print(json.dumps(said))
""")
    assert found == [None, 2, 2, None, 4, None, ["kamacache.E001"]]


def test_nodes_of_all_caches() -> None:
    """Give a worker the nodes to start, which have the groups of all caches, so that these are taken over too."""
    found = run("""
configured(CACHE={"OPTIONS": {"service": "nodes"}})
from django.test import override_settings
from kamacache.integrations.django import nodes

one = {"BACKEND": BACKEND, "LOCATION": "none"}
two = one | {"OPTIONS": {"group": "sessions"}}
other = one | {"OPTIONS": {"service": "other"}}
memory = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
with override_settings(CACHES={"default": one, "two": two, "memory": memory, "other": other}):
    from django.core.cache import caches
    assert caches["two"].node is caches["default"].node
    print(json.dumps([sorted(node.groups) for node in nodes()]))
""")
    assert found == [["django", "sessions"], ["django"]]


CHECKS = """
from django.core.checks import run_checks
def check(**given):
    configured(INSTALLED_APPS=["kamacache.integrations.django"], **given)
    print(json.dumps([[found.id, found.msg] for found in run_checks(tags=["caches"])]))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('LOCATION="local://"', []),
        ('LOCATION="local://", CACHE={"TIMEOUT": 0}', ["kamacache.W001"]),
        ('LOCATION="local://", OPTIONS={"MAX_ENTRIES": 10}', ["kamacache.W002"]),
        ("", ["kamacache.W003"]),
        (
            'LOCATION="local://", SESSION_ENGINE="django.contrib.sessions.backends.cache"',
            ["kamacache.W004"],
        ),
        ('LOCATION="nowhere://"', ["kamacache.E001"]),
        ('LOCATION="local://", OPTIONS={"max_byte": 1}', ["kamacache.E001"]),
        ('LOCATION="local://", OPTIONS={"node": "no.such.node"}', ["kamacache.E001"]),
        ('LOCATION="static://0.0.0.0:1,10.0.0.1:1"', ["kamacache.E001"]),
        ('LOCATION="static://10.0.0.1:1,10.0.0.2:1"', ["kamacache.E001"]),
        ('LOCATION="static://127.0.0.1:1", OPTIONS={"listen": "127.0.0.1:2"}', ["kamacache.E001"]),
        ('LOCATION="static://10.0.0.1:1", OPTIONS={"listen": "0.0.0.0:2", "password": "x"}', ["kamacache.E001"]),
        ('LOCATION="static://127.0.0.1:1", OPTIONS={"listen": "127.0.0.1:1"}', []),
        ('LOCATION="static://10.0.0.1:1", OPTIONS={"listen": "0.0.0.0:1", "password": "x"}', []),
        ('LOCATION="static://10.0.0.1:1", OPTIONS={"client": True, "password": "x"}', []),
        ('LOCATION="etcd://10.255.255.1"', ["kamacache.E001"]),
        ('LOCATION="etcd://10.255.255.1", OPTIONS={"insecure": True}', ["kamacache.E001"]),
        ('LOCATION="etcd://10.255.255.1", OPTIONS={"insecure": True, "codec": "json"}', []),
        ('LOCATION="etcd://10.255.255.1", OPTIONS={"password": "x"}', []),
        ('LOCATION="etcd://127.0.0.1"', []),
        ('LOCATION="dns://localhost:8001"', ["kamacache.E001"]),
        ('LOCATION="dns://localhost:8001", OPTIONS={"insecure": True}', ["kamacache.E001"]),
        ('LOCATION="dns://localhost:8001", OPTIONS={"listen": "127.0.0.1:8001"}', []),
        ('LOCATION="dns+srv://_a._tcp.b?server=127.0.0.1:1"', []),
        ('LOCATION="kubernetes://shop:8001"', ["kamacache.E001"]),
        ('LOCATION="local://", CACHE={"TIMEOUT": "10m"}', ["kamacache.E001"]),
        ('LOCATION="local://", CACHE={"TIMEOUT": [600]}', ["kamacache.E001"]),
        ('LOCATION="local://", CACHE={"TIMEOUT": "600"}', []),
    ],
)
def test_checks_of_settings(given: str, expected: list[str]) -> None:
    found = run(f"{CHECKS}\ncheck({given})")
    assert [name for name, _ in found] == expected
    assert all("default" in text or "Sessions" in text for _, text in found)
