"""The sockets that systemd has bound for this process, and the messages that it waits for."""

from __future__ import annotations

import os
import socket
import stat

from kamacache.errors import ConfigError
from kamacache.log import log
from kamacache.net.addresses import Address

_FIRST = 3  # the descriptor of the first socket that it passes on


def notify(state: str) -> None:
    """Tell systemd the state of this process, such as READY=1, if it wants to know."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
            one.settimeout(1)  # systemd may have stopped reading
            one.sendto(state.encode(), f"\0{path[1:]}" if path.startswith("@") else path)
    except OSError as error:
        log.warning("systemd does not learn %(state)s: %(path)s: %(error)s", state=state, path=path, error=error)


def inherited() -> dict[str, int]:
    """Return the listening sockets of this process, but not of a parent, as descriptors by their addresses.

    Raises ConfigError if LISTEN_FDS is not the number of descriptors that this process was given.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    given = os.environ.get("LISTEN_FDS", "0")
    try:
        last = _FIRST + int(given)
    except ValueError:
        raise ConfigError(f"LISTEN_FDS={given!r}: must be the number of sockets that systemd passes on") from None
    found = {}
    for descriptor in range(_FIRST, last):
        try:
            os.set_inheritable(descriptor, False)
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):  # such as a FIFO
                continue
        except (OSError, OverflowError) as error:
            raise ConfigError(f"LISTEN_FDS={given}: descriptor {descriptor} is not open: {error}") from None
        with socket.socket(fileno=os.dup(descriptor)) as one:
            if one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found[_address(one)] = descriptor
    return found


def _address(one: socket.socket) -> str:
    name = one.getsockname()
    return f"unix:{name}" if one.family == socket.AF_UNIX else str(Address(name[0], name[1]))
