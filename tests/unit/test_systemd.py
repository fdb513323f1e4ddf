"""What systemd passes to a process that is not what the process expects."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kamacache.errors import ConfigError
from kamacache.net import systemd


def given(monkeypatch: pytest.MonkeyPatch, count: str, first: int) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    monkeypatch.setattr(systemd, "_FIRST", first)


@pytest.mark.parametrize("count", ["x", "", "1.5", "9" * 30])
def test_a_number_that_is_none(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    given(monkeypatch, count, 1_000_000)
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        systemd.inherited()


def test_a_descriptor_that_is_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip it, and keep no copy of it open."""
    reader, writer = os.pipe()
    try:
        given(monkeypatch, "1", reader)
        before = len(list(Path("/dev/fd").iterdir()))
        assert systemd.inherited() == {}
        assert len(list(Path("/dev/fd").iterdir())) == before
    finally:
        os.close(reader)
        os.close(writer)


def test_systemd_does_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give up on a message that a full queue does not take."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one, socket.socket(one.family, one.type) as filler:
        one.bind(path)
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", path)
        begin = time.monotonic()
        systemd.notify("READY=1")
        assert time.monotonic() - begin < 20
