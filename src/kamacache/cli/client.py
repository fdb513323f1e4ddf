"""Query a running node: one command after the other over RESP, on the caller's thread."""

from __future__ import annotations

import contextlib
import json
import math
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from kamacache.net.addresses import parse_address

if TYPE_CHECKING:
    import ssl

Reply = str | int | bytes | list[Any] | None

_CHUNK = 65536
_LINE = 65536  # bytes, the longest line that is not a value
_CONNECT = 5.0  # seconds
_ALERT = b"\x15"  # the first byte of the answer of a TLS server to plain text
_TLS = {  # advice by the name that OpenSSL has for the failure
    "CERTIFICATE_REQUIRED": "it requires a certificate: give --tls-cert and --tls-key",
    "UNKNOWN_CA": "it does not trust the certificate of --tls-cert",
    "CERTIFICATE_VERIFY_FAILED": "--tls-ca does not vouch for its certificate at this address",
    "HANDSHAKE_FAILURE": "it has no TLS: leave --tls-ca out",
}


class OutOfReach(Exception):
    """Report a node that does not answer."""


class Refused(Exception):
    """Report that the node answered with an error; `code` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]

    @property
    def has_no_password(self) -> bool:
        """Return whether the node received a password but was started without one. Its words are those of Redis."""
        return str(self).startswith("ERR AUTH ")


class Client:
    """A connection to the node at `address`; no command takes longer than `timeout` seconds."""

    def __init__(
        self,
        address: str,
        *,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._deadline = time.monotonic() + min(timeout, _CONNECT)
        self._input = bytearray()
        try:
            self._socket = self._connect(tls)
        except OSError as error:
            raise OutOfReach(f"{address}: {_said(error)}") from error
        try:
            if password is not None:
                self.ask("AUTH", password, within=_CONNECT)
        except BaseException:
            self.close()
            raise

    def _connect(self, tls: ssl.SSLContext | None) -> socket.socket:
        place = parse_address(self.address, name="node")
        left = self._left()
        if place.path is None:
            raw = socket.create_connection((place.host, place.port), timeout=left)
        else:
            raw = socket.socket(socket.AF_UNIX)
        try:
            if place.path is not None:  # without TLS: the permissions of its file protect a Unix socket
                raw.settimeout(left)
                raw.connect(place.path)
            elif tls is not None:
                return tls.wrap_socket(raw, server_hostname=place.host)
        except BaseException:
            raw.close()
            raise
        return raw

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ask(self, *arguments: str | bytes, within: float = math.inf) -> Reply:
        """Return the answer to one command. Raises OutOfReach after `within` seconds or the timeout, and Refused."""
        self._deadline = time.monotonic() + min(self._timeout, within)
        try:
            self._socket.settimeout(self._left())
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the reason may be there to read
                self._socket.sendall(_command(arguments))
            reply: Reply | Refused = self._read()
        except OSError as error:
            raise OutOfReach(f"{self.address}: {_said(error)}") from error
        if isinstance(reply, Refused):
            raise reply
        return reply

    def ask_json(self, *arguments: str, within: float = math.inf) -> Any:
        """Return the answer of a command that answers in JSON."""
        reply = self.ask(*arguments, within=within)
        if not isinstance(reply, bytes):
            raise OutOfReach(f"{self.address} does not answer {arguments[0]} as a node does")
        return json.loads(reply)

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def _read(self) -> Any:
        line = self._line()
        kind, text = line[:1], line[1:]
        if kind == b"+":
            return text.decode(errors="replace")
        if kind == b"-":
            return Refused(text.decode(errors="replace"))
        if kind in {b":", b"$", b"*"} and text.lstrip(b"-").isdigit():
            number = int(text)
            if kind == b":":
                return number
            if number < 0:
                return None
            if kind == b"*":
                return [self._read() for _ in range(number)]
            value = self._take(number + 2)
            return value[:-2]
        raise OSError("it is not a kamacache node, or has another version")

    def _line(self) -> bytes:
        while (end := self._input.find(b"\r\n")) < 0:
            if self._input.startswith(_ALERT):
                raise OSError("it requires TLS: give --tls-ca")
            if len(self._input) > _LINE:
                raise OSError("it is not a kamacache node, or has another version")
            self._receive()
        return self._take(end + 2)[:-2]

    def _take(self, size: int) -> bytes:
        while len(self._input) < size:
            self._receive()
        taken = bytes(self._input[:size])
        del self._input[:size]
        return taken

    def _receive(self) -> None:
        self._socket.settimeout(self._left())
        received = self._socket.recv(_CHUNK)
        if not received:
            raise ConnectionResetError("it closed the connection")
        self._input += received


def _command(arguments: Sequence[str | bytes]) -> bytes:
    parts = [part.encode() if isinstance(part, str) else part for part in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _said(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "nothing listens there"
    for name, words in _TLS.items():
        if name in str(error).upper().replace(" ", "_"):
            return f"{words} ({error})"
    return error.strerror or str(error)
