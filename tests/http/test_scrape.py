"""node.metrics(): the page for an application's own /metrics, of one node or of all of its machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kamacache import Node
from tests.cluster.cluster import wait_until

PASSWORD = "of-the-scrape"  # noqa: S105 - of the test
WORKER = """
import sys
from kamacache import Node
with Node(registry=sys.argv[1], service="scrape", password=sys.argv[2]) as node:
    group = node.group("g", str.encode)
    for number in range(int(sys.argv[3])):
        group.get(f"{number}")
    print(node.address, flush=True)
    sys.stdin.read()
"""


def gets(page: str) -> dict[str, float]:
    """Return the gets of each member. Every line of the page must be one of Prometheus."""
    families = {family.name: family for family in text_string_to_metric_families(page)}
    assert len(families) > 20
    return {sample.labels.get("member", ""): sample.value for sample in families["kamacache_gets"].samples}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(registry=f"local://{tmp_path}/meet", service="scrape", password=PASSWORD) as node:
        node.group("g", str.encode).get("k")
        yield node


@pytest.fixture
def worker(node: Node, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-c", WORKER, f"local://{tmp_path}/meet", PASSWORD, "7"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        wait_until(lambda: address in {member.address for member in node.members()})
        yield process, address
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=20)


def test_one_node(node: Node) -> None:
    assert gets(node.metrics()) == {"": 1}
    assert gets(node.metrics(machine=True)) == {node.address: 1}


def test_a_directory_with_any_characters(tmp_path: Path) -> None:
    place = tmp_path / 'a"b\\c'
    place.mkdir(mode=0o700)
    with Node(registry=f"local://{place}", service="scrape", password=PASSWORD) as node:
        node.group("g", str.encode).get("k")
        assert gets(node.metrics(machine=True)) == {node.address: 1}


def test_all_nodes_of_a_machine(node: Node, worker: tuple[subprocess.Popen[str], str]) -> None:
    assert gets(node.metrics(machine=True)) == {node.address: 1, worker[1]: 7}
    assert gets(node.metrics()) == {"": 1}


def test_a_frozen_member_is_left_out(node: Node, worker: tuple[subprocess.Popen[str], str]) -> None:
    os.kill(worker[0].pid, signal.SIGSTOP)
    os.waitpid(worker[0].pid, os.WUNTRACED)  # it stands still now
    begun = time.monotonic()
    assert gets(node.metrics(machine=True)) == {node.address: 1}
    assert time.monotonic() - begun < 10  # not as long as it stands still


def test_a_node_that_has_not_started() -> None:
    node = Node()
    node.group("g", str.encode)
    assert gets(node.metrics()) == {"": 0}
