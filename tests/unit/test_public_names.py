"""The names that users import, the cost of importing them, and how nodes and groups present themselves."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest

import kamacache
from kamacache import Group, Node
from kamacache.options import GroupOptions, NodeOptions
from kamacache.rules import Rules

NAMES = {
    *{"Clock", "Codec", "Group", "GroupStats", "Member", "Node", "Registry", "TLS", "Value", "__version__"},
    *{"KamaCacheError", "CodecError", "ConfigError", "GroupClosed", "GroupExists", "InvalidKey", "LoadCycle"},
    *{"LoadError", "LoadTimeout", "NodeClosed", "Overloaded", "PeerError", "RegistryError", "UnknownGroup"},
    *{"AsyncCachedFunction", "CachedFunction", "NotKey", "NoEventLoop", "NoLoader", "ValueTooLarge", "codec_for"},
    *{"Conflict", "Entry", "KEEP", "LockTaken", "Removed"},
}
BLOCKING = ("get", "get_many", "set", "set_many", "delete", "delete_many", "clear", "peek", "stats", "close")

# The program prints the changes by the import: threads, descriptors, and modules that are neither ours nor Python's.
IMPORTED = """
import json, os, sys, threading
before, files = set(sys.modules), set(os.listdir("/proc/self/fd"))
import kamacache
new = {name.partition(".")[0] for name in set(sys.modules) - before}
tasks = len(os.listdir("/proc/self/task"))
unlisted = {"_interpreters", "_xxsubinterpreters"}  # parts of Python all the same
foreign = sorted(new - set(sys.stdlib_module_names) - unlisted - {"kamacache"})
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


def test_nodes_and_groups_stay_in_their_process(node: Node) -> None:
    with pytest.raises(TypeError, match="make one in each process"):
        pickle.dumps(node)
    with pytest.raises(TypeError, match=r"node\.group\("):
        pickle.dumps(node.group("g", str.encode))


def test_a_copy_of_a_node_is_the_node(node: Node) -> None:
    """Return the node itself, as a logger does: an object that holds it can be copied, also by dataclasses."""

    @dataclass
    class App:
        node: Node

    assert copy.copy(node) is copy.deepcopy(node) is node
    assert asdict(App(node))["node"] is node


def test_the_names_that_complete_on_a_node_are_its_contract(node: Node) -> None:
    shown = {name for name in dir(node) if not name.startswith("_")}
    methods = {"start", "astart", "close", "aclose", "from_env", "members", "owner", "group", "loader", "cached"}
    methods |= {"reset", "delete_tag", "adelete_tag", "metrics"}
    assert shown == methods | {"address", "groups", "id"}


@pytest.mark.parametrize("method", [Node.group, Node.loader])
def test_help_shows_every_option_with_its_default(method: Callable[..., Any]) -> None:
    shown = inspect.signature(method).parameters
    for name, parameter in inspect.signature(GroupOptions.make).parameters.items():
        open_ = method is Node.loader and name == "codec"  # the annotation of the loader decides
        default = None if open_ else parameter.default
        assert (shown[name].default, shown[name].kind) == (default, parameter.KEYWORD_ONLY)
    options = {*GroupOptions._fields, *Rules._fields} - {"rules"}
    assert {*shown} == {*options, "self", "name", "load_many"} | ({"loader"} if method is Node.group else set())
    assert all(f"`{name}`" in (Node.group.__doc__ or "") for name in {*shown} - {"self"})


def test_help_shows_every_option_of_a_node() -> None:
    shown = inspect.signature(Node).parameters
    for name, parameter in inspect.signature(NodeOptions.make).parameters.items():
        assert shown[name].default == parameter.default
    assert all(f"`{name}`" in (Node.__doc__ or "") for name in shown)


@pytest.mark.parametrize("owner", [kamacache.Value, kamacache.TLS, GroupOptions, NodeOptions, Node, kamacache.Registry])
def test_annotations_can_be_read_at_run_time(owner: type[Any]) -> None:
    """Resolve them as frameworks that inject arguments do, in a process that has imported this package alone."""
    script = """
    import sys, typing, inspect, importlib
    owner = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    for name, member in inspect.getmembers(owner, lambda it: inspect.isfunction(it) or inspect.ismethod(it)):
        if name == "__init__" or not name.startswith("_"):
            typing.get_type_hints(member)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), owner.__module__, owner.__name__]
    subprocess.run(command, timeout=60, check=True)


def test_a_sub_interpreter_gets_an_error() -> None:
    """Raise there, as the first miss would hang: the engine's threads work for the main interpreter."""
    script = """
    import _testcapi, sys
    if sys.argv[1:] == ["imported"]:
        import kamacache
    assert _testcapi.run_in_subinterp("import kamacache") != 0
    """
    for arguments in ([], ["imported"]):
        command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
        done = subprocess.run(command, timeout=60, check=True, capture_output=True, text=True)
        assert "ImportError: kamacache works in the main interpreter alone" in done.stderr


def test_registries_are_found_without_running_them(tmp_path: Path) -> None:
    """Find them as PyInstaller does, by the import statements in the code."""
    program = tmp_path / "program.py"
    program.write_text("import kamacache")
    finder = ModuleFinder(path=[str(Path(kamacache.__file__).parents[1])])
    finder.run_script(str(program))
    assert {"kamacache.registry.local", "kamacache.registry.static", "kamacache.registry.etcd"} <= {*finder.modules}


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
        node.group("g", str.encode).timeout = 5
