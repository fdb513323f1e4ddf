"""A start that fails or is interrupted leaves nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from kamacache import ConfigError, Member, Node, Overloaded, RegistryError
from kamacache._engine import Transport
from kamacache.registry.base import Registry
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import ROOT, free_ports


class Fixed(Registry):
    """A registry of other machines, which refuses once on request."""

    def __init__(self, refused: Exception | None = None) -> None:
        self.refused = refused
        self.here: list[Member] = []

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        self.here = [me]
        if self.refused is not None:
            raise self.refused

    def members(self, service: str) -> list[Member]:
        return self.here

    def deregister(self) -> None:
        self.here = []


def kept() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.parametrize("why", ["advertise", "registry", "port", "thread"])
def test_start_that_raises_leaves_nothing_and_may_follow_another(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    port = free_ports(1)[0]
    registry = Fixed(RegistryError("not you") if why == "registry" else None)
    registry.beyond_machine = why == "advertise"
    node = Node(f"127.0.0.1:{port}", registry=registry)
    group = node.group("g", str.encode)
    before = kept()
    taken = socket.create_server(("127.0.0.1", port)) if why == "port" else None
    if why == "thread":

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        with pytest.raises((ConfigError, RegistryError, Overloaded)):
            node.start()
    if taken is not None:
        taken.close()
    wait_until(lambda: kept() <= before)
    socket.create_server(("127.0.0.1", port), reuse_port=False).close()
    assert registry.here == []
    assert node.address is None
    monkeypatch.undo()
    registry.refused = None
    registry.beyond_machine = False
    node.start()
    assert node.address == f"127.0.0.1:{port}"
    assert group.get("k") == b"k"
    assert group.set("k", b"v") is True
    node.close()
    assert registry.here == []


def test_a_local_node_that_cannot_start_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(registry=f"local://{tmp_path}/reg")

    def refuse(*_: object) -> None:
        raise RegistryError("not you")

    with monkeypatch.context() as patched:
        patched.setattr(node._registry, "register", refuse)
        with pytest.raises(RegistryError):
            node.start()
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    node.start()
    node.close()
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("alone", [True, False])
def test_a_thread_that_cannot_be_started_fails_one_call(monkeypatch: pytest.MonkeyPatch, *, alone: bool) -> None:
    """Fail one call; the next works."""
    node = Node(None if alone else "127.0.0.1:0")
    group = node.group("g", str.encode)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(Overloaded, match="could not be started"):
            group.get("k")
    assert group.get("k") == b"k"
    wait_until(lambda: node._start.done)
    node.close()


def run(program: str, *, seconds: float = 20.0) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("then", ["pass", "raise SystemExit(0)"])
def test_close_in_a_signal_handler_ends_a_start_that_waits(then: str) -> None:
    """End a start at any point; here, while it waits until it has joined."""
    out = run(
        f"""
        import os, signal, sys, threading, time
        from pathlib import Path
        from kamacache import Node, NodeClosed
        from tests.cluster.test_starting import Fixed

        class Away(Fixed):
            def members(self, service):
                raise OSError("away")

        def end(*_):
            node.close()
            {then}

        node = Node("127.0.0.1:0", registry=Away())
        node._registry.beyond_machine = False
        signal.signal(signal.SIGALRM, end)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        began = time.monotonic()
        try:
            node.start()
        except (NodeClosed, SystemExit) as error:
            print(type(error).__name__ if {then == "pass"} else "NodeClosed")
        assert time.monotonic() - began < 2.5, time.monotonic() - began
        assert [t.name for t in threading.enumerate()] == ["MainThread"], threading.enumerate()
        assert node._registry.here == []
        """
    )
    assert out.strip() == "NodeClosed"


def test_close_in_a_signal_handler_at_any_moment_of_a_start(tmp_path: Path) -> None:
    run(
        f"""
        import faulthandler, random, signal, threading
        from kamacache import Node, NodeClosed, PeerError
        faulthandler.dump_traceback_later(50, exit=True)
        chance = random.Random(5)
        signal.signal(signal.SIGALRM, lambda *_: node.close(drain=0))
        for number in range(60):
            node = Node(registry="local://{tmp_path}/reg")
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.03))
            try:
                node.start()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except NodeClosed:
                pass
            node.close(drain=0)
        assert [t.name for t in threading.enumerate()] == ["MainThread"], threading.enumerate()
        """,
        seconds=60.0,
    )
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_finaliser_that_asks_the_group_while_the_node_starts() -> None:
    """Let a call on the thread that starts the node use the part that has started."""
    node = Node()
    group = node.group("g", str.encode)
    answers: list[bytes | None] = []
    start = node._sweeper.start

    def interrupted() -> None:
        answers.append(group.get("inner"))
        start()

    node._sweeper.start = interrupted  # type: ignore[method-assign]
    assert group.get("outer") == b"outer"
    assert answers == [b"inner"]
    node.close()


@pytest.mark.parametrize(
    ("library", "patch"),
    [
        ("gevent", "import gevent.monkey; gevent.monkey.patch_all()"),
        ("eventlet", "import eventlet; eventlet.monkey_patch()"),
    ],
)
@pytest.mark.parametrize("use", ["node.start()", "node.group('g', str.encode).get('k')"])
@pytest.mark.parametrize("listen", [None, "127.0.0.1:0"])
def test_green_threads_are_refused(library: str, patch: str, use: str, listen: str | None) -> None:
    pytest.importorskip(library)
    out = run(
        f"""
        {patch}
        import os
        from kamacache import ConfigError, Node
        node = Node({listen!r})
        try:
            {use}
        except ConfigError as error:
            print(error, flush=True)
        node.close()
        os._exit(0)
        """
    )
    assert out.startswith(f"{library} has replaced the threads")


def test_two_starters_on_one_stale_socket(tmp_path: Path) -> None:
    """Give the socket to one of them, and an error to the other."""
    for number in range(100):
        path = tmp_path / f"{number}.sock"
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        transports = [Transport(max_message=1 << 20) for _ in range(4)]
        barrier = threading.Barrier(4)
        bound: list[Transport] = []

        def start(
            one: Transport, path: Path = path, barrier: threading.Barrier = barrier, bound: list[Transport] = bound
        ) -> None:
            barrier.wait()
            try:
                one.listen(f"unix:{path}")
            except OSError:
                return
            bound.append(one)

        threads = [threading.Thread(target=start, args=(one,)) for one in transports]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(bound) == 1
        next(one for one in transports if one not in bound).ping(f"unix:{path}", 1.0)
        for one in transports:
            one.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_backlog_is_not_a_refusal(tmp_path: Path) -> None:
    """Wait for a Unix socket whose backlog is full, as it accepts a moment later."""
    path = f"{tmp_path}/busy.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        waiting = []
        while True:
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            waiting.append(one)
            if one.connect_ex(path):
                break

        def accept() -> None:
            for _ in range(len(waiting)):
                connection, _ = listener.accept()
                connection.sendall(b"$0\r\n\r\n")  # an empty message
                accepted.append(connection)

        accepted: list[socket.socket] = []
        client = Transport(max_message=1 << 20)
        timer = threading.Timer(0.1, accept)
        timer.start()
        client.ping(f"unix:{path}", 0.25)
        timer.join()
        client.close()
        for one in waiting + accepted:
            one.close()
