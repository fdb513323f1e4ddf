"""Locks of Redis clients: the scripts that release and prolong them."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.lock import Lock

from kamacache import Node
from tests.clients.conftest import Connect
from tests.clients.nodes import Trio, where
from tests.cluster.cluster import wait_until

RELEASE = 'if redis.call("get",KEYS[1]) == ARGV[1] then\n    return redis.call("del",KEYS[1])\nelse\n    return 0\nend'
PEXPIRE = RELEASE.replace('"del",KEYS[1]', '"PEXPIRE", KEYS[1], ARGV[2]')
NAME = "plain:lock"


def test_one_holds_the_lock_at_a_time(trio: Trio, connected: Connect) -> None:
    clients = [connected(node) for node in trio.nodes]
    held, most, count = [0], [0], [0]

    def work(client: Any) -> None:
        for _ in range(10):
            with client.lock(NAME, timeout=10, sleep=0.001):
                held[0] += 1
                most[0] = max(most[0], held[0])
                before = count[0]
                time.sleep(0.001)
                count[0] = before + 1
                held[0] -= 1

    threads = [threading.Thread(target=work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most, count) == ([1], [30])
    assert clients[0].get(NAME) is None


def test_a_lock_is_prolonged_and_released_by_its_holder_alone(trio: Trio, connected: Connect) -> None:
    first, second = connected(trio.nodes[0]), connected(trio.nodes[1])
    lock, other = first.lock(NAME, timeout=100), second.lock(NAME, timeout=100, blocking=False)
    assert lock.acquire()
    assert not other.acquire()
    assert lock.extend(50)
    assert 149_000 < second.pttl(NAME) <= 150_000
    assert lock.extend(20, replace_ttl=True)
    assert 19_000 < second.pttl(NAME) <= 20_000
    assert lock.reacquire()
    assert 99_000 < second.pttl(NAME) <= 100_000
    other.local.token = b"of nobody"
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        other.extend(1)
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        other.reacquire()
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        other.release()
    assert lock.owned()
    lock.release()
    assert other.acquire()
    other.release()


def test_a_lock_that_ran_out_is_no_longer_its_holders(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    lock = client.lock(NAME, timeout=0.05)
    assert lock.acquire()
    wait_until(lambda: not client.exists(NAME))
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        lock.extend(1)
    client.set(NAME, "another's")
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        lock.release()
    assert client.get(NAME) == b"another's"


def test_a_lock_without_a_time_is_not_extended(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    lock = client.lock(NAME, timeout=10)
    assert lock.acquire()
    assert client.persist(NAME)
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        lock.extend(1)
    assert client.ttl(NAME) == -1


@pytest.mark.parametrize("token", ["text", "12", "-0", b"\xff\x00\xfe", "", "[1]"])
def test_any_token(trio: Trio, connected: Connect, token: str | bytes) -> None:
    one, other = connected(trio.nodes[0]), connected(trio.nodes[1])
    assert one.set(NAME, token, nx=True)
    assert other.eval(RELEASE, 1, NAME, "not it") == 0
    assert other.eval(PEXPIRE, 1, NAME, token, 5_000) == 1
    assert 4_000 < one.pttl(NAME) <= 5_000
    assert other.eval(RELEASE, 1, NAME, token) == 1
    assert other.eval(RELEASE, 1, NAME, token) == 0
    assert one.exists(NAME) == 0


def test_scripts_by_name(trio: Trio, connected: Connect) -> None:
    """Let a client send the text once to each node."""
    one, other = connected(trio.nodes[0]), connected(trio.nodes[1])
    script = one.register_script(RELEASE)
    with pytest.raises(redis.exceptions.NoScriptError):
        one.evalsha(script.sha, 1, NAME, "x")
    assert one.script_load(RELEASE) == script.sha
    one.set(NAME, "x")
    assert one.evalsha(script.sha.upper(), 1, NAME, "x") == 1
    with pytest.raises(redis.exceptions.NoScriptError):
        other.evalsha(script.sha, 1, NAME, "x")
    other.set(NAME, "x")
    assert script(keys=[NAME], args=["x"], client=other) == 1
    assert one.script_load(Lock.LUA_RELEASE_SCRIPT) != script.sha


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("EVAL", "return 1", 1, NAME), "there are no Lua scripts here, but for those that release a lock"),
        (("EVAL", "return 1", 0), "there are no Lua scripts here, but for those of locks, which have one key"),
        (("EVAL", RELEASE, 2, NAME, NAME), "there are no Lua scripts here, but for those of locks"),
        (("EVAL", RELEASE, 1), "Number of keys can't be greater than number of args"),
        (("EVAL", RELEASE, 1, "nogroup:lock", "x"), "no group 'nogroup' here"),
        (("EVAL", PEXPIRE, 1, NAME, "x"), "value is not an integer or out of range"),
        (("EVAL", PEXPIRE, 1, NAME, "x", "1.5"), "value is not an integer or out of range"),
        (("SCRIPT", "LOAD", "return 1"), "there are no Lua scripts here"),
        (("SCRIPT", "KILL"), "SCRIPT KILL is not supported here"),
        (("EVAL", RELEASE), "wrong number of arguments for 'eval' command"),
    ],
)
def test_what_is_refused(trio: Trio, connected: Connect, command: tuple[Any, ...], text: str) -> None:
    client = connected(trio.nodes[0])
    client.set(NAME, "x", ex=100)
    with pytest.raises(redis.ResponseError) as raised:
        client.execute_command(*command)
    assert text in str(raised.value)
    assert client.ttl(NAME) > 90


def test_a_time_that_is_over_releases(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    client.set(NAME, "x")
    assert client.eval(PEXPIRE, 1, NAME, "x", 0) == 1
    assert client.exists(NAME) == 0
    assert client.eval(RELEASE, 1, NAME) == 0


def test_what_a_client_is_shown_is_compared(trio: Trio, connected: Connect) -> None:
    """Compare a value with tags, an integer, and one that is compressed as GET shows them."""
    trio.nodes[0].group("packed", codec="text", compress_above="1 KiB", near_ttl=0)
    client = connected(trio.nodes[0])
    trio.nodes[0].groups["plain"].set("lock", b"token", tags=["a"])
    assert client.eval(RELEASE, 1, NAME, "token") == 1
    client.incr(NAME, 7)
    assert client.eval(PEXPIRE, 1, NAME, "7", 5000) == 1
    assert client.eval(RELEASE, 1, NAME, "7") == 1
    client.set("packed:lock", "x" * 5000)
    assert client.eval(RELEASE, 1, "packed:lock", "x" * 5000) == 1


@pytest.mark.parametrize("given", ["1" * 400, "1000000000000001", "1_0", " 7 ", "", "0x7", "1.0", "9" * 19])
def test_times_that_are_none(trio: Trio, connected: Connect, given: str) -> None:
    client = connected(trio.nodes[0])
    client.set(NAME, "x", ex=100)
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        client.eval(PEXPIRE, 1, NAME, "x", given)
    assert client.ttl(NAME) > 90


def test_the_oldest_text_is_forgotten(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    digests = [client.script_load(RELEASE + " " * number) for number in range(150)]
    client.set(NAME, "x")
    assert client.evalsha(digests[-1], 1, NAME, "x") == 1
    with pytest.raises(redis.exceptions.NoScriptError):
        client.evalsha(digests[0], 1, NAME, "x")


def test_a_lock_is_released_while_another_node_joins(tmp_path: Path) -> None:
    """Release what another member owned before: a new owner takes it in first."""
    place = f"local://{tmp_path}"
    with Node(registry=place, service="locks") as first:
        first.group("plain")
        client = redis.Redis(**where(first))
        names = [f"plain:lock{number}" for number in range(300)]
        for name in names:
            assert client.set(name, "token", nx=True, ex=100)
        with Node(registry=place, service="locks") as second:
            second.group("plain")
            assert [name for name in names if client.eval(RELEASE, 1, name, "token") != 1] == []
            assert client.exists(*names) == 0
        client.close()
