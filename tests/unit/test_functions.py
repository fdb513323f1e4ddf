"""Cached functions on a node alone: their keys, their methods, what they raise, and how they look."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import re
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pytest

import kamacache
from kamacache import (
    AsyncCachedFunction,
    CachedFunction,
    Clock,
    ConfigError,
    GroupClosed,
    GroupExists,
    LoadError,
    Node,
    NotKey,
    Value,
)
from kamacache.options import GroupOptions
from tests.unit.groups import PATIENCE, Caller, until

if TYPE_CHECKING:
    import typing_extensions as te
    from nowhere import Unknown  # type: ignore[import-not-found]

    Alias = Annotated[Unknown, NotKey]

Session = Annotated[object, NotKey]
RUNS: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    RUNS.clear()


def product(product_id: int, lang: str = "en", *, db: Annotated[Unknown, kamacache.NotKey] = None) -> str:
    """Return a product."""
    RUNS.append((product_id, lang, db))
    return f"{product_id} {lang}"


async def aproduct(product_id: int, lang: str = "en", *, db: Annotated[Unknown, NotKey] = None) -> str:
    """Return a product."""
    return product(product_id, lang, db=db)


WAYS = {"plain": product, "async": aproduct}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def function(node: Node, way: str) -> Any:
    return node.cached(ttl="1h")(WAYS[way])


def run(result: Any) -> Any:
    """Return a result, on an event loop of its own if it is to be awaited."""

    async def main() -> Any:
        return await result

    return asyncio.run(main()) if inspect.iscoroutine(result) else result


def test_calls_with_the_same_arguments_are_one_entry(function: Any) -> None:
    calls: list[tuple[Any, ...]] = [
        ((1,), {}),
        ((), {"product_id": 1}),
        ((1, "en"), {}),
        ((1,), {"lang": "en", "db": 5}),
    ]
    assert [run(function(*args, **kwargs)) for args, kwargs in calls] == ["1 en"] * 4
    assert {function.key(*args, **kwargs) for args, kwargs in calls} == {"1,'en'"}
    assert len(RUNS) == 1
    assert run(function(1, "de")) == "1 de"
    assert run(function("1")) == "1 en"
    assert run(function(True)) == "True en"
    assert RUNS == [(1, "en", None), (1, "de", None), ("1", "en", None), (True, "en", None)]


def test_it_runs_with_the_arguments_of_the_call(function: Any) -> None:
    session = object()
    run(function(1, db=session))
    run(function(1, db=object()))
    assert [(1, "en", session)] == RUNS


def test_the_methods(function: Any) -> None:
    run(function(1))
    assert run(function.invalidate(1)) is True
    assert run(function(1)) == "1 en"
    assert len(RUNS) == 2
    assert run(function.refresh(1, db=7)) == "1 en"
    assert RUNS[2:] == [(1, "en", 7)]
    assert run(function.set("mine", 1, "de")) is True
    assert run(function(1, "de")) == "mine"
    assert run(function.many([(1,), {"product_id": 2}, (1, "de"), (2, "en"), (1,)], db=8)) == [
        *("1 en", "2 en", "mine", "2 en", "1 en")
    ]
    assert RUNS[3:] == [(2, "en", 8)]
    assert run(function.many([])) == []
    assert run(function.clear()) is True
    run(function(1))
    assert len(RUNS) == 5
    assert function.stats() == function.group.stats()
    assert function.stats().loads == 5


@pytest.mark.parametrize("call", ["12", 1, b"1"])
def test_many_takes_tuples(function: Any, call: Any) -> None:
    with pytest.raises(TypeError, match=r"a tuple of arguments for each call"):
        run(function.many([call]))


def test_every_answer_is_counted_once(function: Any) -> None:
    for _ in range(3):
        run(function(1))
    run(function.many([(1,), (2,)]))
    stats = function.stats()
    assert (stats.gets, stats.hits, stats.loads) == (5, 3, 2)


def test_a_wrong_call_is_a_type_error_as_without_a_cache(function: Any) -> None:
    for args, kwargs in (((), {}), ((1, "en", 3), {}), ((1,), {"land": 1}), ((1,), {"product_id": 1})):
        with pytest.raises(TypeError) as cached:
            run(function(*args, **kwargs))
        with pytest.raises(TypeError) as bare:
            run(function.__wrapped__(*args, **kwargs))
        assert str(cached.value) == str(bare.value)


def test_it_looks_like_the_function(function: Any, way: str) -> None:
    bare = WAYS[way]
    assert function.__wrapped__ is bare
    assert (function.__name__, function.__qualname__, function.__module__) == (
        bare.__name__,
        bare.__qualname__,
        __name__,
    )
    assert inspect.getdoc(function) == "Return a product."
    assert inspect.signature(function) == inspect.signature(bare)
    assert function.group.name == f"{__name__}.{bare.__qualname__}"
    assert repr(function).startswith(f"<kamacache.{type(function).__name__} {bare.__qualname__} in <kamacache.Group")
    if way == "async":
        assert isinstance(function, AsyncCachedFunction)
        assert asyncio.iscoroutinefunction(function)
    else:
        assert isinstance(function, CachedFunction)


def test_without_parentheses(node: Node) -> None:
    @node.cached
    def plain(number: int) -> str:
        return str(number)

    assert plain(5) == "5"
    with pytest.raises(TypeError, match=r"cached takes options by name, as in cached\(ttl='10m'\), not '10m'"):
        node.cached("10m")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'tll'"):
        node.cached(tll="10m")  # type: ignore[call-overload]


# -- what is kept --------------------------------------------------------------------------------------------------


def test_a_value_has_its_own_ttl_and_none_is_absence(node: Node, clock: Clock) -> None:
    @node.cached(ttl="1h", jitter=0, negative_ttl="5s")
    def token(name: str) -> str | Value[str] | None:
        RUNS.append(name)
        known: dict[str, str | Value[str]] = {"short": Value("s", ttl="1s"), "long": "l"}
        return known.get(name)

    assert [token(name) for name in ("short", "long", "none") * 2] == ["s", "l", None] * 2
    assert RUNS == ["short", "long", "none"]
    clock.advance(2.0)
    assert [token(name) for name in ("short", "long", "none")] == ["s", "l", None]
    assert RUNS == ["short", "long", "none", "short"]
    clock.advance(5.0)
    assert token("none") is None
    assert RUNS[4:] == ["none"]
    token.set(Value("set", ttl="1s"), "long")
    assert token("long") == "set"
    clock.advance(2.0)
    assert token("long") == "l"
    assert token.many([("none",), ("long",)]) == [None, "l"]


def test_the_codec_is_chosen_by_the_annotation(node: Node) -> None:
    @dataclass
    class Item:
        number: int

    def item(number: int) -> Item | None:
        return Item(number)

    cached = node.cached(item)
    assert cached(1) == Item(1)
    assert cached(1) == Item(1)
    assert "Item" in repr(cached.group)


# -- what is raised ------------------------------------------------------------------------------------------------


def failing(number: int) -> str:
    RUNS.append(number)
    raise LookupError(number)


async def afailing(number: int) -> str:
    return failing(number)


@pytest.mark.parametrize("bare", [failing, afailing])
def test_its_own_exception_reaches_the_caller_whose_call_ran(node: Node, bare: Callable[..., Any]) -> None:
    function: Any = node.cached(bare)
    calls: list[Callable[[], Any]] = [
        lambda: function(1),
        lambda: function.refresh(1),
        lambda: function.many([(1,), (2,)]),
    ]
    for call in calls:
        with pytest.raises(LookupError) as caught:
            run(call())
        error = caught.value
        assert not isinstance(error, kamacache.KamaCacheError)
        assert (error.args, error.__cause__, error.__context__) == ((1,), None, None)
        assert [each.name for each in traceback.extract_tb(error.__traceback__)][-1] == "failing"
    assert RUNS == [1, 1, 1]
    del caught, error


def test_each_of_many_is_a_load_of_its_own(node: Node) -> None:
    """Keep what was loaded before a failure; a caller waits for one call, and a call has a time of its own."""
    gates = {number: threading.Event() for number in range(1, 6)}

    @node.cached(load_timeout=PATIENCE)
    def held(number: int) -> str:
        RUNS.append(number)
        assert gates[number].wait(PATIENCE)
        return failing(number) if number == 3 else str(number)

    batch = Caller(held.many, [(number,) for number in gates])
    until(lambda: RUNS == [1])
    single, other = Caller(held, 1), Caller(held, 4)
    until(lambda: sorted(RUNS) == [1, 4] and held.stats().gets == 7)
    gates[4].set()
    gates[1].set()
    assert (single.result(), other.result()) == ("1", "4")
    gates[2].set()
    gates[3].set()
    with pytest.raises(LookupError):
        batch.result()
    assert held.many([(1,), (2,), (4,)]) == ["1", "2", "4"]
    assert sorted(RUNS) == [1, 2, 3, 3, 4], "failing() notes its run too"
    stats = held.stats()
    assert (stats.gets, stats.hits, stats.loads, stats.load_errors) == (10, 3, 4, 1)


def test_many_calls_may_take_longer_than_one(node: Node) -> None:
    @node.cached(load_timeout=0.5)
    async def slow(number: int) -> str:
        RUNS.append(number)
        await asyncio.sleep(0.2)
        return str(number)

    assert run(slow.many([(number,) for number in range(4)])) == ["0", "1", "2", "3"]
    assert run(slow.many([(number,) for number in range(4)])) == ["0", "1", "2", "3"]
    assert RUNS == [0, 1, 2, 3]


def test_those_who_waited_get_a_load_error_with_it_as_cause(node: Node) -> None:
    go, error = threading.Event(), LookupError("gone")

    @node.cached
    def held(number: int) -> str:
        RUNS.append(number)
        assert go.wait(PATIENCE)
        raise error

    first = Caller(held, 1)
    until(lambda: bool(RUNS))
    second = Caller(held, 1)
    until(second.waits)
    go.set()
    assert first.error() is error
    other = second.error()
    assert isinstance(other, LoadError)
    assert other.__cause__ is error
    assert RUNS == [1]


def test_a_group_that_was_closed(node: Node) -> None:
    function = node.cached(product)
    function(1)
    function.group.close()
    with pytest.raises(GroupClosed):
        function(1)


# -- methods -------------------------------------------------------------------------------------------------------


def shop(node: Node) -> Any:
    """Return a class with a cached method of each kind."""

    class Shop:
        @node.cached(ignore=("self",))
        def method(self, number: int) -> str:
            RUNS.append((self, number))
            return str(number)

        @node.cached(ignore="self")
        async def amethod(self, number: int) -> str:
            return str(number)

        @node.cached
        @classmethod
        def above(cls, number: int) -> str:
            return f"{cls.__name__} {number}"

        @classmethod
        @node.cached
        def below(cls, number: int) -> str:
            return f"{cls.__name__} {number}"

        @node.cached
        @staticmethod
        def static_above(number: int) -> str:
            return str(number)

        @staticmethod
        @node.cached
        def static_below(number: int) -> str:
            return str(number)

        @node.cached
        def ordinary(self, number: int) -> str:
            return str(number)

        @node.cached(key="{self.name}:{number}")
        def named(self, number: int) -> str:
            return str(number)

        name = "shop"

    return Shop


def test_methods_are_bound(node: Node) -> None:
    cls = shop(node)
    one, other = cls(), cls()
    assert one.method(1) == other.method(1) == cls.method(one, 1) == "1"
    assert [(one, 1)] == RUNS
    assert one.method.key(1) == cls.method.key(one, 1) == cls.method.key(number=1) == "1"
    assert one.method.invalidate(1) is True
    assert other.method.refresh(1) == "1"
    assert other.method.many([(1,), (2,)]) == ["1", "2"]
    assert RUNS[1:] == [(other, 1), (other, 2)]
    assert one.method.set("x", 1) is True
    assert other.method(1) == "x"
    assert run(one.amethod(3)) == run(other.amethod(3)) == "3"
    assert run(one.amethod.invalidate(3)) is True
    assert one.method.__name__ == "method"
    assert repr(one) in repr(one.method)
    assert inspect.signature(cls.method) == inspect.signature(cls.method.__wrapped__)
    for method in (one.method, one.amethod, cls.above, one.above, cls.below):
        assert str(inspect.signature(method)) == "(number: 'int') -> 'str'"  # frameworks read it
    assert one.method.__wrapped__(3) == "3"


def test_class_methods_and_static_methods(node: Node) -> None:
    cls = shop(node)
    sub: Any = type("Sub", (cls,), {})
    assert (cls.above(1), sub.above(1), sub().above(1)) == ("Shop 1", "Sub 1", "Sub 1")
    assert (cls.below(1), sub.below(1), sub().below(1)) == ("Shop 1", "Sub 1", "Sub 1")
    assert cls.above.key(1) != sub.above.key(1)
    assert cls.above.invalidate(1) is True
    for static in (cls.static_above, cls().static_above, cls.static_below, cls().static_below):
        assert static(1) == "1"
        assert static.key(1) == "1"


def test_a_class_method_that_is_asked_without_its_class(node: Node) -> None:
    """As Python 3.13 and newer do for the methods of a cached function below @classmethod."""

    @node.cached
    def below(cls: type, number: int) -> str:
        return f"{cls} {number}"

    assert below.key(int, 1) == "<builtins.int>,1"
    with pytest.raises(TypeError, match=r"takes a class as 'cls', not 1: write @node.cached above @classmethod"):
        below.invalidate(1)


def test_an_ordinary_self_has_no_key(node: Node) -> None:
    instance = shop(node)()
    with pytest.raises(
        TypeError, match=r"ordinary\(\): .*'self', a shop.<locals>.Shop; write ignore=\('self',\).* key="
    ):
        instance.ordinary(1)
    assert instance.named(1) == "1"
    assert instance.named.key(1) == "shop:1"


def test_a_frozen_self_is_part_of_the_key(node: Node) -> None:
    @dataclass(frozen=True)
    class Shop:
        name: str

        @node.cached
        def price(self, number: int) -> str:
            return f"{self.name} {number}"

    assert [Shop(name).price(1) for name in "aba"] == ["a 1", "b 1", "a 1"]
    assert Shop("a").price.stats().loads == 2
    assert Shop("a").price.key(1) == f"{__name__}.{Shop.__qualname__}(name='a'),1"


# -- keys ----------------------------------------------------------------------------------------------------------


def everything(a: int, /, b: int = 2, *rest: int, c: int, d: int = 4, **more: int) -> str:
    return f"{a}{b}{rest}{c}{d}{more}"


def test_every_kind_of_parameter(node: Node) -> None:
    function = node.cached(everything)
    assert function.key(1, c=3) == "1,2,(),3,4,{}"
    assert function.key(1, 2, 5, 6, c=3, y=1, x=True) == "1,2,(5,6),3,4,{'x':True,'y':1}"
    assert function.key(1, c=3, a=7) == "1,2,(),3,4,{'a':7}"
    assert function(1, 2, 5, c=3, x=1) == everything(1, 2, 5, c=3, x=1)
    assert node.cached(lambda: b"").key() == "()"


def hard_names(type: str, str: str, len: int, repr: float = 1.5, write: Any = (1,), it: Any = "it's") -> bytes:  # noqa: A002
    return b""


def test_names_and_defaults_that_the_key_function_uses_itself(node: Node) -> None:
    assert node.cached(hard_names).key("a", "b", 3) == "'a','b',3,1.5,(1,),\"it's\""
    assert node.cached(name="t", key="{type}'\"\\{{{str:>3}}}{len}")(hard_names).key("a", "b", 3) == "a'\"\\{  b}3"


def test_an_argument_without_a_key_names_its_remedies(node: Node) -> None:
    function = node.cached(product)
    with pytest.raises(TypeError) as raised:
        function([1])  # type: ignore[arg-type]
    assert str(raised.value) == (
        "product(): no key can be made of the argument 'product_id', a list (give a tuple); write "
        "ignore=('product_id',), or annotate it Annotated[..., kamacache.NotKey], if the result does not depend on it, "
        "else key= with what it depends on"
    )
    with pytest.raises(TypeError, match="no key can be made of the argument 'more', a list"):
        node.cached(everything).key(1, c=3, x=[1])


def test_long_keys_are_cut_down_to_a_hash(node: Node) -> None:
    function = node.cached(product)
    one, other = "a" * 100_000, "a" * 99_999 + "b"
    assert function(one) == f"{one} en"  # type: ignore[arg-type]
    assert len(function.key(one)) == 65
    assert function.key(one) != function.key(other)
    assert len(function.key("\udc80" * 1000)) == 65
    assert function.key("\udc80") == "'\\udc80','en'"
    named = node.cached(name="n", key=lambda text, **_: text)(product)
    assert len(named.key(one)) == 65


def test_parameters_that_are_not_part_of_the_key(node: Node) -> None:
    def alias(number: int, db: Session, other: kamacache.NotKey | None = None) -> bytes:
        return b""

    def optional(number: int, db: Annotated[Unknown, NotKey] | None = None) -> bytes:
        return b""

    def for_checkers(number: int, db: te.Annotated[Unknown.x[int] | None, Unknown(5), kamacache.NotKey]) -> bytes:
        return b""

    def unresolved(number: int, db: Alias) -> bytes:
        return b""

    assert node.cached(alias).key(1) == "1,None"
    assert node.cached(optional).key(1, 5) == "1"
    assert node.cached(for_checkers).key(1) == "1"
    with pytest.raises(TypeError, match=r"'db', an object.*ignore="):
        node.cached(unresolved).key(1, object())
    assert node.cached(name="ignored", ignore=("db",))(unresolved).key(1) == "1"


def test_what_is_left_out_may_stand_before_what_is_not(node: Node) -> None:
    @node.cached(ignore=("db",))
    def first(db: object, number: int, lang: str = "en") -> bytes:
        return b""

    assert first.key(None, 1) == first.key(number=1) == "1,'en'"
    with pytest.raises(TypeError, match="missing 1 required argument: 'number'"):
        first.invalidate()
    with pytest.raises(TypeError, match="'number'"):
        first(1)  # type: ignore[call-arg]


def test_templates(node: Node) -> None:
    function = node.cached(key="product:{product_id}:{lang:>4}")(product)
    assert function.key(7) == function.key("7") == "product:7:  en"
    assert function(7) == "7 en"
    fixed = node.cached(name="fixed", key="all")(product)
    assert fixed.key() == "all"

    @dataclass
    class User:
        id: int

    @node.cached(key="{user.id}")
    def of(user: Any) -> bytes:
        return b""

    assert of.key(User(5)) == "5"

    @node.cached(name="whole", key="{user}")
    def whole(user: Any) -> bytes:
        return b""

    with pytest.raises(TypeError, match=r"\{user\} in key= is a object, whose text is its address; name an attribute"):
        whole(object())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "{land}"}, r"key='{land}': {land} is no argument of product; write {product_id}, {lang}, {db}"),
        *(({"key": key}, "is no argument") for key in ("{}", "{0}", "{lang[0]}", "{lang:{db}}", "{lang.}")),
        ({"key": "{lang!r}"}, r"{lang!r} takes no conversion such as !r"),
        ({"key": "{lang"}, "expected '}'"),
        ({"key": ""}, "at least one character"),
        ({"key": "x", "ignore": ("db",)}, "ignore=.* has no meaning"),
        ({"ignore": ("land",)}, "has no parameter 'land'"),
        ({"name": "a b"}, "group name 'a b'"),
        ({"ttl": 0}, "ttl=0"),
        ({"load_many": dict}, r"load_many=: .* one call of the function loads one result"),
        ({"key_codec": "auto"}, r"key_codec=: .* made of the arguments; write key="),
    ],
)
def test_options_that_cannot_be(node: Node, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        node.cached(**options)(product)
    assert not node.groups


def test_a_callable_key_gets_the_arguments_of_the_call(node: Node) -> None:
    got: list[Any] = []

    def key(*args: Any, **kwargs: Any) -> Any:
        got.append((args, kwargs))
        return args[0]

    function = node.cached(key=key)(product)
    assert function("x", db=1) == "x en"  # type: ignore[arg-type]
    assert function.key("x") == "x"
    assert got == [(("x",), {"db": 1}), (("x",), {})]
    with pytest.raises(TypeError, match=r"product\(\): key= returned a int, not a str"):
        function(1)


# -- groups --------------------------------------------------------------------------------------------------------


def test_the_same_function_has_one_group(node: Node) -> None:
    function = node.cached(ttl="1h")(product)
    again = node.cached(ttl="1h")(product)
    function(1)
    assert again(1) == "1 en"
    assert again.group is function.group
    assert len(RUNS) == 1
    for options in (
        {"ttl": "2h"},
        {"ttl": "1h", "key": "x"},
        {"ttl": "1h", "ignore": ("lang",)},
    ):
        with pytest.raises(GroupExists):
            node.cached(**options)(product)
    with pytest.raises(GroupExists, match="aproduct"):
        node.cached(name=function.group.name, ttl="1h")(aproduct)
    with pytest.raises(GroupExists):
        node.group(function.group.name, lambda _: "", codec="text", ttl="1h")


@pytest.mark.skipif("version" not in GroupOptions._fields, reason="an option of groups")
def test_two_versions_share_nothing(node: Node) -> None:
    options: dict[str, Any] = {"version": 2}
    assert node.cached(product)(1) == node.cached(**options)(product)(1) == "1 en"
    assert len(RUNS) == 2


def test_two_closures_need_two_names(node: Node) -> None:
    def make(suffix: str, **options: Any) -> Any:
        def function(number: int) -> str:
            return f"{number}{suffix}"

        return node.cached(**options)(function)

    one = make("a")
    assert make("a").group is one.group
    with pytest.raises(GroupExists, match="another object or closure"):
        make("b")
    assert make("b", name="b")(1) == "1b"
    assert re.fullmatch(r"[a-z.]*s.test_two_closures_need_two_names.make.function-[0-9a-f]{8}", one.group.name)


def test_a_name_that_is_too_long_keeps_its_end(node: Node) -> None:
    class AClassWithQuiteALongNameOfItsOwn:
        @node.cached(ignore=("self",))
        def and_a_method_with_a_long_name_too(self) -> bytes:
            return b""

    name = AClassWithQuiteALongNameOfItsOwn.and_a_method_with_a_long_name_too.group.name
    assert len(name) == 64
    assert "and_a_method_with_a_long_name_too-" in name


def test_generators_are_refused(node: Node) -> None:
    def plain() -> Any:
        yield 1

    async def asynchronous() -> Any:
        yield 1

    for function in (plain, asynchronous):
        with pytest.raises(TypeError, match="is a generator, which is read once: cache a function that returns a list"):
            node.cached(function)


def test_a_plain_function_that_returns_an_awaitable(node: Node) -> None:
    def hidden(number: int) -> Any:
        return aproduct(number)

    with pytest.raises(TypeError, match=r"hidden\(\) returned a coroutine: decorate an async def"):
        node.cached(hidden)(1)


def test_not_key_is_a_mark() -> None:
    with pytest.raises(TypeError, match="no instances"):
        NotKey()


NODE = Node()
at_module_level = NODE.cached(product)


def test_it_is_pickled_by_reference(node: Node) -> None:
    product_here = at_module_level
    assert copy.copy(product_here) is copy.deepcopy(product_here) is product_here
    with pytest.raises(pickle.PicklingError):  # the name is that of the bare function
        pickle.dumps(product_here)
    with pytest.raises(TypeError, match="a bound cached function cannot be pickled"):
        pickle.dumps(shop(node)().method)


@pytest.mark.parametrize("options", [{}, {"key": "a", "codec": "json"}, {"ignore": ("a",)}])
@pytest.mark.parametrize("function", [max, functools.partial(max, 1)])
def test_a_function_whose_parameters_python_does_not_know(node: Node, function: Any, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"cached: .* parameters of .*; wrap it in a function of your own, def"):
        node.cached(name="f", **options)(function)
    with pytest.raises(TypeError, match="wrap it"):
        node.cached(name="f", key=str, tags="{a}", codec="json")(function)
    with_own_key = node.cached(name="g", key=lambda *args: repr(args), codec="json")(function)
    assert with_own_key(1, 2) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"key": 5}, r"key=5: must be a template"),
        ({"ignore": 5}, r"ignore=5: must be names of parameters"),
        ({"ignore": ("a", 5)}, r"ignore=\('a', 5\): must be names of parameters"),
    ],
)
def test_a_key_or_ignore_of_a_wrong_type_is_a_config_error(node: Node, options: Any, text: str) -> None:
    with pytest.raises(kamacache.ConfigError, match=text):
        node.cached(**options)


class Odd(BaseException):
    """An exception like that of pytest.fail."""


def test_an_exception_that_is_no_exception_ends_its_call() -> None:
    """End it at once, as an exception does: no other call can."""
    node = Node()
    group = node.group("odd", load_timeout=None)

    async def load(_: object) -> bytes:
        raise Odd

    cached = node.cached(load)

    async def main() -> None:
        for call in (group.aget_or_load("k", load), group.aget_many_or_load(["m"], load)):  # type: ignore[arg-type]
            with pytest.raises(LoadError) as raised:
                await asyncio.wait_for(call, 10)
            assert isinstance(raised.value.__cause__, Odd)
        with pytest.raises(Odd):
            await asyncio.wait_for(cached(1), 10)

    asyncio.run(main())
    node.close()
