"""The nodes of the Kubernetes manifests, run as a kubelet would start them; and names that must agree."""

from __future__ import annotations

import re
import signal
from typing import Any

from kamacache.options import NodeOptions
from kamacache.units import parse_size
from tests.cluster.cluster import wait_until
from tests.deploy.conftest import PORT, Replicas
from tests.deploy.files import APP, EXAMPLES, Container, app, budget, command_of, documents, goodbye, unknown
from tests.deploy.test_compose import services
from tests.etcd.server import Etcd

KUBERNETES = EXAMPLES / "kubernetes"
MADE = {"password": "of-kubernetes"}  # the Secret that the reader makes


def objects() -> dict[tuple[str, str], dict[str, Any]]:
    found = [document for path in KUBERNETES.glob("*.yaml") for document in documents(path)]
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


def pod_of(kind: str, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = objects()[kind, name]["spec"]["template"]["spec"]
    return pod


def node() -> dict[str, Any]:
    (found,) = pod_of("Deployment", "kamacache")["containers"]
    container: dict[str, Any] = found
    return container


def environment(pod_ip: str) -> dict[str, str]:
    """Return the variables that a kubelet makes of `env`: earlier ones may be named as $(NAME)."""
    made: dict[str, str] = {}
    for variable in node()["env"]:
        source = variable.get("valueFrom", {})
        if "fieldRef" in source:
            assert source["fieldRef"] == {"fieldPath": "status.podIP"}
            value = pod_ip
        elif "secretKeyRef" in source:
            value = MADE[source["secretKeyRef"]["key"]]
        else:
            value = re.sub(r"\$\((\w+)\)", lambda match: made[match[1]], variable["value"])
        made[variable["name"]] = value
    return made


def test_nodes_find_each_other_answer_probes_and_end(replicas: Replicas, etcd: Etcd) -> None:
    container = Container(node()["args"], environment("127.0.0.1"), app())
    one, other = replicas.pair(container, {"kamacache-etcd:2379": f"127.0.0.1:{etcd.port}"})
    assert {member["address"] for member in one.asked("members")} == {one.address, other.address}
    assert one.asked("get", "prices", "book") == other.asked("get", "prices", "book")
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = node()[kind]["httpGet"]
        assert probe["port"] == "kamacache"
        assert one.get(probe["path"]).status == 200
    assert one.get("/metrics").status == 401  # unlike probes, a scrape shows the password
    one.served.signal(signal.SIGTERM)
    assert one.served.end() == 0
    wait_until(lambda: other.sees(1))


def test_variables_are_those_of_nodes() -> None:
    """Check each variable, and that `Node.from_env` takes them all, as embedded nodes use the same."""
    variables = environment("10.1.2.3")
    assert not unknown(variables)
    options = NodeOptions.from_env(variables)
    assert options.advertise == f"10.1.2.3:{PORT}"
    assert options.registry == "etcd://kamacache-etcd:2379"
    assert options.protection.password == MADE["password"]
    for name in variables:
        if name.startswith("KAMACACHE_"):
            assert NodeOptions.from_env({**variables, name: ""}) != options, name


def test_ports_and_selectors_belong_together() -> None:
    assert node()["ports"] == [{"name": "kamacache", "containerPort": int(PORT)}]
    for kind, name in (("Deployment", "kamacache"), ("StatefulSet", "kamacache-etcd")):
        spec = objects()[kind, name]["spec"]
        labels = spec["template"]["metadata"]["labels"]
        (service,) = [objects()["Service", name]["spec"]]
        assert service["selector"] == labels == spec["selector"]["matchLabels"]
        ports = {port["name"] for container in spec["template"]["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["ports"]} <= ports
    assert objects()["StatefulSet", "kamacache-etcd"]["spec"]["serviceName"] == "kamacache-etcd"
    (port,) = objects()["Service", "kamacache-etcd"]["spec"]["ports"]
    assert f"etcd://kamacache-etcd:{port['port']}" in environment("10.1.2.3").values()
    nodes = {"matchLabels": objects()["Deployment", "kamacache"]["spec"]["template"]["metadata"]["labels"]}
    assert objects()["PodDisruptionBudget", "kamacache"]["spec"]["selector"] == nodes
    (rule,) = objects()["NetworkPolicy", "kamacache-etcd"]["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": nodes}]
    assert rule["ports"] == [{"port": port["targetPort"]}]


def test_the_secret_is_the_one_that_the_reader_makes() -> None:
    made = re.search(r"create secret generic (\S+) --from-literal=(\w+)=", (KUBERNETES / "kamacache.yaml").read_text())
    assert made is not None
    (used,) = [v["valueFrom"]["secretKeyRef"] for v in node()["env"] if "secretKeyRef" in v.get("valueFrom", {})]
    assert used == {"name": made[1], "key": made[2]}


def test_there_is_time_to_end_and_memory_to_live() -> None:
    pod = pod_of("Deployment", "kamacache")
    sleep = node()["lifecycle"]["preStop"]["exec"]["command"]
    assert sleep[0] == "sleep"
    assert pod["terminationGracePeriodSeconds"] >= int(sleep[1]) + goodbye(APP / "node.toml")
    limits = node()["resources"]["limits"]
    assert parse_size(f"{limits['memory']}B", name="memory") >= budget(APP / "node.toml")
    assert node()["resources"]["requests"]["memory"] == limits["memory"]


def test_the_images_are_those_of_compose() -> None:
    of_node, of_etcd = services()
    assert node()["image"] == of_node["image"]
    assert node()["args"] == command_of(EXAMPLES / "compose" / "Dockerfile")
    (container,) = pod_of("StatefulSet", "kamacache-etcd")["containers"]
    assert container["image"] == of_etcd["image"]
    (mount,) = container["volumeMounts"]
    flags = [word for word in container["command"] if "client-urls" not in word]
    assert flags == [
        *[word for word in of_etcd["command"] if "client-urls" not in word],
        f"--data-dir={mount['mountPath']}/data",
    ]
