"""docs/operations.md names metrics that exist, variables that are read, and texts that are really logged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kamacache import Node
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import free_ports
from tests.deploy.files import EXAMPLES, ROOT, unknown
from tests.http.client import PATIENCE, request

TEXT = (ROOT / "docs" / "operations.md").read_text()
SOURCES = "\n".join(
    path.read_text()
    for folder in ("src", "crates")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".rs"}
)
FOREIGN = {"invalid peer certificate", "UnknownIssuer", "not valid for name", "CertificateExpired"}  # said by rustls


@pytest.fixture
def page() -> Iterator[str]:
    """Return the metrics of a node that knows another."""
    ports = free_ports(2)
    listed = ",".join(f"127.0.0.1:{port}" for port in ports)
    nodes = [Node(f"127.0.0.1:{port}", registry=f"static://{listed}") for port in ports]
    for node in nodes:
        node.group("g", lambda key: key.encode())
        node.start()
    wait_until(lambda: all(len(node.members()) == len(nodes) for node in nodes), PATIENCE)
    ask = partial(request, str(nodes[0].address), "/metrics")
    wait_until(lambda: "kamacache_peer_seconds_bucket" in ask().body, PATIENCE)  # the other has answered
    yield ask().body
    for node in nodes:
        node.close(drain=0)


def test_the_table_has_every_metric(page: str) -> None:
    rows = re.findall(r"^\| (`kamacache_[^|=<>{]+`) \| ([^|]*)\|", TEXT, re.MULTILINE)
    told = {
        name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in re.findall(r"`(\w+)`", names)
    }
    there: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        there[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
    assert told == there


def test_alarms_ask_for_metrics_that_there_are(page: str) -> None:
    asked = set(re.findall(r"\b(kamacache_\w+)", TEXT)) - {"kamacache_password"}
    assert asked
    for name in asked:
        assert re.search(rf"^{name}[ {{]", page, re.MULTILINE) or f"# TYPE {name} histogram" in page, name


def test_words_of_the_log_are_said() -> None:
    """Find every quoted text with a space in the sources, except commands, settings and code."""
    quoted = {
        text for text in re.findall(r"`([^`\n]+)`", TEXT) if re.fullmatch(r"[a-z][a-z ,:']+ [a-z ,:']+[A-Za-z]*", text)
    }
    said = {text for text in quoted if not text.startswith(("kamacache ", "scheme: ", "chmod ", "max_bytes "))}
    assert len(said) > 10
    for text in sorted(said - FOREIGN):
        assert text in SOURCES, text


def test_variables_are_read() -> None:
    names = set(re.findall(r"\bKAMACACHE_[A-Z_]+\b", TEXT)) - {"KAMACACHE_NODE"}  # read by the other commands
    assert names
    assert not unknown(dict.fromkeys(names, ""))


def test_examples_are_linked() -> None:
    linked = set(re.findall(r"\(\.\./examples/([^)]+)\)", TEXT))
    assert {name.partition("/")[0] for name in linked} == {"compose", "grafana", "kubernetes", "systemd"}
    assert all((EXAMPLES / name).is_file() for name in linked)
