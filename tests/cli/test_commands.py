"""The output and the exit codes of the commands, with two running nodes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from kamacache.cli import processes
from kamacache.cli.client import Client, OutOfReach
from kamacache.cli.finding import Place
from tests.cli.conftest import Program
from tests.cluster.cluster import wait_until


def test_get_reads_through(running: Program) -> None:
    assert running.out("get", "users", "7") == "value of 7"
    assert running.json("get", "users", "7") == {"group": "users", "key": "7", "value": "value of 7"}
    for node in running.served:
        assert running.out("get", "users", "7", "--node", node.address) == "value of 7"


def test_an_absent_key_has_exit_code_1(running: Program) -> None:
    assert "users has no 'none'" in running.fails(1, "get", "users", "none")
    done = running.run("get", "users", "none", "--json")
    assert (done.returncode, json.loads(done.stdout)["value"]) == (1, None)


def test_set_and_delete(running: Program) -> None:
    assert running.out("set", "bag", "k", "one") == ""
    assert running.out("get", "bag", "k") == "one"
    running.out("set", "bag", "k", "-", stdin=b"\x00\xff\r\n")
    assert running.run("get", "bag", "k").stdout == b"\x00\xff\r\n"
    assert running.json("get", "bag", "k")["value"] == {"base64": "AP8NCg=="}
    running.out("set", "bag", "other", "")
    assert running.out("get", "bag", "other") == ""
    running.out("delete", "bag", "k", "other")
    running.fails(1, "get", "bag", "k")
    running.fails(1, "get", "bag", "other")


def test_a_value_with_a_ttl_ends(running: Program) -> None:
    running.out("set", "bag", "short", "x", "--ttl", "100ms")
    wait_until(lambda: running.run("get", "bag", "short").returncode == 1, 60)
    running.out("set", "bag", "long", "x", "--ttl", "1h30m")
    assert running.out("get", "bag", "long") == "x"
    assert "--ttl" in running.fails(2, "set", "bag", "k", "x", "--ttl", "soon")


def test_clear(running: Program) -> None:
    running.out("set", "bag", "k", "one")
    running.out("clear", "bag")
    running.fails(1, "get", "bag", "k")


def test_members(running: Program) -> None:
    members = running.json("members")
    assert [member["me"] for member in members] == [True, False]
    assert {member["address"] for member in members} == {node.address for node in running.served}
    assert all(set(member["groups"]) == {"users", "bag", "slow"} for member in members)
    lines = running.out("members").splitlines()
    assert lines[0].split() == [
        "ADDRESS",
        "STATE",
        "LISTED",
        "WEIGHT",
        "PID",
        "HOST",
        "STARTED",
        "GROUPS",
        "ID",
        "TITLE",
    ]
    assert lines[1].startswith("*  unix:")
    assert len(lines) == 3


def test_members_say_which_processes_they_are(running: Program) -> None:
    processes = {member["address"]: member["process"] for member in running.json("members")}
    for node in running.served:
        process = processes[node.address]
        assert (process["pid"], process["host"]) == (node.popen.pid, socket.gethostname())
        assert "kamacache serve" in process["title"]
        assert 0 <= time.time() - process["started"] < 600
    rows = running.out("members").splitlines()[1:]
    assert all(any(str(node.popen.pid) in row.split() for row in rows) for node in running.served)


def test_a_member_that_does_not_answer_has_no_process(running: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(place: Place, address: str) -> Client:
        raise OutOfReach(f"{address}: no answer in time")

    asked, other = (node.address for node in running.served)
    monkeypatch.setattr(Place, "answering", silent)
    found = processes.members(Place(asked, running.registry, "kamacache", 30.0, None, None))
    assert {member["address"]: member["process"] is None for member in found} == {asked: False, other: True}
    processes.show(found)


def test_owner(running: Program) -> None:
    addresses = {node.address for node in running.served}
    owners = {running.json("owner", "users", "7", "--node", node)["owner"]["address"] for node in addresses}
    assert len(owners) == 1
    assert owners <= addresses
    head, first, second = running.out("owner", "users", "7").splitlines()
    assert head.split() == ["PLACE", "ADDRESS", "ID"]
    assert owners.pop() in first
    assert "owner" in first
    assert "owner" not in second


def test_stats(running: Program) -> None:
    node = running.served[0].address
    before = running.json("stats", "users", "--node", node)["users"]["gets"]
    running.out("get", "users", "counted", "--node", node)
    assert running.json("stats", "users", "--node", node)["users"]["gets"] == before + 1
    shown = running.out("stats", "--node", node).splitlines()
    assert shown[0] == f"{node}:"
    assert shown[1].split() == ["bag", "slow", "users"]
    rows = {line[:11].strip(): line[11:] for line in shown[2:]}
    assert rows["max bytes"].split() == ["64", "MiB", "64", "MiB", "8", "MiB"]
    assert {"gets", "hits", "peer hits", "hit rate", "load errors"} <= set(rows)


def test_stats_of_all_members(running: Program) -> None:
    addresses = [node.address for node in running.served]
    each = [running.json("stats", "--node", address)["bag"] for address in addresses]
    together = running.json("stats", "bag", "--all")["bag"]
    assert together["max_bytes"] == sum(one["max_bytes"] for one in each)
    assert together["gets"] >= sum(one["gets"] for one in each)
    assert 0 <= together["hit_rate"] <= 1
    shown = running.out("stats", "--all").splitlines()
    assert shown[0] == f"{len(addresses)} of {len(addresses)} members together:"
    assert shown[1].split() == ["bag", "slow", "users"]
    assert "NOGROUP" in running.fails(4, "stats", "nothing", "--all")
    assert "--watch" in running.fails(2, "stats", "--watch", "0s")


def test_stats_of_all_members_that_a_node_knows(running: Program) -> None:
    """Ask the given node for its members: the registry that the environment names may be another service's."""
    alone = "local:///nowhere-at-all"
    for node in running.served:
        asked = ("stats", "--all", "--node", node.address, "--registry", alone)
        assert running.json(*asked).keys() == {"bag", "slow", "users"}
        assert running.out(*asked).startswith("2 of 2 members together:")
    assert "nothing listens" in running.fails(3, "stats", "--all", "--node", "unix:/nowhere/node.sock")


def test_stats_of_all_members_names_one_that_does_not_answer(program: Program) -> None:
    alive, frozen = program.pair()
    frozen.signal(signal.SIGSTOP)
    done = program.run("stats", "--all", "--node", alive.address)
    assert done.returncode == 0
    assert frozen.address in done.stderr.decode()
    assert done.stdout.startswith(b"1 of 2 members together:")


def test_stats_again_and_again(running: Program) -> None:
    command = [
        sys.executable,
        "-m",
        "kamacache",
        "stats",
        "bag",
        "--watch",
        "0.1s",
        "--node",
        running.served[0].address,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=running.environment({})) as watching:
        assert watching.stdout is not None
        lines = (line for line in watching.stdout if line.startswith(running.served[0].address))
        assert [next(lines) for _ in range(3)] == [f"{running.served[0].address}:\n"] * 3
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130


def test_ping(running: Program) -> None:
    assert "answers in" in running.out("ping")
    answer = running.json("ping")
    assert answer["address"] in {node.address for node in running.served}
    assert answer["seconds"] > 0


def test_a_refusal_of_a_node_has_exit_code_4(running: Program) -> None:
    assert "NOGROUP" in running.fails(4, "get", "nothing", "k")
    assert "NOGROUP" in running.fails(4, "stats", "nothing")
    said = running.fails(4, "get", "users", "bad")
    assert "LOADERR users['bad']: ValueError: the secret of the loader" in said


def test_wrong_usage_has_exit_code_2(running: Program) -> None:
    running.fails(2, "get", "users")
    running.fails(2, "no-such-command")
    assert "node='nowhere'" in running.fails(2, "ping", "--node", "nowhere")
    assert "unknown" in running.fails(2, "ping", "--registry", "what://")
    assert "--timeout" in running.fails(2, "ping", "--timeout", "long")
    assert "--timeout='0': must be a duration of 0.001 s or more" in running.fails(2, "top", "--timeout", "0")
    assert "--every='1ms': must be a duration of 0.1 s or more" in running.fails(2, "top", "--every", "1ms", "--once")
    assert "--watch='0': must be a duration of 0.1 s or more" in running.fails(2, "stats", "--watch", "0")
    assert "none.txt" in running.fails(2, "ping", "--password-file", "none.txt")


def test_no_node_in_reach_has_exit_code_3(running: Program) -> None:
    assert "nothing listens" in running.fails(3, "ping", "--node", "127.0.0.1:1")
    assert "nothing listens" in running.fails(3, "ping", "--node", "unix:/nowhere/node.sock")
    said = running.fails(3, "get", "users", "7", "--service", "other")
    assert "kamacache serve" in said
    assert "'other'" in said


def test_an_unsafe_registry_has_exit_code_3(program: Program) -> None:
    (program.directory / "open").mkdir(mode=0o755)
    assert "chmod 700" in program.fails(3, "ping", "--registry", f"local://{program.directory}/open")


STRANGE = [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$9", b"*1\r\n*1\r\n", b"garbage\r\n", b"x" * 100_000]


@pytest.fixture(params=STRANGE, ids=range(len(STRANGE)))
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Answer every connection with these bytes, and close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(request.param)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def test_a_stranger_is_no_node(program: Program, stranger: str) -> None:
    program.fails(3, "members", "--node", stranger)


def test_a_silent_node_is_given_up(program: Program) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert "in time" in program.fails(3, "ping", "--node", address, "--timeout", "500ms")


def test_help_version_and_completion(program: Program) -> None:
    assert "Exit codes" in " ".join(program.out("--help").split())
    for command in (
        "serve",
        "get",
        "set",
        "delete",
        "clear",
        "members",
        "owner",
        "stats",
        "top",
        "page",
        "ping",
        "doctor",
    ):
        assert "Usage" in program.out(command, "--help")
    assert program.out("--version").startswith("kamacache, version ")
    script = program.run(environment={"_KAMACACHE_COMPLETE": "bash_source"}).stdout
    assert b"complete" in script
    asked = {"_KAMACACHE_COMPLETE": "bash_complete", "COMP_WORDS": "kamacache me", "COMP_CWORD": "1"}
    assert program.run(environment=asked).stdout == b"plain,members\n"
