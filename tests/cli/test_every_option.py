"""Every option of a group and of a node can be set from the command line."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from kamacache import Node
from kamacache.cli.client import Client
from kamacache.cli.serve import serve
from kamacache.options import GroupOptions
from tests.cli.conftest import PATIENCE, Program
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import free_ports

ALL = """
[groups.all]
loader = "functions:load"
load_many = "functions:load_many"
on_evict = "functions:evicted"
codec = "functions:codec"
max_bytes = "4 KiB"
ttl = "1h"
policy = "lru"
near_ttl = 2
negative_ttl = "3s"
jitter = 0.5
load_timeout = "7s"
compress_above = "1 MiB"
version = 2
max_batch = 100
batch_window = "2ms"
concurrency = 4
key_codec = "auto"
cache_none = true
refresh_after = "8m"
early = 1.0
stale_while_revalidate = "30s"
stale_if_error = "1h"
soft_timeout = "100ms"
error_ttl = "2s"
"""

FUNCTIONS = """
class Upper:
    shareable = False

    def encode(self, value):
        return value.encode().upper()

    def decode(self, data):
        return data.decode()

codec = Upper()

def load(key):
    return str(key) * 100

def load_many(keys):
    return {key: f"many {key}" for key in keys}

def evicted(key, value, reason):
    with open("evicted", "a") as file:
        file.write(f"{key} {reason};")
"""


def test_every_option_of_a_group(program: Program) -> None:
    (program.directory / "functions.py").write_text(FUNCTIONS)
    (program.directory / "all.toml").write_text(ALL)
    assert all(f"\n{option} = " in ALL for option in inspect.signature(GroupOptions.make).parameters)
    node = program.serve("--config", "all.toml")
    with Client(node.address) as client:
        group = client.ask_json("KC.INFO")["groups"]["all@2"]
        assert group.pop("codec")
        assert group == {
            "policy": "lru",
            "max_bytes": 4096,
            "ttl": 3600.0,
            "near_ttl": 2.0,
            "negative_ttl": 3.0,
            "jitter": 0.5,
            "load_timeout": 7.0,
            "compress_above": 1 << 20,
            "version": 2,
            "max_batch": 100,
            "batch_window": 0.002,
            "concurrency": 4,
            "key_codec": "auto",
            "cache_none": True,
            "refresh_after": 480.0,
            "early": 1.0,
            "stale_while_revalidate": 30.0,
            "stale_if_error": 3600.0,
            "soft_timeout": 0.1,
            "error_ttl": 2.0,
            "on_evict": "functions.evicted",
            "loader": "functions.load",
            "load_many": "functions.load_many",
            "loads": True,
        }
        assert client.ask("GET", "all@2:ab") == b"AB" * 100
        assert client.ask("MGET", "all@2:c", "all@2:d") == [b"MANY C", b"MANY D"]
        for number in range(100):
            client.ask("GET", f"all@2:{number:02}")
    wait_until((program.directory / "evicted").exists, PATIENCE)
    wait_until(lambda: " capacity;" in (program.directory / "evicted").read_text(), PATIENCE)


def test_every_option_of_a_node_has_a_flag_and_a_variable() -> None:
    """Check that the variables are those of Node.from_env. A served node is no client, and text no ContextVar."""
    flags = {parameter.name: parameter for parameter in serve.params}
    options = set(inspect.signature(Node).parameters) - {"clock", "lane", "client", "context"}
    for option in options - {"tls", "password"} | {"tls_cert", "tls_key", "tls_ca", "tls_mutual"}:
        assert flags[option].envvar == f"KAMACACHE_{option.upper()}"
        assert f"--{option.replace('_', '-')}" in flags[option].opts
    assert "password" not in flags  # others would see it in the list of processes
    assert flags["password_file"].envvar == "KAMACACHE_PASSWORD_FILE"


@pytest.mark.parametrize("source", ["flags", "environment", "file"])
def test_options_of_a_node_from_each_source(program: Program, source: str) -> None:
    (program.directory / "password").write_text("a-secret")
    (port,) = free_ports(1)
    given: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "advertise": f"localhost:{port}",
        "registry": "none",
        "service": "shop",
        "weight": 2.5,
        "max_bytes": "20 MiB",
        "max_value": "1 MiB",
        "loader_threads": 3,
        "loader_queue": 7,
        "password_file": "password",
    }
    arguments: list[str] = []
    environment = {}
    if source == "flags":
        arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    elif source == "environment":
        environment = {f"KAMACACHE_{name.upper()}": str(value) for name, value in given.items()}
    else:
        lines = [f"{name} = {value!r}\n" for name, value in given.items()]
        (program.directory / "all.toml").write_text("".join(lines))
        arguments = ["--config", "all.toml"]
        environment = {"KAMACACHE_REGISTRY": ""}  # an empty variable is not set
    node = program.serve("--group", "bag", *arguments, environment=environment)
    with Client(node.address, password="a-secret") as client:  # noqa: S106 - of this test
        info = client.ask_json("KC.INFO")
        assert (info["service"], info["weight"], info["registry"]) == ("shop", 2.5, None)
        assert client.ask_json("KC.STATS")["bag"]["max_bytes"] == 20 << 20
        client.ask("SET", "bag:k", bytes(1 << 20))
    assert node.address == f"localhost:{port}"
    assert "max_value" in program.fails(
        4, "set", "bag", "k", "-", "--node", node.address, "--password-file", "password", stdin=bytes(1 + (1 << 20))
    )
