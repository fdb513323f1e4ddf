"""The dashboard for Grafana names metrics, labels and values that a node has, and no panel lies on another."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kamacache import Node
from kamacache.serve.metrics import OUTCOMES
from tests.cluster.cluster import in_thread, wait_until
from tests.cluster.conftest import free_ports
from tests.http.client import PATIENCE

DASHBOARD: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "examples/grafana/kamacache.json").read_text(encoding="utf-8")
)
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
EVERYWHERE = {"job", "le"}  # Prometheus has the first, and histograms the second


@pytest.fixture(scope="module")
def labels() -> dict[str, set[str]]:
    """Return the labels of each metric of two nodes that see each other."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    node, other = (Node(address, registry=f"static://{','.join(addresses)}") for address in addresses)
    with closing(node), closing(other):
        node.group("g", {"a": b""}.__getitem__).get("a")
        in_thread(other.start).result(PATIENCE)
        wait_until(lambda: "kamacache_peer_seconds_bucket" in node.metrics(), PATIENCE)
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(node.metrics()):
            found.setdefault(family.name, set())
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found


def test_every_metric_and_label_exists(labels: dict[str, set[str]]) -> None:
    variables = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable]
    known = set()
    for expression in [*EXPRESSIONS, *variables]:
        names = re.findall(r"\bkamacache_\w+", expression)
        assert names, expression
        known.update(names)
        for name, braces in re.findall(r"\b(kamacache_\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)=", braces))
            assert name in labels, name
            assert used - EVERYWHERE <= labels[name] or not labels[name], (name, used)
    assert known <= labels.keys(), known - labels.keys()
    assert len(known) > 20


def test_values_of_labels_exist() -> None:
    text = " ".join(EXPRESSIONS)
    outcomes = {value for values in re.findall(r'outcome=~"([^"]+)"', text) for value in values.split("|")}
    assert outcomes
    assert outcomes <= set(OUTCOMES)
    assert set(re.findall(r'state="(\w+)"', text)) == {"alive"}


def test_panels_lie_side_by_side() -> None:
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(place["x"] + place["w"] <= 24 for place in places)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
