"""The node and the group of a backend, whatever its framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest

from kamacache import ConfigError, Node
from kamacache.integrations.place import placed


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of an application, with a node, a group and a path to itself."""
    made: Any = ModuleType("shop_of_place")
    made.node, made.itself = Node(), made
    made.prices = made.node.group("prices", codec="bytes")
    monkeypatch.setitem(sys.modules, "shop_of_place", made)
    return made


def test_a_node_of_the_application(shop: Any) -> None:
    node, group = placed("none", {"node": "shop_of_place.node", "group": "pages"})
    assert node is shop.node
    assert group is shop.node.groups["pages"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"node": "shop_of_place.prices"}, "'shop_of_place.prices': must be the dotted name of a Node, .* is a Group$"),
        ({"node": "shop_of_place.itself"}, "is a module$"),
        ({"node": "shop_of_place.nothing"}, "must be the dotted name of a Node, .* has no such name$"),
        ({"node": "node"}, "'node': must be the dotted name of a Node, .* such as shop.caching.node"),
        ({"node": 7}, "7: must be the dotted name of a Node"),
        ({"node": Node()}, "must be the dotted name of a Node"),
    ],
)
def test_a_node_that_is_none(shop: Any, options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        placed("none", options, group="pages")


def test_a_module_that_cannot_be_imported() -> None:
    """Raise what its import raises: that shows where."""
    with pytest.raises(ModuleNotFoundError, match="no_such_shop"):
        placed("none", {"node": "no_such_shop.node"}, group="pages")
