"""Addresses on the list of members where no good member is: they drop packets, are mute, answer garbage, or flap."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

_GARBAGE = (
    b"\x00\xff" * 500,
    b"+PONG\r\n" * 50,
    b"$536870912\r\n" + b"x" * 1000,
    b"*1000000000\r\n" * 10,
    b"*1\r\n" * 10_000,
    b"-ERR no\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x40\x00\x01\x04\x00\x00\x00\x01" + b"x" * 0x4000,  # HTTP/2
    b"",
)


@contextlib.contextmanager
def drops() -> Iterator[str]:
    """Yield an address of which no packet comes back: its queue is full, so the system drops requests to connect."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        time.sleep(0.05)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _served(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    ended = threading.Event()

    def one(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            serve(peer)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while not ended.is_set():
                threading.Thread(target=one, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)


def mute() -> contextlib.AbstractContextManager[str]:
    """Accept and read everything, and never answer."""

    def serve(peer: socket.socket) -> None:
        while peer.recv(65_536):
            pass

    return _served(serve)


def garbage() -> contextlib.AbstractContextManager[str]:
    """Answer everything with what is no answer."""

    def serve(peer: socket.socket) -> None:
        chance = random.Random()
        while peer.recv(65_536):
            kind = chance.randrange(len(_GARBAGE) + 2)
            if kind < len(_GARBAGE):
                peer.sendall(_GARBAGE[kind])
            elif kind == len(_GARBAGE):
                peer.sendall(chance.randbytes(10_000))
            else:
                for _ in range(1000):
                    peer.sendall(b"$9000000\r\n" + bytes(65_536))

    return _served(serve)


class Door:
    """An address in front of another one. While it is shut, its connections are closed, and new ones refused."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.address = f"127.0.0.1:{found.getsockname()[1]}"
        self.behind = ""
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", _port(self.address)), backlog=200)
        self._sockets = [listener]
        self._threads = []
        self._start(self._accept, listener)

    def _start(self, target: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                coming = listener.accept()[0]
                try:
                    going = socket.create_connection(("127.0.0.1", _port(self.behind)))
                except OSError:
                    coming.close()
                    continue
                self._sockets += [coming, going]
                self._start(_pump, coming, going)
                self._start(_pump, going, coming)

    def shut(self) -> None:
        """Close all connections. Nothing listens when this returns."""
        for one in self._sockets[:1]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[:1]:
            thread.join(10)  # no connection comes any more
        for one in self._sockets[1:]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(10)
        for one in self._sockets:
            one.close()
        self._sockets, self._threads = [], []

    close = shut


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
