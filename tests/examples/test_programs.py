"""The examples that are programs: one process, three nodes with etcd, a node and a client of Redis."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import wait_until
from tests.etcd.server import Etcd
from tests.examples.conftest import PATIENCE, ROOT, Examples, Running


def test_one_process(examples: Examples) -> None:
    running = examples.start("One process")
    assert running.end() == 0
    assert running.said.splitlines() == [
        "  the source was asked for fr",
        "fr: Paris",
        "fr: Paris",
        "  the source was asked for xx",
        "xx: None",
        "  the source was asked for it, kz",
        "many: {'fr': 'Paris', 'it': 'Rome', 'kz': 'Astana'}",
        "  the source was asked for kz",
        "kz: Nur-Sultan",
        "fr: Versailles",
        "  the source was asked for fr",
        "fr: Paris",
        "10 gets: 3 hits, 1 known to be absent, 6 loads",
    ]


def test_cached_functions(examples: Examples) -> None:
    running = examples.start("Cached functions")
    assert running.end() == 0, running.said
    assert running.said.splitlines() == [
        "  the database reads product 42",
        "  an offer is written for product 42 in en",
        "first: Buy Towel: 12.50",
        "again: Buy Towel: 12.50",
        "  an offer is written for product 42 in fr",
        "three at once: ['Achetez Towel: 12.50', 'Achetez Towel: 12.50', 'Achetez Towel: 12.50']",
        "gone everywhere: True",
        "  the database reads product 42",
        "  an offer is written for product 42 in en",
        "then: Buy Towel: 9.50",
        "  the database reads product 43",
        "no such product: None None",
        "6 calls of offer: 1 hits, 3 runs; the key was \"42,'en'\"",
    ]


def test_sqlalchemy(examples: Examples) -> None:
    running = examples.start("SQLAlchemy")
    assert running.end() == 0, running.said
    assert running.said.splitlines() == [
        "  results of books are dropped everywhere: True",
        "  the database is asked",
        "below 10: ['Emma']",
        "below 10: ['Emma']",
        "  the database is asked",
        "below 20: ['Emma', 'Ulysses']",
        "below 10: ['Emma']",
        "  results of books are dropped everywhere: True",
        "  the database is asked",
        "below 10: ['Emma', 'Ulysses']",
    ]


class TestRedisClient:
    @pytest.fixture
    def node(self, examples: Examples) -> Running:
        return examples.start(
            "Redis clients, in other languages", KAMACACHE_REGISTRY="none", KAMACACHE_LISTEN="127.0.0.1:0"
        )

    def test_prints_its_findings(self, examples: Examples, node: Running) -> None:
        (address,) = node.wait_for(r"serving books, sessions at (\S+);")
        client = examples.start("Redis clients, in other languages", 1, CACHE_URL=f"redis://:let-me-in@{address[1]}")
        assert client.end() == 0, client.said
        art = '{"title":"The Art of Computer Programming"}'
        structure = '{"title":"Structure and Interpretation of Computer Programs"}'
        assert re.sub(r"for \d+ s", "for … s", client.said).splitlines() == [
            f"GET books:1 is {art}",
            "its title: The Art of Computer Programming",
            "GET books:99 is None",
            f"MGET is ['{art}', '{structure}', None]",
            "GET sessions:ada is logged in for … s",
            "DEL says 2",
            "GET sessions:ada is None",
            "EXISTS books:1 says 0",
            "GET books:one fails: LOADERR ValueError",
            "GET films:1 fails: NOGROUP no group 'films' here",
            "GET 1 fails: NOGROUP '1' names no group: keys are group:key",
        ]
        node.stop()
        assert node.end() == 0, node.said

    def test_is_let_in_by_password_alone(self, examples: Examples, node: Running) -> None:
        (address,) = node.wait_for(r"serving books, sessions at (\S+);")
        client = examples.start("Redis clients, in other languages", 1, CACHE_URL=f"redis://:guessed@{address[1]}")
        assert client.end() == 1
        assert "AuthenticationError" in client.said
        assert "GET books:1" not in client.said


class TestThreeNodes:
    @pytest.fixture
    def etcd(self, tmp_path: Path) -> Iterator[Etcd]:
        with Etcd(tmp_path) as made:
            yield made

    def test_go_on_when_one_is_killed(self, examples: Examples, etcd: Etcd) -> None:
        nodes = {}
        for running in [examples.start("Three nodes with etcd", KAMACACHE_REGISTRY=etcd.url) for _ in range(3)]:
            nodes[running.wait_for(r"^this is (\S+)")[0][1]] = running
        owner = owner_of_7(nodes)
        nodes.pop(owner).kill()
        assert owner_of_7(nodes) in nodes
        for running in nodes.values():
            running.stop()
        for running in nodes.values():
            assert running.end() == 0, running.said
            assert running.lines[-1] == "said goodbye\n"
            asked = [line for line in running.lines if " keys in " in line]
            assert asked == [line for line in asked if line.startswith("20 of 20 keys in")]
            assert "Traceback" not in running.said
        assert all(owner in key for key in etcd.entries())  # until its lease has run out


def owner_of_7(nodes: dict[str, Running]) -> str:
    """Return the owner of the key by the last lines of all nodes, once they see each other alone, and agree."""
    owners: set[str] = set()

    def agreed() -> bool:
        pattern = re.compile(f"members {' '.join(sorted(nodes))}; key 7 is (.*)'s$")
        last = [pattern.search(running.lines[-1]) for running in nodes.values()]
        owners.clear()
        owners.update(match[1] for match in last if match is not None)
        return None not in last and len(owners) == 1

    wait_until(agreed, PATIENCE)
    return owners.pop()


def test_the_readme_has_every_example() -> None:
    readme = (ROOT / "examples/README.md").read_text()
    for path in (ROOT / "examples").iterdir():
        assert path.name in {"README.md", "__pycache__"} or f"[{path.name}](" in readme, path
