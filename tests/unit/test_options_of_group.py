"""The options of nodes and groups as users give them; a name stands for one group until that or its node is closed."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import math
import sys
import textwrap
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from kamacache import Clock, ConfigError, Group, GroupClosed, GroupExists, KamaCacheError, Node, NodeClosed
from tests.unit.groups import WAYS, call

ABSURD = [True, math.nan, math.inf, -1, "soon", "-5s", "5 parsecs", b"5s", [5]]
METHODS: dict[str, tuple[Any, ...]] = {
    "get": ("k",),
    "get_many": (["k"],),
    "peek": ("k",),
    "set": ("k", b"v"),
    "set_many": ({"k": b"v"},),
    "delete": ("k",),
    "delete_many": (["k"],),
    "clear": (),
}


def load(key: str) -> bytes:
    return key.encode()


def load_more(keys: list[str]) -> dict[str, bytes]:
    return {key: key.encode() for key in keys}


class Source:
    def load(self, key: str) -> bytes:
        return key.encode()

    @classmethod
    def of_class(cls, key: str) -> bytes:
        return key.encode()

    def without_self() -> bytes:  # type: ignore[misc]
        return b""

    def key_alone(key: str) -> bytes:  # type: ignore[misc] # noqa: N805 - the mistake to be found
        return key.encode()


class Called:
    def __call__(self, key: str) -> bytes:
        return key.encode()


class Row:
    """An object that cannot be compared, as the arrays of numpy."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("which of them?")

    __hash__ = None  # type: ignore[assignment]


SOURCE: Any = Source()


def load_from(table: str, key: str, *, column: str = "") -> bytes:
    return f"{table}.{column}[{key}]".encode()


def partial(table: str, **options: str) -> Callable[[str], bytes]:
    return functools.partial(load_from, table, **options)


def closure(what: Any) -> Callable[[str], bytes]:
    def load(key: str) -> bytes:
        return repr((what, load)).encode()

    return load


def default(what: Any) -> Callable[[str], bytes]:
    def load(key: str, table: Any = what, *, column: Any = what) -> bytes:
        return repr((table, column)).encode()

    return load


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        *((5, 5.0), (0.5, 0.5), (timedelta(minutes=1), 60.0), ("500ms", 0.5), ("1h30m", 5400.0), ("1.5s", 1.5)),
        *(("10", 10.0), ("2d", 172800.0)),
    ],
)
def test_durations(node: Node, clock: Clock, ttl: Any, seconds: float) -> None:
    group = node.group("g", load, ttl=ttl, jitter=0)
    other = node.group("other", load)
    group.get("loaded")
    group.set("set", b"v")
    other.set("own", b"v", ttl=ttl)
    clock.advance(seconds * 0.999)
    assert None not in (group.peek("loaded"), group.peek("set"), other.peek("own"))
    clock.advance(seconds * 0.002)
    assert (group.peek("loaded"), group.peek("set"), other.peek("own")) == (None, None, None)


@pytest.mark.parametrize(
    ("size", "number"),
    [(4096, 4096), ("4096", 4096), ("4 KiB", 4096), ("5KB", 5000), ("1.5 MiB", 1572864), ("1GB", 10**9)],
)
def test_sizes(node: Node, size: Any, number: int) -> None:
    assert node.group("g", load, max_bytes=size).stats().max_bytes == number


@pytest.mark.parametrize("option", ["ttl", "near_ttl", "negative_ttl", "load_timeout"])
@pytest.mark.parametrize("value", ABSURD, ids=repr)
def test_absurd_durations(node: Node, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{option}="):
        node.group("g", load, **{option: value})
    assert not node.groups


@pytest.mark.parametrize("value", [value for value in ABSURD if value != -1], ids=repr)
@pytest.mark.parametrize("way", WAYS)
def test_absurd_ttls_of_writes(node: Node, way: str, value: Any) -> None:
    group = node.group("g", load)
    with pytest.raises(ConfigError, match="ttl="):
        call(way, group, "set", "k", b"v", ttl=value)
    with pytest.raises(ConfigError, match="ttl="):
        call(way, group, "set_many", {"k": b"v"}, ttl=value)
    assert group.peek("k") is None


@pytest.mark.parametrize(
    "options",
    [
        *({"ttl": 0}, {"near_ttl": None}, {"negative_ttl": None}, {"load_timeout": 0}, {"max_bytes": None}),
        *({"max_bytes": 2**64}, {"max_bytes": "99999999999 GiB"}),
        *({"max_bytes": 4095}, {"max_bytes": True}, {"max_bytes": "4 kb"}, {"max_bytes": 1e9}, {"policy": "arc"}),
        *({"codec": "xml"}, {"codec": 5}, {"codec": dict}, {"jitter": 1.0}, {"jitter": -0.1}, {"jitter": True}),
        *({"jitter": math.nan}, {"on_evict": 5}, {"load_many": 5}),
    ],
    ids=repr,
)
def test_options_that_cannot_be(node: Node, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        node.group("g", load, **options)
    with pytest.raises(ConfigError):
        node.loader("g", **options)(load)
    assert not node.groups


def test_loaders_that_cannot_be(node: Node) -> None:
    with pytest.raises(ConfigError, match="loader"):
        node.group("g", "load")  # type: ignore[call-overload]


def test_an_option_that_does_not_exist(node: Node) -> None:
    with pytest.raises(TypeError, match="max_byte"):
        node.group("g", load, max_byte="1 MiB")  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["", "a b", "ä", "a:b", "a/b", "x" * 65, "g\n", None, 5], ids=repr)
def test_bad_names(node: Node, name: Any) -> None:
    with pytest.raises(ConfigError, match="name"):
        node.group(name, load)
    with pytest.raises(ConfigError, match="name"):
        Node(service=name)


@pytest.mark.parametrize("name", ["a", "x" * 64, "A-Z_0.9", "-", "..."])
def test_good_names(node: Node, name: str) -> None:
    assert node.group(name, load).name == name
    Node(service=name).close()


@pytest.mark.parametrize(
    "options",
    [
        *({"tls": "on"}, {"password": "hunter 2"}, {"listen": "0.0.0.0:0"}, {"listen": "192.0.2.1:80"}),
        *({"listen": "nowhere"}, {"listen": "127.0.0.1"}, {"listen": "127.0.0.1:99999"}, {"advertise": "0.0.0.0:80"}),
        *({"registry": "redis://host"}, {"registry": "nothing"}, {"registry": 5}, {"weight": 0}, {"weight": True}),
        *({"weight": math.inf}, {"max_value": 0}, {"max_value": "2 GiB"}, {"loader_threads": 0}, {"insecure": 1}),
        *({"loader_threads": True}, {"loader_threads": 1.5}),
    ],
    ids=lambda options: str(next(iter(options.items()))),
)
def test_nodes_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Node(**options)
    assert next(iter(options)) in str(caught.value)
    assert "hunter" not in str(caught.value)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    assert any("Node" in shown for frame in frames for shown in (frame.locals or {}).values())  # it can be shown


def test_beyond_this_machine_by_choice() -> None:
    Node("0.0.0.0:0", insecure=True).close()


def test_listen_alone_is_positional() -> None:
    with pytest.raises(TypeError):
        Node("127.0.0.1:0", "127.0.0.1:1")  # type: ignore[call-arg]


def test_from_the_environment() -> None:
    environ = {"KAMACACHE_SERVICE": "shop", "KAMACACHE_MAX_VALUE": "10 B", "KAMACACHE_WEIGHT": "2.5", "PATH": "/"}
    with Node.from_env(environ, service="other", loader_threads=2) as node:
        assert "shop" in repr(node)
        assert [member.weight for member in node.members()] == [2.5]
        assert node.group("g", lambda _: bytes(11)).get("k") == bytes(11)
        assert node.groups["g"].stats().entries == 0
    for name, value in (("WEIGHT", "heavy"), ("PASSWORD", "hunter 2"), ("LISTEN", "0.0.0.0:1"), ("REGISTRY", "x")):
        with pytest.raises(ConfigError, match=f"(?i){name}") as caught:
            Node.from_env({f"KAMACACHE_{name}": value})
        assert "hunter" not in str(caught.value)


# -- the same name again -----------------------------------------------------------------------------------------------

SAME: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "function": (lambda: load, lambda: load),
    "partial": (lambda: functools.partial(load), lambda: functools.partial(load)),
    "partial of the function": (lambda: load, lambda: functools.partial(load)),
    "methods of one object": (lambda: SOURCE.load, lambda: SOURCE.load),
    "methods of one class": (lambda: Source.of_class, lambda: Source.of_class),
    "partials with equal arguments": (lambda: partial("table"), lambda: partial("table")),
    "closures over equal contents": (lambda: closure(["table"]), lambda: closure(["table"])),
    "closures over one function": (lambda: closure(closure(load)), lambda: closure(closure(load))),
    "closures over themselves": (lambda: closure(None), lambda: closure(None)),
    "lambda of one line": (lambda: lambda key: key, lambda: SAME["lambda of one line"][0]()),  # noqa: PLW0108 - the dictionary is not there yet
    "no loader": (lambda: None, lambda: None),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_function_gives_the_same_group(node: Node, case: str) -> None:
    first, second = (make() for make in SAME[case])
    group = node.group("g", first, ttl="60s")
    assert node.group("g", second, ttl=60) is group
    assert group.loader is second


DIFFERENT: dict[str, tuple[Any, Any]] = {
    "methods of two objects": (Source().load, Source().load),
    "objects of one class": (Called(), Called()),
    "methods in C of two objects": ({"k": b"1"}.get, {"k": b"1"}.get),
    "partials": (partial("users"), partial("orders")),
    "partials by keyword": (partial("users", column="a"), partial("users", column="b")),
    "a partial and another number of arguments": (partial("users"), partial("users", column="a")),
    "partials of two objects": (functools.partial(Source().load), functools.partial(Source().load)),
    "closures": (closure("users"), closure("orders")),
    "closures over two functions": (closure(closure(1)), closure(closure(2))),
    "closures over what cannot be compared": (closure(Row()), closure(Row())),
    "defaults": (default("users"), default("orders")),
    "caches": (functools.cache(closure("users")), functools.cache(closure("orders"))),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_functions_of_one_place_over_other_objects_are_refused(node: Node, case: str) -> None:
    """Refuse the second: of two repositories of one class, one would silently serve the rows of the other."""
    first, second = DIFFERENT[case]
    group = node.group("g", first)
    with pytest.raises(GroupExists, match=r"'g' exists with .* of another object or closure; close\(\) that group"):
        node.group("g", second)
    assert group.loader is first
    assert node.group("g", first) is group


def test_a_reloaded_module_gives_its_new_function(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the new function, although its decorators, classes and the functions in its closures are new objects too."""
    module = tmp_path / "its_loaders.py"
    text = """
        import functools
        def decorated(function):
            @functools.wraps(function)
            def wrapper(key):
                return function(key) + b"ANSWER"
            return wrapper
        @decorated
        def load(key):
            return key.encode()
        class Source:
            @classmethod
            def load(cls, key):
                return key.encode() + b"ANSWER"
        """
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module.write_text(textwrap.dedent(text).replace("ANSWER", "1"))
    found = importlib.import_module("its_loaders")
    groups = [node.group("function", found.load), node.group("method", found.Source.load)]
    module.write_text(textwrap.dedent(text).replace("ANSWER", "22"))
    importlib.reload(found)
    assert [node.group("function", found.load), node.group("method", found.Source.load)] == groups
    assert [group.get("k") for group in groups] == [b"k22", b"k22"]


@pytest.mark.parametrize(
    ("loader", "says"),
    [
        (lambda: b"", "too many positional arguments"),
        (load_from, r"load_from\(table: .*missing a required argument"),
        (Source.load, r"Source.load\(self, key: .*missing a required argument: 'key'.*source.load"),
        (SOURCE.without_self, "without_self takes no argument, not even self"),
        (SOURCE.key_alone, "too many positional arguments"),
        (functools.partial(load, "k"), "too many positional arguments"),
    ],
)
def test_a_loader_that_does_not_take_a_key(node: Node, loader: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^loader: .*{says}"):
        node.group("g", loader)
    with pytest.raises(ConfigError, match=f"^load_many: .*{says}"):
        node.group("g", load_many=loader)
    assert not node.groups


def test_loaders_without_a_known_signature(node: Node) -> None:
    """Accept functions in C without a signature, and a signature that a decorator sets."""

    @functools.wraps(load_from)
    def connected(key: str) -> bytes:
        return load_from("table", key)

    with pytest.raises(ValueError, match="signature"):
        inspect.signature({}.pop)
    assert node.group("c", {"k": b"v"}.pop).get("k") == b"v"
    assert node.group("wrapped", connected).get("k") == b"table.[k]"
    assert node.group("mock", mock.Mock(return_value=b"v")).get("k") == b"v"


@pytest.mark.parametrize(
    ("first", "second", "places"),
    [
        (load, Source().load, ["load", "Source.load", "close()"]),
        (load, None, ["load", "no loader"]),
        (lambda key: key, load, [__file__, f"{__name__}.load"]),
    ],
    ids=["functions", "none", "lambda"],
)
def test_another_function_is_refused(node: Node, first: Any, second: Any, places: list[str]) -> None:
    group = node.group("g", first)
    with pytest.raises(GroupExists) as caught:
        node.group("g", second)
    assert all(place in str(caught.value) for place in ["'g'", *places])
    assert node.groups["g"] is group
    assert group.loader is first


def test_two_lambdas_are_distinguished_by_their_lines(node: Node) -> None:
    first: Any = lambda key: key  # noqa: E731
    second: Any = lambda key: key  # noqa: E731
    node.group("g", first)
    with pytest.raises(GroupExists) as caught:
        node.group("g", second)
    line = first.__code__.co_firstlineno
    assert f"{__file__}:{line}" in str(caught.value)
    assert f"{__file__}:{line + 1}" in str(caught.value)


def test_another_load_many_is_refused(node: Node) -> None:
    node.group("g", load, load_many=load_more)
    with pytest.raises(GroupExists, match="load_more"):
        node.group("g", load)


def test_other_options_are_refused(node: Node) -> None:
    node.group("g", load, ttl="60s", max_bytes="1 MiB")
    with pytest.raises(GroupExists, match=r"load.*ttl: 60\.0, 61\.0") as caught:
        node.group("g", load, ttl="61s", max_bytes=2**20)
    assert "max_bytes" not in str(caught.value)


def test_the_decorator(node: Node) -> None:
    @node.loader("users", ttl="1h", codec="text")
    def users(key: str) -> str:
        return key.upper()

    assert isinstance(users, Group)
    assert users.name == "users"
    assert users.loader("a") == "A"
    assert users.get("b") == "B"
    assert node.groups["users"] is users


def test_the_decorator_takes_the_functions_name(node: Node) -> None:
    @node.loader
    def users(key: str) -> bytes:
        return key.encode()

    @node.loader(ttl="1h", codec="text")
    async def orders(key: str) -> str:
        return key

    assert {name: group.loader.__name__ for name, group in node.groups.items()} == {
        "users": "users",
        "orders": "orders",
    }
    assert users.get("k") == b"k"
    assert orders.get("k") == "k"
    for nameless in (lambda key: key, functools.partial(load)):
        with pytest.raises(ConfigError, match="group name"):
            node.loader(nameless)
        with pytest.raises(ConfigError, match="group name"):
            node.loader(ttl=1)(nameless)


def test_groups_are_a_live_read_only_view(node: Node) -> None:
    groups = node.groups
    assert dict(groups) == {}
    group = node.group("g", load)
    assert dict(groups) == {"g": group}
    with pytest.raises(TypeError):
        groups["h"] = group  # type: ignore[index]
    group.close()
    assert dict(groups) == {}


# -- closing -----------------------------------------------------------------------------------------------------------


def closed(way: str, what: Any) -> None:
    asyncio.run(what.aclose()) if way == "async" else what.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("whole", [False, True], ids=["group", "node"])
def test_after_close_everything_raises(node: Node, way: str, whole: bool) -> None:
    group = node.group("g", load)
    group.get("k")
    native = group.get
    assert native("k") == b"k"
    error: type[KamaCacheError] = NodeClosed if whole else GroupClosed
    for _ in range(2):
        closed(way, node if whole else group)
    for method, args in METHODS.items():
        for each in WAYS:
            with pytest.raises(error):
                call(each, group, method, *args)
    for nothing in ("get_many", "set_many", "delete_many"):
        with pytest.raises(error):
            getattr(group, nothing)({})
    with pytest.raises(error):
        group.set("k", b"v", wait=False)
    with pytest.raises(error):
        native("k")
    if whole:
        later = node.group("h", load)
        with pytest.raises(NodeClosed):
            later.get("k")


def test_each_raise_is_an_error_of_its_own(node: Node) -> None:
    group = node.group("g", load)
    group.close()
    errors = []
    for _ in range(2):
        with pytest.raises(GroupClosed) as caught:
            group.get("k")
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_a_closed_groups_name_is_free(node: Node) -> None:
    group = node.group("g", load)
    group.get("k")
    group.close()
    again = node.group("g", lambda _: b"new", ttl="1s")
    assert again is not group
    assert again.get("k") == b"new"
    group.close()
    assert node.groups["g"] is again
    with pytest.raises(GroupClosed):
        group.get("k")


def test_alone(node: Node) -> None:
    group = node.group("g", load)
    node.start()
    node.start()
    (member,) = node.members()
    assert (member.address, str(member), node.address) == (None, "", None)
    assert node.owner("g", "k") == member
    assert member.groups == ("g",)
    assert group.set("k", b"v") is True


def test_an_unknown_option_raises_the_error_of_python(node: Node) -> None:
    with pytest.raises(TypeError, match=r"\bgroup\(\) got an unexpected keyword argument 'max_byte'$"):
        node.group("g", load, max_byte="1 MiB")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"\bloader\(\) got an unexpected keyword argument 'tll'$"):
        node.loader("g", tll="1s")(load)  # type: ignore[call-overload]
    assert not node.groups
