"""The node of the systemd unit, run with its ExecStart and its TOML."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

from kamacache.cli.config import read
from kamacache.units import parse_duration, parse_size
from tests.deploy.conftest import Replicas
from tests.deploy.files import APP, EXAMPLES, Container, budget, goodbye, unit
from tests.etcd.server import Etcd

UNIT = EXAMPLES / "systemd" / "kamacache.service"
SOCKET = EXAMPLES / "systemd" / "kamacache.socket"
CONFIG = EXAMPLES / "systemd" / "node.toml"
ENDPOINTS = "10.0.0.5:2379,10.0.0.6:2379,10.0.0.7:2379"


def test_a_pair_of_nodes(replicas: Replicas, etcd: Etcd, tmp_path: Path) -> None:
    service = unit(UNIT)["Service"]
    credential, _, _ = service["LoadCredential"].partition(":")
    (tmp_path / credential).write_text("of-systemd\n")
    access = ("--password-file", str(tmp_path / credential))
    container = Container(shlex.split(service["ExecStart"]), {}, [CONFIG, APP / "prices.py"], access)
    places = {
        ENDPOINTS: f"127.0.0.1:{etcd.port}",
        "${CREDENTIALS_DIRECTORY}": str(tmp_path),
        "/etc/kamacache/node.toml": "node.toml",
    }
    one, other = replicas.pair(container, places)
    assert [node.asked("get", "prices", "book")["value"] for node in (one, other)] == ['{"price":4.99}'] * 2
    one.served.signal(signal.SIGTERM)
    assert one.served.end() == 0


def test_the_port_is_free_when_systemd_takes_it() -> None:
    """Stop the service first: systemd refuses to listen on the port of a service that runs."""
    commands = "systemctl stop kamacache && systemctl enable --now kamacache.socket && systemctl start kamacache"
    operations = EXAMPLES.parent / "docs" / "operations.md"
    for text in (SOCKET.read_text(), operations.read_text()):
        assert commands in " ".join(text.split())
        assert text.count("enable --now") == 1


def test_related_settings_agree() -> None:
    service, text = unit(UNIT)["Service"], UNIT.read_text()
    for path in ("/opt/kamacache/app/prices.py", "/etc/kamacache/node.toml", "/etc/kamacache/password"):
        assert re.search(rf"^#.* {re.escape(path)}\b", text, re.MULTILINE), f"no command installs {path}"
    assert service["WorkingDirectory"] == "/opt/kamacache/app"
    assert service["LoadCredential"].endswith(":/etc/kamacache/password")
    assert service["Type"] == "notify"
    assert unit(SOCKET)["Socket"]["ListenStream"] == read(str(CONFIG)).node["listen"]
    assert parse_duration(service["TimeoutStopSec"], name="stop") >= goodbye(CONFIG)
    assert parse_size(service["MemoryMax"].replace("M", "MiB"), name="memory") >= budget(CONFIG)
    assert read(str(CONFIG)).node["registry"] == f"etcd://{ENDPOINTS}"
