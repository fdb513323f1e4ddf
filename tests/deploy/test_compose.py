"""The nodes of compose.yaml, run with its commands and variables; etcd with its flags."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from kamacache.units import parse_duration, parse_size
from tests.deploy.conftest import PORT, Replicas
from tests.deploy.files import (
    APP,
    EXAMPLES,
    Container,
    app,
    budget,
    command_of,
    documents,
    goodbye,
    instructions,
    unknown,
)
from tests.etcd.server import PACKAGED, Etcd

COMPOSE = EXAMPLES / "compose"
SECRET = "/run/secrets/kamacache_password"  # noqa: S105 - its path


def services() -> tuple[dict[str, Any], dict[str, Any]]:
    (compose,) = documents(COMPOSE / "compose.yaml")
    return compose["services"]["node"], compose["services"]["etcd"]


def test_nodes_share_their_loads_and_are_healthy(replicas: Replicas, etcd: Etcd, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("of-compose\n")
    container = Container(command_of(COMPOSE / "Dockerfile"), services()[0]["environment"], app())
    places = {"etcd:2379": f"127.0.0.1:{etcd.port}", SECRET: str(password)}
    waits = {'drain = "10s"': 'drain = "1s"'}  # for which the last one waits for another, as both end
    pair = replicas.pair(container, places | waits)
    assert [replica.asked("get", "prices", "book")["value"] for replica in pair] == ['{"price":4.99}'] * 2
    one, other = pair
    assert one.execute("kamacache", "set", "sessions", "s1", "open").returncode == 0
    assert other.asked("get", "sessions", "s1")["value"] == "open"
    cmdline = Path(f"/proc/{one.served.popen.pid}/cmdline")
    assert not cmdline.exists() or b"of-compose" not in cmdline.read_bytes()
    kind, *words = services()[0]["healthcheck"]["test"]
    assert kind == "CMD"
    check = [one.moved(word) for word in words]
    assert one.execute(*check).returncode == 0
    for replica in pair:
        replica.served.signal(signal.SIGTERM)
        assert replica.served.end() == 0
    assert one.execute(*check).returncode == 1
    assert sum("loaded book" in line for replica in pair for line in replica.served.log) == 1


def test_related_settings_agree() -> None:
    node, etcd = services()
    (compose,) = documents(COMPOSE / "compose.yaml")
    assert not unknown(node["environment"])
    assert dict(instructions(COMPOSE / "Dockerfile"))["EXPOSE"] == PORT
    assert node["ports"] == [f"127.0.0.1::{PORT}"]
    assert (COMPOSE / node["build"]["context"] / node["build"]["dockerfile"]).resolve() == COMPOSE / "Dockerfile"
    assert {f"/run/secrets/{name}" for name in node["secrets"]} == {SECRET}
    assert compose["secrets"].keys() == set(node["secrets"])
    assert parse_duration(node["stop_grace_period"], name="grace") >= goodbye(APP / "node.toml")
    limit = node["deploy"]["resources"]["limits"]["memory"].replace("M", "MiB")
    assert parse_size(limit, name="memory") >= budget(APP / "node.toml")
    assert "--listen-client-urls=http://0.0.0.0:2379" in etcd["command"]


def test_flags_of_etcd(tmp_path: Path) -> None:
    """Start a real etcd with the flags that are not about addresses."""
    flags = [flag for flag in services()[1]["command"][1:] if "client-urls" not in flag]
    assert flags
    with Etcd(tmp_path, PACKAGED / "etcd", *flags) as etcd:
        assert etcd.serves()
