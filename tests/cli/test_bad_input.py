"""Mistakes of users and scripts end with a text and an exit code, never with a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE, Program


def in_shell(program: Program, line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of sh, in which "$@" is the program."""
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", sys.executable, "-W", "error", "-m", "kamacache"],
        cwd=program.directory,
        env=program.environment(environment),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def test_bytes_that_are_no_text(running: Program) -> None:
    done = in_shell(running, """"$@" set bag raw "$(printf '\\377\\376')" && "$@" get bag raw""")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xff\xfe", b"")
    done = in_shell(running, """"$@" get bag "$(printf '\\377')" """)
    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr


def test_unicode_in_any_locale(running: Program) -> None:
    running.out("set", "bag", "schlüssel 鍵", "wért 值")
    assert running.out("get", "bag", "schlüssel 鍵") == "wért 值"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert running.json("get", "bag", "schlüssel 鍵", environment=plain)["value"] == "wért 值"
    running.out("delete", "bag", "schlüssel 鍵", environment=plain)
    running.fails(1, "get", "bag", "schlüssel 鍵")


@pytest.mark.parametrize("group", ["", "users:7", "a b", "ü", "x" * 65])
def test_invalid_names_of_groups(running: Program, group: str) -> None:
    """Refuse a colon, which would name another group, and another key."""
    assert "group name" in running.fails(2, "get", group, "k")


def test_invalid_names_of_groups_in_other_commands(running: Program) -> None:
    for arguments in [("delete", "users:7", "k"), ("clear", "users:7"), ("owner", "users:7", "k")]:
        assert "group name" in running.fails(2, *arguments)


def test_invalid_keys(running: Program) -> None:
    assert "InvalidKey" in running.fails(4, "get", "bag", "")
    assert "InvalidKey" in running.fails(4, "get", "bag", "k" * 65_537)
    running.fails(1, "get", "bag", "k" * 65_536)


def test_a_ttl_of_nothing(running: Program) -> None:
    assert "--ttl='0'" in running.fails(2, "set", "bag", "k", "v", "--ttl", "0")


@pytest.mark.parametrize("size", [5 << 20, 100 << 20])
def test_a_value_that_is_too_large(running: Program, size: int) -> None:
    """Show the node's reason, also if it closes the connection in the middle."""
    assert "too" in running.fails(4, "set", "bag", "huge", "-", stdin=bytes(size))


def test_a_pipe_that_is_closed(running: Program) -> None:
    running.out("set", "bag", "large", "-", stdin=bytes(3 << 20))
    done = in_shell(running, '"$@" get bag large | head -c 3; "$@" members | head -n 0')
    assert (done.stdout, done.stderr) == (bytes(3), b"")
    done = in_shell(running, '"$@" set bag k - <&-')
    assert (done.returncode, b"standard input is closed" in done.stderr) == (2, True)
    running.out("set", "bag", "k", "v")
    done = in_shell(running, '"$@" get bag k >&-')
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_disk_that_is_full(running: Program) -> None:
    running.out("set", "bag", "k", "v")
    for line in ('"$@" get bag k >/dev/full', '"$@" members >/dev/full', '"$@" stats --json >/dev/full'):
        done = in_shell(running, line)
        assert done.returncode == 2
        assert b"No space left" in done.stderr
        assert b"Traceback" not in done.stderr


def test_a_loader_that_cannot_be_imported(program: Program) -> None:
    """Name the user's file and line at which it failed."""
    (program.directory / "breaks.py").write_text("import os\n\nlimit = 1 / 0\n")
    (program.directory / "ends.py").write_text("raise SystemExit(0)\n")
    assert "breaks.py:3)" in program.fails(2, "serve", "--group", "users=breaks:load")
    assert "SystemExit" in program.fails(2, "serve", "--group", "users=ends:load")


def test_advice_is_in_flags(program: Program) -> None:
    insecure = program.fails(2, "serve", "--listen", "0.0.0.0:0")
    assert insecure.endswith("if every host on the network is trusted, give --insecure\n")
    assert "give --listen the address" in program.fails(2, "serve", "--registry", "static://127.0.0.1:1")
    assert "etcd://10.0.0.5:2379" in program.fails(2, "ping", "--registry", "etcd://")
