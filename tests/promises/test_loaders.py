"""Loaders: the keys that they see, the values that they may return, and the number of those that wait."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from enum import Enum
from typing import Any
from unittest import mock

import pytest

from kamacache import Group, Node, Value
from tests.promises.support import KINDS, in_tasks, isolated, make_group

WAYS = ("get", "get_many", "aget", "aget_many")

kinds = pytest.mark.parametrize("kind", KINDS)
ways = pytest.mark.parametrize("way", WAYS)


def ask(group: Group[Any], way: str, key: str) -> Any:
    """Return what a group has for a key, or None."""
    keys: Any = [key] if way.endswith("many") else key
    if not way.startswith("a"):
        found = getattr(group, way)(keys)
    else:
        found = in_tasks(lambda: getattr(group, way)(keys))[0]
        if isinstance(found, BaseException):
            raise found
    return found.get(key) if way.endswith("many") else found


class Kind(str, Enum):  # noqa: UP042 - as many programs have it
    """Keys whose text is another than what they are equal to."""

    BOOK = "book"


class Shouted(str):
    """A str of the user's own whose text is another than what it is equal to."""

    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()

    def __format__(self, spec: str) -> str:
        return self.upper()


@kinds
@ways
@isolated()
def test_a_loader_sees_the_key_that_its_value_is_kept_under(kind: str, way: str) -> None:
    for key in (Kind.BOOK, Shouted("book")):
        check_key(key, kind, way)


def check_key(key: str, kind: str, way: str) -> None:
    seen: list[str] = []

    def answer(key: str) -> bytes:
        seen.append(f"{key} {key!s}")
        return f"{key}".encode()

    group = make_group(Node(), kind, answer)
    assert ask(group, way, key) == b"book"
    assert seen == ["book book"]
    assert group.peek("book") == group.get("book") == group.get(key) == b"book"
    assert group.delete(key) is True
    assert group.peek("book") is None
    assert group.set(key, b"written") is True
    assert group.get("book") == b"written"
    assert len(seen) == 1


async def load(key: str) -> bytes:
    await asyncio.sleep(0)
    return key.encode()


async def load_many(keys: list[str]) -> dict[str, bytes]:
    await asyncio.sleep(0)
    return {key: key.encode() for key in keys}


def with_prefix(prefix: str, key: str) -> Awaitable[bytes]:
    return load(key)


class Instance:
    """A callable object whose __call__ is no coroutine function."""

    def __call__(self, key: str) -> Awaitable[bytes]:
        return load(key)


class Promise:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, key: str) -> None:
        self.key = key

    def __await__(self) -> Generator[Any, None, bytes]:
        return load(self.key).__await__()


def wrapped(function: Callable[[str], Awaitable[bytes]]) -> Callable[[str], Awaitable[bytes]]:
    @functools.wraps(function)
    def wrapper(key: str) -> Awaitable[bytes]:
        return function(key)

    return wrapper


AWAITABLE: dict[str, Callable[[], Any]] = {
    "lambda": lambda: lambda key: load(key + ""),
    "wrapper": lambda: wrapped(load),
    "partial": lambda: functools.partial(with_prefix, "prefix"),
    "partial of async": lambda: functools.partial(load),
    "object": Instance,
    "promise": lambda: Promise,
    "autospec": lambda: mock.create_autospec(load, side_effect=load),
    "mock": lambda: mock.Mock(side_effect=lambda key: load(key + "")),
    "load_many": lambda: lambda keys: load_many(list(keys)),
}


@pytest.mark.parametrize("loader", AWAITABLE)
@isolated()
def test_an_awaitable_that_a_loader_returns_is_awaited(loader: str) -> None:
    function = AWAITABLE[loader]()
    options = {"load_many": function} if loader == "load_many" else {"loader": function}
    group = Node().group("g", load_timeout=None, **options)
    for way in WAYS:
        assert ask(group, way, way) == way.encode()
        assert group.peek(way) == way.encode()


@pytest.mark.parametrize("ttl", [0, -0.25, "0s"])
@kinds
@isolated()
def test_a_value_whose_time_is_over_is_answered_and_not_kept(ttl: float | str, kind: str) -> None:
    loads: Counter[str] = Counter()

    def answer(key: str) -> Value[bytes]:
        loads[key] += 1
        return Value(f"{key}{loads[key]}".encode(), ttl=ttl)

    group = make_group(Node(), kind, answer)
    for way in WAYS:
        assert [ask(group, way, way) for _ in range(2)] == [f"{way}1".encode(), f"{way}2".encode()]
        assert group.peek(way) is None
    assert group.stats().load_errors == 0


@isolated(100)
def test_two_thousand_tasks_that_wait_for_a_slow_plain_loader() -> None:
    def slow(key: str) -> bytes:
        time.sleep(0.05)
        return key.encode()

    group = Node().group("g", slow, load_timeout=None)
    keys = [f"k{number}" for number in range(2000)]
    found = in_tasks(*(functools.partial(group.aget, key) for key in keys), within=90)
    errors = Counter(type(each).__name__ for each in found if isinstance(each, BaseException))
    assert not errors, errors
    assert found == [key.encode() for key in keys]
