"""Codecs for types: which one is chosen, what each keeps, and which nodes refuse pickle."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import pickle
import subprocess
import sys
import typing
from collections.abc import Awaitable, Mapping
from decimal import Decimal
from typing import Any, NotRequired, Optional

import freezegun
import msgspec
import pydantic
import pytest

from kamacache import CodecError, ConfigError, LoadError, Node, Value, codec_for
from kamacache.codecs import codec_name, decode, encode, resolve
from kamacache.typed import for_return


@dataclasses.dataclass
class Point:
    x: int
    name: str = ""


class Row(typing.TypedDict):
    a: int
    b: NotRequired[str]


class Shape(msgspec.Struct):
    points: list[Point]


class Product(pydantic.BaseModel):
    id: int
    made: dt.datetime | None = None


@dataclasses.dataclass
class Order:
    product: Product


ROUND = [
    (bytes, b"x", "bytes"),
    (str, "x", "text"),
    (dict[str, list[int]], {"a": [1]}, "json"),
    (dict, {"a": None}, "json"),
    (dict[str, object], {"a": [1]}, "json"),
    (dict[int, list[object]], {1: [None]}, "msgspec for dict[int, list[object]]"),
    (int, 5, "json"),
    (dict[int, str], {1: "a"}, "msgspec for dict[int, str]"),
    (Point, Point(1), "msgspec for Point"),
    (Optional[Point], Point(1), "msgspec for Point"),  # noqa: UP045 - as people write it
    (dict[str, Point], {"a": Point(2, "b")}, "msgspec for dict[str, Point]"),
    (Row, {"a": 1}, "msgspec for Row"),
    (Shape, Shape([Point(1)]), "msgspec for Shape"),
    (tuple[int, bytes], (1, b"\xff"), "msgspec for tuple[int, bytes]"),
    (list[dt.date], [dt.date(2024, 2, 29)], "msgspec for list[date]"),
    (Product, Product(id=1, made=dt.datetime(2024, 1, 1, tzinfo=dt.UTC)), "pydantic for Product"),
    (list[Product | None], [Product(id=1), None], "pydantic for list[Union[Product, NoneType]]"),
    (Order, Order(Product(id=3)), "pydantic for Order"),
]


def subclass(value: Any) -> Any:
    return type("Sub", (type(value),), {})(value)


FROZEN = freezegun.api.FakeDatetime(2024, 2, 29, 12, tzinfo=dt.UTC)
SUBCLASSES = [
    (dt.datetime, FROZEN),
    (list[dt.date], [freezegun.api.FakeDate(2024, 2, 29)]),
    (dt.timedelta, type("Sub", (dt.timedelta,), {})(1, 2, 3)),
    (Decimal, subclass(Decimal("1.10"))),
    (tuple[str, int, float, bytes], (subclass("a"), subclass(1), subclass(1.5), subclass(b"x"))),
]


@pytest.mark.parametrize(("of", "value"), SUBCLASSES)
def test_a_value_of_a_subclass_is_kept_as_one_of_the_class(of: Any, value: Any) -> None:
    codec = codec_for(of)
    with freezegun.freeze_time("2024-01-01"):
        data = codec.encode(value)
    read = codec.decode(data)
    assert read == value
    assert "Sub" not in repr(read)
    assert "Fake" not in repr(read)
    with pytest.raises(TypeError, match="no encoding of complex"):
        codec_for(tuple[Any]).encode((1j,))


@pytest.mark.parametrize(("of", "value", "name"), ROUND, ids=[name for *_, name in ROUND])
def test_a_codec_for_a_type(of: Any, value: Any, name: str) -> None:
    codec = codec_for(of)
    assert decode(codec, encode(codec, value)) == value
    shown = name.replace("Union[Product, NoneType]", "Product | None")
    assert codec_name(codec) in {name, shown}
    assert codec_name(codec) in repr(codec)
    assert of in {bytes, str} or "for " in repr(codec)


@pytest.mark.parametrize("of", [complex, object, typing.Any, list[complex], "Point", 5, [], None, bytes | str])
def test_a_type_without_a_codec(of: Any) -> None:
    with pytest.raises(ConfigError, match=r"has no codec|no codec takes"):
        codec_for(of)


@pytest.mark.parametrize(("of", "wrong"), [(Point, {"x": 1}), (Shape, 5), (Product, {"id": 1}), (Product, 5)])
def test_a_value_of_another_type_is_refused(of: Any, wrong: Any) -> None:
    with pytest.raises(CodecError):
        encode(codec_for(of), wrong)


def product(_: str) -> Product | None: ...
async def points(_: str) -> list[Point]: ...  # type: ignore[empty-body]
def wrapped(_: str) -> Value[Row] | Row | None: ...
def row(_: str) -> Row: ...  # type: ignore[empty-body]
def later(_: str) -> Awaitable[str]: ...  # type: ignore[empty-body]
def many(_: list[str]) -> Mapping[str, Point]: ...  # type: ignore[empty-body]
def unknown(_: str) -> Nowhere: ...  # type: ignore[name-defined] # noqa: F821
def anything(_: str) -> Any: ...
def either(_: str) -> bytes | str: ...  # type: ignore[empty-body]
def array(_: str) -> memoryview: ...  # type: ignore[empty-body]
def silent(_: str): ...  # type: ignore[no-untyped-def] # noqa: ANN201


class Source:
    def load(self, _: str) -> Point: ...  # type: ignore[empty-body]
    def __call__(self, _: str) -> str: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (product, "pydantic for Product"),
        (points, "msgspec for list[Point]"),
        (wrapped, "msgspec for Row"),
        (later, "text"),
        (Source().load, "msgspec for Point"),
        (Source(), "text"),
        (functools.partial(product), "pydantic for Product"),
        *((function, None) for function in (unknown, anything, either, array, silent, len, lambda _: b"")),
    ],
)
def test_the_codec_of_an_annotation(function: Any, name: str | None) -> None:
    codec = for_return(function)
    assert (None if codec is None else codec_name(codec)) == name


def test_a_loader_takes_the_codec_of_its_annotation(node: Node) -> None:
    @node.loader
    def product(key: str) -> Product | None:
        return Product(id=int(key)) if key != "0" else None

    @node.loader("texts", ttl="1h")
    async def text(key: str) -> str:
        return key

    @node.loader
    def raw(key: str):  # type: ignore[no-untyped-def] # noqa: ANN202
        return key.encode()

    @node.loader(codec="json")
    def forced(key: str) -> Any:
        return {"x": key}

    assert "pydantic for Product" in repr(product)
    assert product.get("1") == product.get("1") == Product(id=1)
    assert product.get("0") is None
    assert text.get("a") == "a"
    assert raw.get("a") == b"a"
    assert forced.get("a") == {"x": "a"}


@pytest.mark.parametrize("name", ["msgspec", "pydantic"])
def test_a_codec_by_name_takes_the_annotated_type(node: Node, name: Any) -> None:
    group = node.group("rows", lambda _: None, codec=codec_for(Row))
    assert group.get("a") is None
    rows = node.group("named", load_row, codec=name)
    assert rows.get("a") == rows.get("a") == {"a": 1}
    batch = node.group("batch", load_many=many, codec=name)
    assert batch.name == "batch"
    for loader in (None, silent, unknown):
        with pytest.raises(ConfigError, match=r"codec_for"):
            node.group("none", loader, codec=name)


def load_row(_: str) -> Row:
    return {"a": 1}


@pytest.mark.parametrize(("package", "of"), [("msgspec", "dict[int, int]"), ("pydantic", "M")])
def test_a_missing_package_names_its_extra(package: str, of: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import kamacache\n"
        "class M: __pydantic_fields__ = {}\n"
        f"def load(key) -> {of}: ...\n"
        f"for make in (lambda: kamacache.codec_for({of}), lambda: kamacache.Node().loader(load)):\n"
        "    try: make()\n"
        "    except kamacache.ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count(f"pip install kamacache[{package}]") == 2


@pytest.mark.parametrize(("value", "codec"), [({"a": 1}, "json"), ("text", "text"), (5, "json")])
def test_a_forgotten_codec_is_named(node: Node, value: Any, codec: str) -> None:
    group: Any = node.group("g", lambda _: value)
    with pytest.raises(LoadError, match=f'codec="{codec}"'):
        group.get("k")
    with pytest.raises(CodecError, match=f'codec="{codec}"'):
        group.set("k", value)


# -- pickle ----------------------------------------------------------------------------------------------------------


def test_pickle_keeps_any_value() -> None:
    codec = resolve("pickle")
    value = {1: Point(1), (2, 3): {4}}
    assert decode(codec, encode(codec, value)) == value
    assert (codec_name(codec), repr(codec)) == ("pickle", "<codec pickle>")
    assert pickle.loads(encode(codec, [1])) == [1]  # noqa: S301 - made here
    for data in (b"", b"?", b"\x80\x05N."):
        with pytest.raises(CodecError):
            decode(codec, data)


EVERYWHERE = {"listen": "0.0.0.0:0", "insecure": True}


def test_a_node_that_strangers_can_reach_refuses_pickle() -> None:
    with Node(**EVERYWHERE) as node:  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"stranger.*password"):
            node.group("g", codec="pickle")
        node.group("g", codec="json")
    with pytest.raises(ConfigError, match="stranger"):
        Node(**EVERYWHERE).group("g", codec="pickle")  # type: ignore[arg-type]


def test_a_node_whose_registry_chooses_the_address_refuses_pickle_when_it_starts() -> None:
    node = Node(registry="static://192.0.2.1:5", client=True, insecure=True)
    node.group("g", codec="pickle")
    with pytest.raises(ConfigError, match="stranger"):
        node.start()
    node.close()


@pytest.mark.parametrize(
    "options", [{}, {"listen": "127.0.0.1:0"}, {"listen": "0.0.0.0:0", "password": "secret"}, {"registry": "local://"}]
)
def test_other_nodes_take_pickle(options: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with Node(service="pickles", **options) as node:
        group: Any = node.group("g", lambda _: {1, 2}, codec="pickle")
        assert group.get("k") == group.get("k") == {1, 2}


@dataclasses.dataclass
class Circle(Point):
    radius: float = 1.0


class Sphere(Shape):
    radius: float = 1.0


class Book(Product):
    pages: int = 0


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (Point, Circle(1)),
        (list[Point], [Point(1), Circle(1)]),
        (Optional[Point], Circle(1)),  # noqa: UP045 - as people write it
        (Shape, Sphere([])),
        (Shape, Shape([Circle(1)])),
        (Row, {"a": 1, "c": 2}),
        (Product, Book(id=1)),
    ],
)
def test_no_codec_keeps_less_than_the_value_has(of: Any, value: Any) -> None:
    with pytest.raises(CodecError, match=r"a get would return less than this \w+ has: name the class"):
        encode(codec_for(of), value)


def test_a_value_that_no_get_could_read_is_not_kept(node: Node) -> None:
    group: Any = node.group("g", codec=codec_for(Point))
    with pytest.raises(CodecError, match=r"Expected `int`, got `str` - at `\$.x`"):
        group.set("k", Point("1"))  # type: ignore[arg-type]
    assert group.set("k", Point(1)) is True

    @node.cached
    def point(number: int) -> Point:
        return Circle(number)

    with pytest.raises(LoadError, match="this Circle has"):
        point(1)
