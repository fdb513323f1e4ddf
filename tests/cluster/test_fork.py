"""A process that forks: the child is a member of its own, empty, and the parent is none the worse."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kamacache import Group, Node
from tests.cluster.cluster import in_thread, wait_until
from tests.support.environment import own_environment

pytestmark = pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")

SOAK = "KAMACACHE_SOAK" in os.environ
TIMES = 30 if SOAK else 12
REQUESTS = 10_000 if SOAK else 100  # of children that are forked from every kind of thread, or by one method
PER_CHILD = 5
ANSWER = 15.0  # seconds that a child has


class Child:
    """A forked process that runs `work(tell)`; the arguments of `tell` arrive as JSON."""

    def __init__(self, work: Callable[[Callable[[Any], None]], object]) -> None:
        self._end, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        status = 1
        try:
            signal.alarm(60)  # whatever happens to the test, this process ends
            os.close(self._end)

            def tell(what: Any) -> None:
                os.write(write, json.dumps(what).encode() + b"\n")

            work(tell)
            status = 0
        except BaseException:  # noqa: BLE001 - nothing of the test's may run here
            traceback.print_exc()
        finally:
            os._exit(status)

    def told(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._end], [], [], ANSWER)
            assert readable, "the child does not answer"
            byte = os.read(self._end, 1)
            assert byte, "the child has failed"
            line += byte
        return json.loads(line)

    def end(self) -> None:
        os.close(self._end)
        _, status = os.waitpid(self.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0


@contextmanager
def busy(group: Group[str], threads: int = 4) -> Iterator[list[BaseException]]:
    """Run threads that hit, miss and write all the time."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def work(turn: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            key = f"busy{(turn * 7 + number) % 20}"
            try:
                assert group.get(key) is not None
                if number % 5 == 0:
                    group.delete(key)
                    group.set(key, "set", wait=number % 10 == 0)
            except BaseException as error:  # noqa: BLE001 - sent to the test
                errors.append(error)
                return

    running = [threading.Thread(target=work, args=(turn,)) for turn in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in running:
            thread.join(20)
            assert not thread.is_alive()


def make(directory: Path) -> tuple[Node, Group[str]]:
    node = Node(registry=f"local://{directory}/reg", service="fork")
    group: Group[str] = node.group("g", lambda key: f"{key} loaded by {os.getpid()}", codec="text", near_ttl="1s")
    return node, group


def test_child_is_empty_and_a_new_member(tmp_path: Path) -> None:
    node, group = make(tmp_path)
    with node:
        group.get_many([f"key{number}" for number in range(50)])

        def work(tell: Callable[[Any], None]) -> None:
            peeked = [group.peek(f"key{number}") for number in range(50)]
            entries = group.stats().entries
            value = group.get("key0")
            node.start()
            tell([any(peeked), entries, value, node.address, len(node.members())])
            while len(node.members()) != 1:  # until the parent has closed
                time.sleep(0.01)
            tell(group.get("key1"))

        child = Child(work)
        peeked, entries, value, address, members = child.told()
        assert not peeked
        assert entries == 0
        assert value.startswith("key0 loaded by ")
        assert address != node.address
        assert members == 2
        wait_until(lambda: len(node.members()) == 2)
        assert group.get("key0") == value
        assert group.set("key0", "new") is True
    assert child.told() is not None
    child.end()


def test_forks_while_threads_are_busy(tmp_path: Path) -> None:
    """Keep held locks, open flights, pending writes and half-sent messages from the child."""
    node, group = make(tmp_path)
    with node, busy(group) as errors:
        for turn in range(TIMES):

            def work(tell: Callable[[Any], None], turn: int = turn) -> None:
                value = group.get("busy1")
                done = group.set(f"mine{turn}", "child", wait=True) if turn % 3 == 0 else None
                tell([value is not None, done in {True, False, None}])
                if turn % 2:
                    node.close(drain=0)

            child = Child(work)
            assert child.told() == [True, True]
            child.end()
            assert group.get(f"parent{turn}") is not None
        assert not errors


def test_preloaded_application_forks_workers(tmp_path: Path) -> None:
    """Make a node, and even use it, before the workers are forked, as gunicorn does with preload."""
    node, group = make(tmp_path)
    assert group.get("warm") is not None
    started = tmp_path / "go"

    def work(tell: Callable[[Any], None]) -> None:
        node.start()
        tell(node.address)
        while not started.exists():
            time.sleep(0.01)
        wait_until(lambda: len(node.members()) == 5)
        tell({f"key{number}": group.get(f"key{number}") for number in range(20)})
        while started.exists():
            time.sleep(0.01)
        node.close(drain="1s")  # all end together, and each waits that long for one that replaces it

    children = [Child(work) for _ in range(4)]
    assert len({child.told() for child in children} | {node.address}) == 5
    started.touch()
    values = [child.told() for child in children]
    started.unlink()
    for child in children:
        child.end()
    node.close(drain=0)
    assert all(one == values[0] for one in values), "a key was loaded twice"
    assert None not in values[0].values()


def test_child_of_a_child(tmp_path: Path) -> None:
    node, group = make(tmp_path)
    with node:
        group.get("key")

        def work(tell: Callable[[Any], None]) -> None:
            group.get("key")
            grandchild = Child(lambda tell: tell([group.peek("key"), group.get("key") is not None]))
            tell(grandchild.told())
            grandchild.end()

        child = Child(work)
        assert child.told() == [None, True]
        child.end()
        assert group.set("key", "new") is not None


PLACES = ("main thread", "thread", "loader", "async loader", "event loop", "on_evict")


@pytest.mark.parametrize("place", PLACES)
def test_forks_from_any_thread(place: str, tmp_path: Path) -> None:
    """Let the child of a fork get, load and write from the thread that forked it, at any moment, without a hang."""
    fork: Callable[[], object] = lambda: None  # noqa: E731 - replaced as soon as the groups exist
    here, forking = os.getpid(), threading.Lock()

    def load(key: str) -> str:
        return str(fork()) if key.startswith("fork") and os.getpid() == here else key

    async def aload(key: str) -> str:
        return load(key)

    def evicted(*_: object) -> None:
        if os.getpid() == here:
            with forking:
                fork()

    node, group = make(tmp_path)
    with node:
        plain = node.group("plain", load, codec="text")
        asynchronous = node.group("async", aload, codec="text")
        small = node.group("small", lambda key: key * 50, codec="text", max_bytes="4 KiB", on_evict=evicted)

        def ask(tell: Callable[[Any], None]) -> None:
            number = os.getpid() % 50
            assert group.get(f"busy{number}") is not None
            assert len(group.get_many([f"a{number}", f"b{number}"])) == 2
            assert plain.get(f"child{number}") == f"child{number}"
            assert group.set(f"mine{number}", "set", wait=number % 2 == 0) in {True, False, None}
            assert group.get_or_load(f"given{number}", lambda _: "given") is not None
            tell(PER_CHILD)

        def forked() -> None:
            try:
                child = Child(ask)
                answers.append(child.told())
                child.end()
            except BaseException as error:  # noqa: BLE001 - sent to the test
                failures.append(error)

        fork = forked
        answers: list[int] = []
        failures: list[BaseException] = []
        begin: dict[str, Callable[[int], object]] = {
            "main thread": lambda _: fork(),
            "thread": lambda _: in_thread(fork).result(60),
            "loader": lambda turn: asyncio.run(plain.aget(f"fork{turn}")),  # on a thread of the pool
            "async loader": lambda turn: asynchronous.get(f"fork{turn}"),
            "event loop": lambda _: asyncio.run(on_loop(fork)),
            "on_evict": lambda turn: small.get_many([f"{turn}-{number}" for number in range(20)]),  # by the sweeper
        }
        with busy(group, 2) as errors:
            until = time.monotonic() + 600
            for turn in itertools.count():
                begin[place](turn)
                if failures or sum(answers) >= REQUESTS // len(PLACES) or time.monotonic() > until:
                    break
        with forking:
            fork = lambda: None  # noqa: E731 - values are still evicted
        assert errors == failures == []
        assert sum(answers) >= REQUESTS // len(PLACES)


async def on_loop(fork: Callable[[], object]) -> None:
    fork()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"] if SOAK else ["fork", "forkserver"])
def test_pools_of_multiprocessing(method: str, tmp_path: Path) -> None:
    """Let the processes of a pool, which are replaced all the time, get keys without a hang."""
    subprocess.run(
        [sys.executable, "-m", "tests.cluster.forked", method, str(REQUESTS // 10)],
        cwd=Path(__file__).parents[2],
        env=own_environment() | {"KAMACACHE_REGISTRY": f"local://{tmp_path}/reg"},
        check=True,
        timeout=600,
    )


@pytest.mark.parametrize("how", ["fork", "forkserver", "forkserver imported"])
def test_a_child_of_multiprocessing_that_returns_closes_its_node(how: str, tmp_path: Path) -> None:
    """Have what such a child owned handed over, though it ends without atexit."""
    subprocess.run(
        [sys.executable, "-m", "tests.cluster.returned", *how.split()],
        cwd=Path(__file__).parents[2],
        env=own_environment() | {"KAMACACHE_REGISTRY": f"local://{tmp_path}/reg"},
        check=True,
        timeout=60,
    )
