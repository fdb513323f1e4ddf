"""Transports across fork(): the child has no socket of its parent's, and the parent does not notice."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kamacache._engine import Transport, after_fork_in_child
from kamacache.errors import PeerError
from kamacache.net.messages import Hello, Member
from tests.unit.wire import called, connected, ended

if TYPE_CHECKING:
    from collections.abc import Callable

HELLO = Hello(Member("i", None), 0, [])


def opened() -> list[str]:
    """Return the files that the descriptors of this process stand for."""
    found = []
    for fd in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(FileNotFoundError):  # the directory itself
            found.append(str(fd.readlink()))
    return found


def sockets() -> set[str]:
    """Return the sockets open in this process, by inode."""
    return {target for target in opened() if target.startswith("socket:")}


def watchers() -> int:
    """Return the epolls and eventfds of this process."""
    return sum(target in ("anon_inode:[eventpoll]", "anon_inode:[eventfd]") for target in opened())


def in_child(check: Callable[[], None]) -> None:
    """Run a function in a forked child, and expect it to succeed there."""
    pid = os.fork()
    if pid == 0:
        try:
            check()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - the child tells by its status, whatever happened
            os.write(2, repr(error).encode())
            os._exit(1)
    deadline = time.monotonic() + 10
    while (status := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.002)
    assert status[1] == 0


def test_fork(client: Transport, server: Transport, listen_at: str, tmp_path: Path) -> None:
    before, watched = sockets(), watchers()
    address = server.listen(listen_at)
    client.ping(address, 1.0)
    pipeline = connected(client, address)
    client.call("across", address, HELLO, None)
    held: list[Any] = [called(server)]
    ours = sockets() - before
    assert len(ours) >= 5
    assert watchers() >= watched + 4

    def child() -> None:
        assert not sockets() & ours
        uses: list[Callable[[], object]] = [
            lambda: client.ping(address, 1.0),
            lambda: client.peek_many([(address, ["k"])], "users", False, 1.0),
            lambda: client.listen("127.0.0.1:0"),
            lambda: client.call("t", address, HELLO, None),
            lambda: client.next_event(0.1),
            lambda: client.forget(address),
            pipeline.fileno,
            pipeline.flush,
            pipeline.receive,
        ]
        for use in uses:
            with pytest.raises(PeerError, match="forked"):
                use()
        held.clear()
        client.close()
        fresh = Transport(max_message=1 << 20)
        at = fresh.listen(f"unix:{tmp_path}/child.sock")
        fresh.ping(at, 1.0)
        fresh.close()

    def alone() -> None:
        assert watchers() == watched

    in_child(alone)
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            other = Transport(max_message=1 << 20)
            other.ping(address, 5.0)
            other.close()

    threads = [threading.Thread(target=busy) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    client.ping(address, 1.0)
    held.pop().reply(HELLO)
    assert ended(client) == ("across", HELLO)


def test_a_second_call_in_the_same_child_does_nothing() -> None:
    """Keep all that a child has made since, if other code calls after_fork_in_child there again."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            after_fork_in_child()
            transport = Transport(max_message=1 << 20)
            after_fork_in_child()
            transport.listen("127.0.0.1:0")
            transport.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
