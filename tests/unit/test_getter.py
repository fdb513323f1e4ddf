"""Group.get as a native method: the interpreter calls it directly, and it keeps nothing alive."""

from __future__ import annotations

import gc
import inspect
import types
import weakref

import pytest

from kamacache import (
    Group,
    GroupClosed,
    InvalidKey,
    LoadCycle,
    LoadError,
    LoadTimeout,
    Node,
    NodeClosed,
    Overloaded,
)
from kamacache._engine import MISSING, Getter

from .test_store import build


def test_methods_belong_to_the_subclass_itself() -> None:
    for name in ("get", "_lookup"):
        method = vars(Group)[name]
        assert type(method) is types.MethodDescriptorType
        assert method.__objclass__ is Group
        assert list(inspect.signature(method).parameters) == ["self", "key"]
        assert method.__doc__
    method = vars(Group)["get_or_load"]
    assert type(method) is types.MethodDescriptorType
    assert list(inspect.signature(method).parameters) == ["self", "key", "load"]
    assert Group.__dictoffset__ == 0, "a __dict__ would be looked into before each call"


def test_reads_the_store() -> None:
    store = build()
    getter: Getter[bytes] = Getter(store)
    assert getter._lookup("k") is MISSING
    store.on_miss = lambda key: key.upper().encode()
    assert getter.get("k") == b"K"
    store.put("k", b"v", 0, None, store.MAIN)
    assert getter.get("k") == getter._lookup("k") == b"v"
    with pytest.raises(InvalidKey):
        getter.get("")
    assert store.stats()["gets"] == 4
    assert getter.get_or_load("k", lambda key: key) == b"v"  # type: ignore[arg-type, return-value]
    with pytest.raises(InvalidKey):
        getter.get_or_load("", lambda _: None)
    with pytest.raises(TypeError, match="takes a key and a function"):
        getter.get_or_load("k")  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="_or_load"):  # a group has it
        getter.get_or_load("other", lambda _: None)


def test_a_get_of_a_subclass_stays() -> None:
    class Loud(Getter[bytes]):
        def get(self, key: str, /) -> bytes | None:
            found = super().get(key)
            return found and found.upper()

    class Louder(Loud):
        pass

    store = build()
    store.put("k", b"v", 0, None, store.MAIN)
    for made in (Loud(store), Louder(store)):
        assert made.get("k") == b"V"
        assert made._lookup("k") == b"v"
    assert "get" not in vars(Louder)


def test_help_says_what_get_does() -> None:
    text = inspect.getdoc(Group.get) or ""
    assert text.startswith("Return the value for `key`, loading it on a miss; None if the source has none.")
    for error in (InvalidKey, LoadError, LoadTimeout, LoadCycle, Overloaded, GroupClosed, NodeClosed):
        assert f"    {error.__name__}: " in text
    assert "aget" in text


def test_refuses_objects_that_are_no_getter() -> None:
    with pytest.raises(TypeError):
        Group.get(build(), "k")  # type: ignore[call-overload]


def test_a_group_is_collected_with_its_store() -> None:
    node = Node()
    group = node.group("g", lambda key: key.encode())
    assert group.get("k") == b"k"
    group.close()
    dead = weakref.ref(group), weakref.ref(group._core.store)
    node.close()
    del group, node
    gc.collect()
    assert [ref() for ref in dead] == [None, None]
