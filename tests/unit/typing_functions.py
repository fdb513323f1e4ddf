"""The types that checkers infer for cached functions: read by mypy, never run."""

from __future__ import annotations

from typing import Annotated, Any, assert_type

from kamacache import AsyncCachedFunction, CachedFunction, GroupStats, Node, NotKey, Value, codec_for
from kamacache.group.keyed import KeyedGroup

node = Node()


class Session:
    """What a function works with."""


class Product:
    """A value of the user's own."""


@node.cached(ttl="10m", near_ttl="1s")
async def product(product_id: int, lang: str = "en", *, db: Annotated[Session, NotKey]) -> Product: ...  # type: ignore[empty-body]


@node.cached
def plain(product_id: int) -> Product | None: ...


@node.cached(key="{product_id}", codec="json")
def with_ttl(product_id: int) -> Value[dict[str, int]]: ...  # type: ignore[empty-body]


@node.cached
async def never_bare(product_id: int) -> Value[bytes] | None: ...


@node.cached()
async def perhaps_with_ttl(product_id: int) -> bytes | Value[bytes] | None: ...


class Shop:
    @node.cached(ignore=("self",))
    def price(self, product_id: int) -> float: ...  # type: ignore[empty-body]

    @node.cached(ignore=("self",))
    async def stock(self, product_id: int) -> int: ...  # type: ignore[empty-body]

    @node.cached
    @classmethod
    def named(cls, product_id: int) -> str: ...  # type: ignore[empty-body]

    @node.cached(ttl="1h")
    @classmethod
    async def counted(cls) -> int: ...  # type: ignore[empty-body]

    @staticmethod
    @node.cached
    def free(product_id: int) -> str: ...  # type: ignore[empty-body]

    @node.cached
    @staticmethod
    async def taxed(product_id: int, /, *, rate: float = 1.0) -> float: ...  # type: ignore[empty-body]


class Market(Shop):
    def inside(self) -> None:
        assert_type(self.price(1), float)
        assert_type(super().price(1), float)
        assert_type(self.named(1), str)


async def an_async_function(db: Session) -> None:
    assert_type(await product(42, db=db), Product)
    assert_type(await product(42, "en", db=db), Product)
    assert_type(await product.refresh(42, db=db), Product)
    assert_type(await product.invalidate(42), bool)
    assert_type(await product.set(Product(), 42), bool)
    assert_type(await product.set(Value(Product(), ttl="1m"), 42), bool)
    assert_type(await product.many([(1,), (2, "de")], db=db), list[Product])
    assert_type(await product.clear(), bool)
    assert_type(product.key(42), str)
    assert_type(product.stats(), GroupStats)
    assert_type(await never_bare(1), bytes | None)
    assert_type(await perhaps_with_ttl(1), bytes | None)
    await product("42", db=db)  # type: ignore[arg-type]
    await product(42)  # type: ignore[call-arg]
    await product.set(42, 42)  # type: ignore[arg-type]


def a_plain_function() -> None:
    one: CachedFunction[[int], Product | None] = plain
    assert_type(one(1), Product | None)
    assert_type(plain(1), Product | None)
    assert_type(plain.many([{"product_id": 1}]), list[Product | None])
    assert_type(plain.refresh(product_id=1), Product | None)
    assert_type(with_ttl(1), dict[str, int])
    plain("1")  # type: ignore[arg-type]


async def methods(shop: Shop) -> None:
    assert_type(shop.price(1), float)
    assert_type(Shop.price(shop, 1), float)
    assert_type(shop.price.refresh(1), float)
    assert_type(await shop.stock(1), int)
    assert_type(await shop.stock.invalidate(1), bool)
    assert_type(Shop.named(1), str)
    assert_type(Market.named.refresh(1), str)
    assert_type(shop.named(product_id=1), str)
    assert_type(await Shop.counted(), int)
    assert_type(await shop.counted(), int)
    assert_type(Shop.free(1), str)
    assert_type(shop.free(1), str)
    assert_type(await Shop.taxed(1, rate=2.0), float)
    assert_type(await shop.taxed(1), float)
    shop.price("1")  # type: ignore[arg-type]
    Shop.named("1")  # type: ignore[arg-type]


def of_number(key: int) -> Product | None: ...
async def of_pair(key: tuple[int, str]) -> str | Value[str] | None: ...


def of_numbers(keys: list[int]) -> dict[int, Product]: ...  # type: ignore[empty-body]
async def aof_numbers(keys: list[int]) -> dict[int, Product | None]: ...  # type: ignore[empty-body]


def keyed_groups_without_loaders() -> None:
    assert_type(node.group("g", key_codec="auto"), KeyedGroup[bytes])
    assert_type(node.group("g", key_codec="auto", codec="bytes", ttl="1h"), KeyedGroup[bytes])
    assert_type(node.group("g", key_codec="auto", codec="text"), KeyedGroup[str])
    assert_type(node.group("g", key_codec="auto", codec="json"), KeyedGroup[Any])
    assert_type(node.group("g", key_codec="auto", codec=codec_for(Product)), KeyedGroup[Product])
    assert_type(node.group("g", load_many=of_numbers, key_codec="auto", codec="pickle"), KeyedGroup[Any])
    declared: KeyedGroup[Product] = node.group("g", key_codec="auto", codec="pickle")
    declared.set(42, Product())


async def keyed_groups() -> None:
    products = node.group("products", of_number, key_codec="auto", codec="pickle")
    assert_type(products.get(42), Product | None)
    assert_type(products.get_many([1, 2]), dict[int, Product])
    assert_type(await products.aget_many({(2, "a")}), dict[tuple[int, str], Product])
    mixed: list[int | str | tuple[int, str]] = [1, "1", (2, "a")]
    assert_type(products.get_many(mixed), dict[int | str | tuple[int, str], Product])
    products.get_many([1, "1", (2, "a")])
    products.get_many([1.5])  # type: ignore[type-var]
    assert_type(products.get_many_or_load([1, 2], of_numbers), dict[int, Product])
    assert_type(await products.aget_many_or_load([1, 2], aof_numbers), dict[int, Product])
    assert_type(await products.aget_many_or_load([1, 2], of_numbers), dict[int, Product])
    products.get_many_or_load(["a"], of_numbers)  # type: ignore[arg-type]
    assert_type(list(products.keys()), list[Any])
    names = node.loader("names", key_codec="auto", ttl="1h")(of_pair)
    assert_type(await node.group("names", of_pair, key_codec="auto", codec="text").aget((1, "a")), str | None)
    assert_type(await names.aget((1, "a")), str | None)
    names.set((1, "a"), "name")
    names.set((1, "a"), 5)  # type: ignore[arg-type]
    products.get(1.5)  # type: ignore[call-overload]


def options_of_groups_alone() -> None:
    node.cached(load_many=dict)  # type: ignore[call-overload]
    node.cached(key_codec="auto")  # type: ignore[call-overload]
    node.cached(cache_none=False, max_batch=5)


def named_types(one: CachedFunction[[int], str], other: AsyncCachedFunction[..., str]) -> None:
    assert_type(one(1), str)
    assert_type(other.key(), str)
