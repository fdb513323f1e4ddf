"""The variants of compose.yaml and the Kubernetes manifests without etcd: names that must agree."""

from __future__ import annotations

import re

import yaml

from kamacache.registry import parse
from tests.deploy.conftest import PORT
from tests.deploy.files import EXAMPLES, documents
from tests.deploy.test_kubernetes import node, pod_of


class Reset(yaml.SafeLoader):
    """Reads the tag by which docker compose takes away what the file before said."""


Reset.add_constructor("!reset", lambda *_: None)


def test_compose_names_its_own_service() -> None:
    variant = yaml.load((EXAMPLES / "compose/compose.dns.yaml").read_text(), Reset)  # noqa: S506 - a safe loader
    (compose,) = documents(EXAMPLES / "compose/compose.yaml")
    ((name, service),) = variant["services"].items()
    assert compose["services"][name]["environment"].keys() >= service["environment"].keys()
    url = service["environment"]["KAMACACHE_REGISTRY"]
    assert url == f"dns://{name}:{PORT}"
    assert parse(url)
    assert service["depends_on"] is None
    assert "depends_on" in compose["services"][name]


def test_the_headless_service_selects_the_pods() -> None:
    path = EXAMPLES / "kubernetes_dns/members.yaml"
    (service,) = documents(path)
    spec = service["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)
    (url,) = re.findall(r"KAMACACHE_REGISTRY=(\S+)", path.read_text())
    assert url == f"dns://{service['metadata']['name']}:{PORT}"
    assert parse(url)
    assert pod_of("Deployment", "kamacache")["containers"] == [node()]
    (port,) = spec["ports"]
    assert port["targetPort"] in {one["name"] for one in node()["ports"]}
