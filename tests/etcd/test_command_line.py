"""`kamacache` with nodes that etcd lists, and with an etcd that is of no help."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kamacache.cli.finding import Place
from tests.cli.conftest import PATIENCE, Program
from tests.cluster.cluster import wait_until
from tests.etcd.server import Etcd, free_port


@pytest.fixture
def program(tmp_path: Path, etcd: Etcd) -> Iterator[Program]:
    """Yield a program that finds nodes by etcd."""
    made = Program(tmp_path)
    made.registry = etcd.url
    yield made
    made.close()


def test_nodes_are_found_by_etcd(etcd: Etcd, program: Program, service: str) -> None:
    """Find nothing wrong: all nodes are on this machine, so that loopback is a good address."""
    nodes = [program.serve("--config", "node.toml", "--service", service) for _ in range(2)]
    ours = ("--service", service)
    wait_until(lambda: program.run("doctor", *ours).returncode == 0, PATIENCE)
    assert {member["address"] for member in program.json("members", *ours)} == {node.address for node in nodes}
    assert program.out("get", "users", "7", *ours) == "value of 7"
    program.out("set", "bag", "k", "v", *ours)
    assert [program.out("get", "bag", "k", "--node", node.address) for node in nodes] == ["v", "v"]
    assert program.json("owner", "users", "7", *ours)["owner"]["address"] in {node.address for node in nodes}
    assert "etcd://: lists 2 members" in program.out("doctor", *ours)
    assert "no node of service 'none'" in program.fails(3, "ping", "--service", "none")
    nodes[0].popen.terminate()
    assert nodes[0].end() == 0
    assert set(etcd.entries(f"/services/{service}/").values()) == {nodes[1].address}


def test_etcd_out_of_reach(program: Program) -> None:
    away = ("--registry", f"etcd://user:secret@127.0.0.1:{free_port()}", "--timeout", "1s")
    with ThreadPoolExecutor(4) as threads:  # each of them waits
        doctor = threads.submit(program.run, "doctor", *away)
        commands = [("get", "users", "7"), ("members",), ("ping",)]
        for said in threads.map(lambda command: program.fails(3, *command, *away), commands):
            assert "registry etcd://: etcd at 127.0.0.1:" in said
            assert "secret" not in said
        done = doctor.result()
    assert (done.returncode, done.stderr) == (1, b"")
    assert b"cannot be read: etcd at 127.0.0.1:" in done.stdout


def test_an_endpoint_that_is_silent_is_passed_over(etcd: Etcd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        url = f"etcd://127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{etcd.port}"
        place = Place(None, url, "nobody", 30.0, None, None)
        with ThreadPoolExecutor(3) as threads:  # one or the other is asked first
            assert list(threads.map(lambda _: place.members(), range(3))) == [[]] * 3


def test_a_node_whose_etcd_is_gone_says_so(own_etcd: Etcd, program: Program) -> None:
    node = program.serve("--registry", own_etcd.url, "--group", "bag")
    assert program.run("doctor", "--node", node.address).returncode == 0
    own_etcd.kill()
    wait_until(
        lambda: b"the registry does not answer" in program.run("doctor", "--node", node.address).stdout, PATIENCE
    )
    own_etcd.start()
    wait_until(lambda: program.run("doctor", "--node", node.address).returncode == 0, PATIENCE)
