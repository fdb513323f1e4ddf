"""The names that users import, what importing them costs, and how nodes and groups present themselves."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import kamacache
from kamacache import Group, Node

NAMES = {
    *{"Clock", "Codec", "Group", "GroupStats", "Member", "Node", "Registry", "TLS", "Value", "__version__"},
    *{"KamaCacheError", "CodecError", "ConfigError", "GroupClosed", "GroupExists", "InvalidKey", "LoadCycle"},
    *{"LoadError", "LoadTimeout", "NodeClosed", "Overloaded", "PeerError", "RegistryError", "UnknownGroup"},
    "ValueTooLarge",
}
BLOCKING = ("get", "get_many", "set", "set_many", "delete", "delete_many", "clear", "peek", "stats", "close")

# The module tells what importing it changed: threads, descriptors, and modules that are neither its own nor Python's.
IMPORTED = """
import json, os, sys, threading
before, files = set(sys.modules), set(os.listdir("/proc/self/fd"))
import kamacache
new = {name.partition(".")[0] for name in set(sys.modules) - before}
tasks = len(os.listdir("/proc/self/task"))
foreign = sorted(new - set(sys.stdlib_module_names) - {"kamacache"})
print(json.dumps({
    "threads": [threading.active_count(), tasks], "files": len(set(os.listdir("/proc/self/fd")) - files),
    "foreign": foreign, "modules": sorted(set(sys.modules)),
}))
"""


def test_the_public_names() -> None:
    assert set(kamacache.__all__) == NAMES
    assert len(kamacache.__all__) == len(NAMES)
    assert all(hasattr(kamacache, name) for name in NAMES)
    assert kamacache.__version__[0].isdigit()


@pytest.fixture(scope="module")
def imported() -> dict[str, Any]:
    script = [sys.executable, "-c", IMPORTED]
    printed = subprocess.run(script, capture_output=True, timeout=60, check=True).stdout
    changed: dict[str, Any] = json.loads(printed)
    return changed


def test_importing_starts_no_thread_and_opens_nothing(imported: dict[str, Any]) -> None:
    assert imported["threads"] == [1, 1]
    assert imported["files"] == 0


def test_importing_needs_python_alone(imported: dict[str, Any]) -> None:
    assert imported["foreign"] == []


@pytest.mark.parametrize(
    "module",
    [
        *("asyncio", "grpc", "ssl", "multiprocessing", "subprocess", "msgpack"),
        *("concurrent.futures", "dataclasses", "datetime", "inspect", "logging", "queue", "socket"),
        *(
            "kamacache.load.miss",
            "kamacache.cluster.membership",
            "kamacache.net.messages",
            "kamacache.serve.peers",
            "kamacache.net.native",
        ),
    ],
)
def test_importing_leaves_alone(imported: dict[str, Any], module: str) -> None:
    assert module not in imported["modules"]


@pytest.mark.parametrize("method", BLOCKING)
def test_every_blocking_method_has_a_twin(node: Node, method: str) -> None:
    group = node.group("g", str.encode)
    assert callable(getattr(group, method))
    assert callable(getattr(group, f"a{method}"))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_nodes_and_groups_stay_in_their_process(node: Node, copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        copied(node)
    with pytest.raises(TypeError, match=r"node\.group\("):
        copied(node.group("g", str.encode))


def test_reprs(node: Node) -> None:
    group: Group[bytes] = node.group("users", str.encode)
    assert "users" in repr(group)
    assert "closed" not in repr(group)
    assert "kamacache" in repr(node)
    group.close()
    node.close()
    assert "closed" in repr(group)
    assert "closed" in repr(node)


def test_attributes_cannot_be_misspelt(node: Node) -> None:
    with pytest.raises(AttributeError):
        node.group("g", str.encode).timeout = 5  # type: ignore[attr-defined]
