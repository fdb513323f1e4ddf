"""The backend for dogpile.cache. Its own suites are run by test_suites.py."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from dogpile.cache import make_region

from kamacache import PeerError
from kamacache.group.lock import Lock
from tests.integrations.pair import run_two


@pytest.fixture
def region() -> Any:
    return make_region().configure("kamacache", expiration_time=60, arguments={"place": "none", "group": "own"})


def test_many_values_at_once(region: Any) -> None:
    region.set_multi({"a": 1, "b": [2]})
    assert region.get_or_create_multi(["a", "b", "c"], lambda *keys: [key.upper() for key in keys]) == [1, [2], "C"]
    region.delete_multi(["a", "b"])
    assert not region.get("a")
    assert region.get("c") == "C"


def test_a_value_that_is_too_large() -> None:
    region = make_region().configure("kamacache", arguments={"place": "none", "group": "tiny", "max_bytes": "1 MiB"})
    region.set("k", "old")
    region.set_multi({"k": "x" * 1_000_000, "j": 1})
    assert not region.get("k")
    assert region.get("j") == 1
    assert region.get_or_create("k", lambda: "y" * 1_000_000) == "y" * 1_000_000


def test_arguments_that_are_unknown(caplog: pytest.LogCaptureFixture) -> None:
    make_region().configure("kamacache", arguments={"place": "none", "group": "known", "max_byte": 1})
    assert "unknown here: max_byte" in caplog.text


def test_one_process_creates_for_all(tmp_path: Path) -> None:
    """Two processes of four threads ask for the same keys: each is created once in all."""
    code = f"""
import sys, threading, time
from dogpile.cache import make_region
region = make_region().configure(
    "kamacache", expiration_time=60, arguments={{"place": "local://", "service": "dogpile-{os.getpid()}"}}
)
region.get("warm")
agree("dogpile", "k0")

def create(key):
    with open({str(tmp_path / "runs")!r}, "a") as runs:
        runs.write(key + " ")
    time.sleep(0.05)
    return key

def ask():
    for number in range(10):
        key = f"k{{number}}"
        assert region.get_or_create(key, lambda: create(key)) == key

threads = [threading.Thread(target=ask) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("done", flush=True)
sys.stdin.read()
"""
    assert run_two(code) == ["done\n"] * 2
    assert sorted((tmp_path / "runs").read_text().split()) == [f"k{number}" for number in range(10)]


def test_a_value_is_made_without_a_lock_whose_owner_is_stopped(tmp_path: Path) -> None:
    code = f"""
import json, logging, os, pathlib, signal, sys, time
from dogpile.cache import make_region
region = make_region().configure(
    "kamacache", expiration_time=60, arguments={{"place": "local://", "service": "stopped-{os.getpid()}"}}
)
region.get("warm")
(node,) = _nodes.values()
def pid_of(address):
    return pathlib.Path({str(tmp_path)!r}) / address.replace("/", "_")
pid_of(node.address).write_text(str(os.getpid()))
agree("dogpile", "\\x01lock:k")
owner = node.owner("dogpile", "\\x01lock:k").address
if owner == node.address:
    print("null", flush=True)
    sys.stdin.read()
else:
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("kamacache").addHandler(handler)
    pid = int(pid_of(owner).read_text())
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    try:
        made = region.get_or_create("k", lambda: "made")
        took = time.monotonic() - began
    finally:
        os.kill(pid, signal.SIGCONT)
    print(json.dumps([made, took, [text for text in said if "without its lock" in text]]), flush=True)
    sys.stdin.read()
"""
    (found,) = [found for found in map(json.loads, run_two(code)) if found]
    made, took, said = found
    assert (made, len(said)) == ("made", 1)
    assert took < 5


def test_a_waiter_takes_the_lock_of_a_process_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import json, os, pathlib, signal, sys, time
from dogpile.cache import make_region
region = make_region().configure(
    "kamacache", expiration_time=60, arguments={{"place": "local://", "service": "killed-{os.getpid()}"}}
)
region.get("warm")
(node,) = _nodes.values()
agree("dogpile", "\\x01lock:k")
holder = pathlib.Path({str(tmp_path)!r}) / "holder"

def create():
    holder.with_suffix(".new").write_text(str(os.getpid()))
    holder.with_suffix(".new").rename(holder)
    print("null", flush=True)
    time.sleep(600)

if node.owner("dogpile", "\\x01lock:k").address != node.address:
    region.get_or_create("k", create)
else:
    while not holder.exists():
        time.sleep(0.01)
    taken = region.backend.get_mutex("k").acquire(False)
    os.kill(int(holder.read_text()), signal.SIGKILL)
    began = time.monotonic()
    made = region.get_or_create("k", lambda: "made")
    print(json.dumps([taken, made, time.monotonic() - began]), flush=True)
    sys.stdin.read()
"""
    (found,) = [found for found in map(json.loads, run_two(code)) if found]
    taken, made, took = found
    assert (taken, made) == (False, "made")
    assert took < 20


def test_a_creator_without_the_lock_does_not_release_that_of_another(region: Any) -> None:
    mutex = region.backend.get_mutex("k")
    assert mutex.acquire()
    with mock.patch.object(Lock, "__enter__", side_effect=PeerError("the owner is silent")):
        assert mutex.acquire()
    mutex.release()
    assert mutex.locked()
    mutex.release()
    assert not mutex.locked()
