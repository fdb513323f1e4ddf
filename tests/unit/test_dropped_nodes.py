"""Nodes that the program forgets or replaces without closing them."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from kamacache import Group, Node
from tests.unit.groups import call, until

KINDS = {"alone": {}, "listening": {"listen": "127.0.0.1:0"}, "in a cluster": {"registry": "local://{}/registry"}}


def use(tmp_path: Path, options: dict[str, str], way: str) -> weakref.ref[Node]:
    given: dict[str, Any] = {name: text.format(tmp_path) for name, text in options.items()}
    tmp_path.chmod(0o700)
    node = Node(service="dropped", **given)
    group = node.group("g", str.encode)
    node.start()
    assert call(way, group, "get", "k") == b"k"
    return weakref.ref(node)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dropped_node_warns_and_is_released(tmp_path: Path, kind: str, way: str) -> None:
    gc.collect()
    files, threads = descriptors(), threading.active_count()
    with pytest.warns(ResourceWarning, match=r"was dropped without close\(\)"):  # noqa: PT031 - either may collect it
        node = use(tmp_path, KINDS[kind], way)
        until(lambda: gc.collect() >= 0 and node() is None)  # a thread of the pool may still end its last job
    until(lambda: threading.active_count() <= threads and descriptors() <= files)


def test_a_node_that_never_started_is_dropped_in_silence() -> None:
    node = weakref.ref(Node(registry="local://", service="silent"))
    gc.collect()
    assert node() is None


def test_a_group_keeps_its_node() -> None:
    def make() -> Group[bytes]:
        return Node().group("g", str.encode)

    group = make()
    assert group.get("a") == b"a"
    gc.collect()
    assert group.get("b") == b"b"
    _node_of(group).close()


def _node_of(group: Group[Any]) -> Node:
    """Return the node that the garbage collector finds, as a user's debugger does."""
    return next(
        node
        for node in gc.get_objects()
        if isinstance(node, Node) and group.name in node.groups and node.groups[group.name] is group
    )


# -- made again --------------------------------------------------------------------------------------------------------

MODULE = """
from kamacache import Node
node, other = (Node(registry="static://127.0.0.1:9", service="twins") for _ in range(2))
"""
CELL = 'node = Node(registry="static://127.0.0.1:9", service="cells")'


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return texts


def test_a_reloaded_module_that_makes_its_node_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "makes_nodes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("makes_nodes")
    assert said(caplog) == []
    kept = [module.node, module.other]
    importlib.reload(module)
    texts = said(caplog)
    assert len(texts) == 4  # each of the new ones for each of the old ones
    assert all("makes_nodes has run again" in text and "node.close()" in text for text in texts)
    for node in [*kept, module.node, module.other]:
        node.close()
    importlib.reload(module)
    assert said(caplog) == []
    module.node.close()
    module.other.close()


def test_a_cell_that_makes_its_node_again(caplog: pytest.LogCaptureFixture) -> None:
    notebook: dict[str, Any] = {"__name__": "notebook", "Node": Node}
    exec(compile(CELL, "<cell 1>", "exec"), notebook)  # noqa: S102 - as notebooks do
    assert said(caplog) == []
    old = notebook["node"]
    exec(compile(CELL, "<cell 2>", "exec"), notebook)  # noqa: S102 - the same
    (text,) = said(caplog)
    assert "'cells'" in text
    assert "node.close()" in text
    old.close()
    notebook["node"].close()


def test_nodes_that_a_function_makes_are_meant(caplog: pytest.LogCaptureFixture) -> None:
    nodes = [Node(registry="static://127.0.0.1:9", service="several") for _ in range(2)]
    assert said(caplog) == []
    for node in nodes:
        node.close()
