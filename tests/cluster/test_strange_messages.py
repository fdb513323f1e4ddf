"""Messages of no member, or of a member that has gone mad, spoil no node."""

from __future__ import annotations

import random
import secrets
import socket
import threading
import time
from contextlib import ExitStack, suppress

import pytest

from kamacache import Member, Node
from tests.cluster.cluster import wait_until
from tests.security.test_password import Stranger
from tests.support.table import Table


def field(number: int, content: bytes) -> bytes:
    """Return a field of a message of protobuf."""
    return bytes([number << 3 | 2, len(content)]) + content


def tell(version: int) -> bytes:
    """Return the notice of a write to "key" with this version."""
    known = field(1, b"key") + field(2, version.to_bytes(16, "big"))
    return field(1, b"g") + field(2, known)


def babble(listener: socket.socket) -> None:
    """Answer each question with an answer of the right form that holds nonsense."""

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):  # the node may hang up at any time
            while client.recv(65_536):
                nonsense = random.randbytes(random.randrange(30))
                client.sendall(b"$%d\r\n%s\r\n" % (len(nonsense), nonsense))

    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(client,), daemon=True).start()


def test_strange_messages(caplog: pytest.LogCaptureFixture) -> None:
    """Take in no version far ahead and no malformed message, be it a question or an answer, and go on.

    1. A stranger tells one of two nodes of a write more than a day ahead, and of one 2^100 ahead, and sends nonsense.
    2. The list names a member that answers nonsense.
    3. A third node joins; writes and versions are as they were.
    """
    table: dict[str | None, Member] = {}
    nodes = [Node("127.0.0.1:0", registry=Table(table)) for _ in range(3)]
    groups = [node.group("g", lambda _: b"loaded") for node in nodes]
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.close, drain=0)
        for node in nodes[:2]:
            node.start()
        wait_until(lambda: groups[0].set("key", b"value") is True)
        stranger = stack.enter_context(Stranger(nodes[0].address or ""))
        now = nodes[0]._runtime.hlc.latest()
        for ahead in (86_460_000 << 80, (86_460_000 << 80) + 2**100, 2**126, 2**128 - 1 - now):
            assert stranger.says(b"KC.TELL", tell(now + ahead)).startswith(b"-ERR")
        random.seed(7)
        for command in (b"KC.TELL", b"KC.MISSED", b"KC.WRITE"):
            for _ in range(50):
                with Stranger(nodes[0].address or "") as other:
                    other.says(command, random.randbytes(random.randrange(40)))
        assert stranger.says(b"KC.PING", b"\xff\xfe").startswith(b"-ERR")
        for id_ in (b"", b"nobody", b"x" * 10_000, secrets.token_hex(8).encode()):
            stranger.file.read(int(stranger.says(b"KC.PING", id_).removeprefix(b"$")) + 2)
        assert groups[1].get("key") == b"value"

        babbler = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=babble, args=(babbler,), daemon=True).start()
        address = f"127.0.0.1:{babbler.getsockname()[1]}"
        table[address] = Member("ab" * 8, address, 1.0, ("g",), loads=("g",))
        wait_until(lambda: any(peer.dead for peer in nodes[0]._membership.peers.all()))
        nodes[2].start()
        del table[address]
        wait_until(lambda: all(len(node.members()) == 3 for node in nodes))
        wait_until(lambda: all([writer.set("key", b"settled") for writer in groups]))  # noqa: C419 - each writes
        for writer in groups:
            assert writer.set("key", b"new") is True
            assert [group.get("key") for group in groups] == [b"new"] * 3
        assert groups[0].delete("key") is True
        for node in nodes:
            assert abs((node._runtime.hlc.latest() >> 80) / 1000 - time.time()) < 60
        assert "this thread" not in caplog.text
