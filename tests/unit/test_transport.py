"""Two transports in one process, real sockets between them: peeks, pipelines, addresses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kamacache._engine import Clock, Store, Transport
from kamacache.errors import NodeClosed, PeerError
from kamacache.net.lane import Look
from tests.conftest import MakeTransport
from tests.unit.wire import BIG, VERSION, connected, make_store, silent

if TYPE_CHECKING:
    pass


def test_peek(client: Transport, address: str) -> None:
    found = client.peek(address, "users", "k", False, 1.0)
    assert found is not None
    value, version, remaining, _ = found
    assert (value, version) == (b"value", VERSION)
    assert remaining is not None
    assert 55.0 < remaining <= 60.0
    assert client.peek(address, "users", "empty", False, 1.0) == (b"", VERSION, None, 0)
    assert client.peek(address, "users", "gone", False, 1.0) == (None, VERSION, None, Transport.ABSENT)
    assert client.peek(address, "users", "nothing", True, 1.0) is None
    assert client.peek(address, "strangers", "k", False, 1.0) is None
    big = client.peek(address, "users", "big", False, 1.0)
    assert big is not None
    assert big[0] == BIG


def test_former_copies_are_returned_to_peeks_alone(client: Transport, server: Transport, listen_at: str) -> None:
    store = make_store("old")
    store.put("k", b"v", 1, 60.0, Store.FORMER)
    server.serve(store)
    at = server.listen(listen_at)
    for former in (True, False):
        one = client.peek(at, "old", "k", former, 1.0)
        many = client.peek_many([(at, ["k", "nothing"])], "old", former, 1.0)[0]
        assert isinstance(many, list)
        assert (one is not None) == former
        assert [answer is not None for answer in many] == [former, False]


def test_an_entry_and_its_traits(client: Transport, server: Transport, listen_at: str, clock: Clock) -> None:
    """Find what is stale, too, with its age, and leave the value out if it is not wanted."""
    store = make_store("old", clock=clock)
    server.serve(store)
    at = server.listen(listen_at)
    store.put("k", BIG, VERSION, 60.0, Store.MAIN)
    store.put("absent", None, VERSION, None, Store.MAIN)
    store.put("former", b"v", VERSION, 60.0, Store.FORMER)
    clock.advance(40)
    for look, value in ((Look.ENTRY, BIG), (Look.TRAITS, b"")):
        found = client.peek(at, "old", "k", look, 1.0)
        assert found is not None
        assert (found[0], found[1], found[2]) == (value, VERSION, 20.0)
        assert found[3] & 0xFF == 0
        assert found[3] >> 8 == pytest.approx(40_000, abs=20)
        absent = client.peek(at, "old", "absent", look, 1.0)
        assert absent is not None
        assert (absent[:3], absent[3] & 0xFF) == ((None, VERSION, None), Transport.ABSENT)
        assert client.peek(at, "old", "former", look, 1.0) is None
        assert client.peek(at, "old", "nothing", look, 1.0) is None
        with pytest.raises(ValueError, match="no look at so many keys"):
            client.peek_many([(at, ["k", "absent"])], "old", look, 1.0)
    assert store.stats()["served"] == 0
    for nonsense in (4, 255):
        with pytest.raises(ValueError, match="no look"):
            client.peek(at, "old", "k", nonsense, 1.0)


def test_hide(client: Transport, server: Transport, address: str) -> None:
    server.hide("users")
    assert client.peek(address, "users", "k", False, 1.0) is None


def test_peek_many_keeps_the_order_and_names_the_failed_peers(client: Transport, address: str) -> None:
    with silent() as frozen:
        begun = time.monotonic()
        asks = [(frozen, ["k"]), (address, ["nothing", "k", "gone", "big"]), ("127.0.0.1:1", ["k"]), (address, ["k"])]
        mute, four, refused, one = client.peek_many(asks, "users", False, 0.2)
        assert 0.2 <= time.monotonic() - begun < 0.5
    assert isinstance(mute, PeerError)
    assert str(mute) == f"{frozen} did not answer within 200 ms"
    assert not mute.refused
    assert isinstance(refused, PeerError)
    assert refused.refused
    assert isinstance(four, list)
    assert [answer and answer[0] and len(answer[0]) for answer in four] == [None, 5, None, len(BIG)]
    assert isinstance(one, list)
    assert one[0] is not None


def test_silence_and_refusal(client: Transport, tmp_path: Path) -> None:
    with silent() as frozen:
        begun = time.monotonic()
        with pytest.raises(PeerError, match="did not answer within 100 ms"):
            client.peek(frozen, "users", "k", False, 0.1)
        assert time.monotonic() - begun < 0.3
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(f"{tmp_path}/closed.sock")
    for nobody in ("127.0.0.1:1", f"unix:{tmp_path}/closed.sock"):
        with pytest.raises(PeerError, match="refused the connection") as raised:
            client.ping(nobody, 0.5)
        assert raised.value.refused
    with pytest.raises(PeerError, match="No such file") as missing:
        client.ping(f"unix:{tmp_path}/removed.sock", 0.5)
    assert not missing.value.refused  # the node may live, and its socket was removed


def test_a_restarted_peer_is_found_by_the_next_peek(
    client: Transport, transports: MakeTransport, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/node.sock"
    for n, value in enumerate((b"first", b"second", b"third")):
        server = transports()
        store = make_store()
        store.put("k", value, 1, None, Store.MAIN)
        assert server.listen(address) == address
        server.serve(store)
        if n != 1:  # the connection of the first round is stale in the second, for either way of asking
            assert client.peek(address, "users", "k", False, 1.0) == (value, 1, None, 0)
        assert client.peek_many([(address, ["k"])], "users", False, 1.0) == [[(value, 1, None, 0)]]
        server.close()
        assert not Path(address.removeprefix("unix:")).exists()


def listens(client: Transport, address: str) -> bool:
    try:
        client.ping(address, 1.0)
    except PeerError:
        return False
    return True


@pytest.mark.parametrize("lost", ["file", "directory"])
def test_a_socket_whose_file_was_removed_listens_again(
    server: Transport, transports: MakeTransport, tmp_path: Path, lost: str
) -> None:
    path = tmp_path / "run" / "node.sock"
    path.parent.mkdir()
    address = server.listen(f"unix:{path}")
    before = transports()
    before.ping(address, 1.0)
    path.unlink()
    if lost == "directory":
        path.parent.rmdir()
        time.sleep(1.2)  # until it has been missed once in vain
        path.parent.mkdir()
    before.ping(address, 1.0)  # over the connection that is open
    until = time.monotonic() + 10
    while not listens(transports(), address):
        assert time.monotonic() < until
        time.sleep(0.01)
    before.ping(address, 1.0)
    server.close()
    assert not path.exists()


def test_listen_errors(server: Transport, tmp_path: Path) -> None:
    at = server.listen("127.0.0.1:0")
    with pytest.raises(OSError, match="in use") as raised:
        server.listen(at)
    assert raised.value.errno == 98
    with pytest.raises(OSError, match="at most 107 bytes"):
        server.listen("unix:/" + "x" * 107)
    with pytest.raises(OSError, match="host:port"):
        server.listen("nowhere")
    taken = f"unix:{tmp_path}/taken.sock"
    server.listen(taken)
    with pytest.raises(OSError, match="in use"):
        server.listen(taken)
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    assert server.listen(f"unix:{stale}") == f"unix:{stale}"


def test_a_socket_file_is_changed_under_the_lock_of_its_directory(transports: MakeTransport, tmp_path: Path) -> None:
    """Wait for another node that looks at the files, even if it is stopped meanwhile, and fail if that takes long."""
    path = tmp_path / "node.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    old = path.stat().st_ino
    lock = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="holds the lock on"):
            transports().listen(f"unix:{path}")
        assert path.stat().st_ino == old
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert transports().listen(f"unix:{path}") == f"unix:{path}"
    finally:
        os.close(lock)


def test_closed(client: Transport, server: Transport, address: str) -> None:
    client.ping(address, 1.0)
    server.close()
    server.close()
    with pytest.raises(PeerError):
        client.ping(address, 1.0)
    with pytest.raises(NodeClosed):
        server.ping(address, 1.0)
    with pytest.raises(OSError, match="closed"):
        server.listen("127.0.0.1:0")


def test_pipeline(client: Transport, address: str) -> None:
    pipeline = connected(client, address)
    for n in range(60):
        pipeline.ask(n, "users", ["k"] if n % 2 else ["k", "big", "nothing"], n % 3 == 0)
    answered: list[tuple[Any, list[Any]]] = []
    deadline = time.monotonic() + 20
    while len(answered) < 60:
        assert time.monotonic() < deadline
        done = pipeline.flush()
        select.select([pipeline.fileno()], [] if done else [pipeline.fileno()], [], 1.0)
        answered += pipeline.receive()
    assert [token for token, _ in answered] == list(range(60))
    for n, answers in answered:
        assert [answer and len(answer[0]) for answer in answers] == ([5] if n % 2 else [5, len(BIG), None])
    pipeline.ask("left", "users", ["k"], False)
    assert pipeline.close() == ["left"]
    with pytest.raises(PeerError, match="closed"):
        pipeline.fileno()


def test_a_pipeline_shows_the_replies_before_the_end(server: Transport, client: Transport, address: str) -> None:
    pipeline = connected(client, address)
    pipeline.ask("t", "users", ["empty"], False)
    select.select([], [pipeline.fileno()], [], 1.0)
    assert pipeline.flush()
    select.select([pipeline.fileno()], [], [], 1.0)
    server.close()
    assert pipeline.receive() == [("t", [(b"", VERSION, None, 0)])]
    with pytest.raises(PeerError, match="closed the connection"):
        pipeline.receive()


def test_a_pipeline_to_no_peer_fails(client: Transport) -> None:
    with pytest.raises(PeerError) as raised:
        connected(client, "127.0.0.1:1")
    assert raised.value.refused


def connect(address: str) -> socket.socket:
    """Return a client's socket to an address that a transport listens on."""
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(address.removeprefix("unix:"))
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def wire_threads() -> set[Path]:
    """Return the threads of this process that serve transports."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if (task / "comm").read_text() == "kamacache-wire\n":
                found.add(task)
    return found


def waits(thread: Path) -> int:
    """Return how often a thread has begun to wait, once it waits."""
    while "State:\tS" not in (status := (thread / "status").read_text()):
        time.sleep(0.001)
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


def test_a_client_that_reads_a_reply_wakes_no_server(transports: MakeTransport, listen_at: str) -> None:
    """Let the client read each reply while the server waits for the next command."""
    before = wire_threads()
    server = transports()
    with connect(server.listen(listen_at)) as client:
        (thread,) = wire_threads() - before
        woken = 0
        for _ in range(20):
            client.sendall(b"*1\r\n$7\r\nKC.PING\r\n")
            select.select([client], [], [], 5.0)
            waited = waits(thread)
            assert client.recv(100) == b"+PONG\r\n"
            time.sleep(0.005)
            woken += waits(thread) - waited
    assert woken < 10


def test_replies_that_the_client_reads_late_are_whole(address: str) -> None:
    """Fill the socket: the server goes on when there is room, and answers what came meanwhile."""
    ask = b"*3\r\n$6\r\nKC.GET\r\n$5\r\nusers\r\n$3\r\nbig\r\n"
    with connect(address) as client:
        client.settimeout(10.0)
        client.sendall(3 * ask)
        time.sleep(0.05)
        client.sendall(b"*1\r\n$7\r\nKC.PING\r\n")
        received = bytearray()
        while not received.endswith(b"+PONG\r\n"):
            part = client.recv(1 << 20)
            assert part
            received += part
        assert received.count(BIG) == 3
        client.sendall(b"*1\r\n$7\r\nKC.PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"


def test_each_question_on_a_connection_has_its_own_time(client: Transport) -> None:
    """Ask twice with about the same time limit, for which the socket's own is set once; the second is not answered."""

    def serve() -> None:
        with listener.accept()[0] as connection:
            while connection.recv(1000):
                if not mute.is_set():
                    connection.sendall(b"*-1\r\n")

    mute = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        for timeout, earlier in ((0.3, 0.2), (0.1, 0.3)):
            thread = threading.Thread(target=serve)
            thread.start()
            mute.clear()
            assert client.peek(address, "users", "k", False, earlier) is None
            mute.set()
            began = time.monotonic()
            with pytest.raises(PeerError, match=f"within {timeout * 1000:.0f} ms"):
                client.peek(address, "users", "k", False, timeout)
            assert time.monotonic() - began >= timeout
            thread.join(5.0)
