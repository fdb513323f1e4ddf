"""One page of metrics for all nodes of a machine: those of this process, and those that the others answer."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Mapping

from kamacache.deadline import Deadline
from kamacache.serve.metrics import labelled

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?(.*)")
_PATIENCE = 0.25  # seconds for one node
_ALL = 2.0  # seconds for all


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def gather(addresses: list[str], password: str | None) -> dict[str, str]:
    """Return the pages of nodes by their addresses. One that does not answer within 250 ms has none."""
    pages: dict[str, str] = {}
    deadline = Deadline.after(_ALL)
    for address in addresses:
        try:
            pages[address] = _fetched(address.removeprefix("unix:"), password, min(_PATIENCE, deadline.left()))
        except (OSError, http.client.HTTPException):
            continue
    return pages


def _fetched(path: str, password: str | None, timeout: float) -> str:
    if timeout <= 0:
        raise TimeoutError
    connection = _Unix(path, timeout)
    try:
        connection.request(
            "GET", "/metrics", headers={} if password is None else {"Authorization": f"Bearer {password}"}
        )
        response = connection.getresponse()
        body = response.read().decode()
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ConnectionError(f"{response.status}")
    return body


def merged(pages: Mapping[str, str]) -> str:
    """Return one page with the samples of all, each with the label `member`, and each metric in one place."""
    heads: dict[str, list[str]] = {}  # by metric: its HELP and TYPE
    samples: dict[str, list[str]] = {}
    for member, page in pages.items():
        metric = ""
        for line in page.splitlines():
            if line.startswith("# HELP "):
                metric = line.split(" ", 3)[2]
                heads[metric] = [line]
                samples.setdefault(metric, [])
            elif line.startswith("#"):
                heads[metric].append(line)
            elif (found := _SAMPLE.fullmatch(line)) is not None:
                name, braces, rest = found.groups()
                own = labelled({"member": member})
                samples[metric].append(f"{name}{own[:-1]},{rest}" if braces else f"{name}{own}{rest}")
    lines = [line for metric, head in heads.items() for line in [*head, *samples[metric]]]
    return "\n".join(lines) + "\n"
