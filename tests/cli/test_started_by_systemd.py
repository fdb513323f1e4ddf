"""`kamacache serve` under systemd: what it tells, and the sockets that it is given."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import PATIENCE, Program

SERVE = [sys.executable, "-W", "error", "-m", "kamacache", "serve", "--json"]
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.execve(sys.argv[2], sys.argv[2:], os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
"""


@pytest.mark.parametrize("abstract", [False, True])
def test_it_tells_when_it_is_ready_and_when_it_stops(program: Program, abstract: bool) -> None:
    path = f"{program.directory}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(f"\0{path}" if abstract else path)
        node = program.serve(environment={"NOTIFY_SOCKET": f"@{path}" if abstract else path})
        assert listener.recv(100) == b"READY=1"
        node.signal(signal.SIGTERM)
        assert listener.recv(100) == b"STOPPING=1"
        assert node.end() == 0


def test_nobody_listens_to_it(program: Program) -> None:
    node = program.serve(environment={"NOTIFY_SOCKET": f"{program.directory}/none"})
    node.signal(signal.SIGTERM)
    assert node.end() == 0
    assert "systemd does not learn READY=1" in "".join(node.log)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_it_takes_the_socket_that_it_is_given(program: Program, kind: str) -> None:
    """Answer a client that connected before the process was there, and leave the socket when it ends."""
    if kind == "tcp":
        given = socket.create_server(("127.0.0.1", 0))
        at = f"127.0.0.1:{given.getsockname()[1]}"
    else:
        at = f"{program.directory}/given.sock"
        given = socket.socket(socket.AF_UNIX)
        given.bind(at)
        given.listen()
    with given, socket.socket(given.family) as early:
        early.settimeout(PATIENCE)
        early.connect(given.getsockname())
        early.sendall(b"*1\r\n$4\r\nPING\r\n")
        popen = subprocess.Popen(
            [sys.executable, "-c", AS_SYSTEMD, str(given.fileno()), *SERVE],
            cwd=program.directory,
            env=program.environment({}),
            pass_fds=[given.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert popen.stdout is not None
        assert f'"address": "{at if kind == "tcp" else f"unix:{at}"}"' in popen.stdout.readline()
        assert early.recv(100) == b"+PONG\r\n"
        popen.terminate()
        popen.communicate(timeout=PATIENCE)
        assert popen.returncode == 0
        with socket.socket(given.family) as late:  # it waits for the next process
            late.connect(given.getsockname())
    assert kind == "tcp" or Path(at).exists()


def test_a_socket_of_another_process_is_not_taken(program: Program) -> None:
    node = program.serve(environment={"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    assert node.address.startswith("unix:")


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="no systemd here")
def test_systemd_socket_activate(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    activate = ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}"]
    names = [f"--setenv={name}={value}" for name, value in program.environment({}).items()]
    popen = subprocess.Popen([*activate, *names, *SERVE], cwd=program.directory, stdout=-1, stderr=-1, text=True)
    try:
        assert popen.stderr is not None
        assert "Listening on" in popen.stderr.readline()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.settimeout(PATIENCE)
            client.sendall(b"*1\r\n$4\r\nPING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
    finally:
        popen.terminate()
        popen.communicate(timeout=PATIENCE)
    assert popen.returncode == 0
