"""The types that checkers infer for groups: read by mypy, never run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_type

from kamacache import Codec, Group, GroupStats, Member, Node, Value, codec_for


class User:
    """A value of the user's own."""


class UserCodec:
    shareable = True

    def encode(self, value: User) -> bytes: ...  # type: ignore[empty-body]
    def decode(self, data: bytes) -> User: ...  # type: ignore[empty-body]


def load_bytes(key: str) -> bytes | None: ...
async def aload_bytes(key: str) -> bytes | None: ...
def load_text(key: str) -> str: ...  # type: ignore[empty-body]
def load_user(key: str) -> User | Value[User] | None: ...
async def aload_user(key: str) -> User | None: ...
def load_dict(key: str) -> dict[str, int]: ...  # type: ignore[empty-body]
async def aload_dict(key: str) -> Value[dict[str, int]] | dict[str, int] | None: ...
def load_wrapped(key: str) -> Value[dict[str, int]] | None: ...
async def aload_wrapped(key: str) -> Value[dict[str, int]]: ...  # type: ignore[empty-body]
def load_users(keys: list[str]) -> Mapping[str, User]: ...  # type: ignore[empty-body]


def groups(node: Node) -> None:
    assert_type(node.group("g"), Group[bytes])
    assert_type(node.group("g", load_bytes), Group[bytes])
    assert_type(node.group("g", aload_bytes, ttl="1h", max_bytes="1 GiB"), Group[bytes])
    assert_type(node.group("g", load_bytes, codec="bytes"), Group[bytes])
    assert_type(node.group("g", load_text, codec="text"), Group[str])
    assert_type(node.group("g", codec="text"), Group[str])
    assert_type(node.group("g", codec="json", ttl="1h"), Group[Any])  # for get_or_load
    declared: Group[dict[str, int]] = node.group("g", codec="json")
    assert_type(declared.get_or_load("k", load_dict), dict[str, int] | None)
    assert_type(node.group("g", load_user, codec=UserCodec()), Group[User])
    for codec in ("json", "msgpack"):
        assert_type(node.group("g", load_wrapped, codec=codec), Group[dict[str, int]])
        assert_type(node.group("g", aload_wrapped, codec=codec), Group[dict[str, int]])
    assert_type(node.loader("g", codec="json")(load_wrapped), Group[dict[str, int]])
    assert_type(node.loader("g", codec="json")(aload_wrapped), Group[dict[str, int]])
    assert_type(node.group("g", aload_user, codec=UserCodec()), Group[User])
    assert_type(node.group("g", load_many=load_users, codec=UserCodec()), Group[User])
    assert_type(node.group("g", load_dict, codec="json"), Group[dict[str, int]])
    assert_type(node.group("g", load_dict, codec="msgpack"), Group[dict[str, int]])
    assert_type(node.group("g", aload_dict, codec="json"), Group[dict[str, int]])
    node.group("g", load_dict, codec=UserCodec())  # type: ignore[arg-type]
    node.group("g", load_bytes, codec=5)  # type: ignore[call-overload]
    node.group("g", load_bytes, codec="xml")  # type: ignore[call-overload]
    node.group("g", load_bytes, policy="fifo")  # type: ignore[call-overload]
    node.group("g", load_bytes, policy="lru2")
    node.group("g", load_bytes, near_ttl=None)  # type: ignore[call-overload]


def typed(node: Node) -> None:
    assert_type(codec_for(User), Codec[User])
    assert_type(codec_for(dict[str, int]), Codec[dict[str, int]])
    assert_type(node.group("g", codec=codec_for(User)), Group[User])
    assert_type(node.group("g", load_user, codec=codec_for(User), version=2), Group[User])
    assert_type(node.group("g", load_user, codec="msgspec", compress_above="16 KiB"), Group[User])
    assert_type(node.loader(load_dict), Group[dict[str, int]])
    assert_type(node.loader(aload_wrapped), Group[dict[str, int]])
    assert_type(node.loader("g", ttl="1h")(aload_user), Group[User])
    assert_type(node.loader("g", codec="pydantic")(load_user), Group[User])
    node.group("g", version="2")  # type: ignore[call-overload]


async def with_functions(group: Group[User]) -> None:
    async def aload_users(keys: list[str]) -> dict[str, User]: ...  # type: ignore[empty-body]

    assert_type(group.get_or_load("k", load_user), User | None)
    assert_type(group.get_or_load("k", lambda key: User() if key else None), User | None)
    assert_type(await group.aget_or_load("k", aload_user), User | None)
    assert_type(await group.aget_or_load("k", load_user), User | None)
    assert_type(group.get_many_or_load(["k"], load_users), dict[str, User])
    assert_type(await group.aget_many_or_load(["k"], aload_users), dict[str, User])
    group.get_or_load("k", aload_user)  # type: ignore[arg-type]
    group.get_or_load("k", load_text)  # type: ignore[arg-type]


def a_group(group: Group[User]) -> None:
    assert_type(group.get("k"), User | None)
    assert_type(group.get_many(["k"]), dict[str, User])
    assert_type(group.peek("k"), User | None)
    assert_type(group.set("k", User()), bool)
    assert_type(group.set("k", User(), ttl=None, wait=False), bool | None)
    assert_type(group.set_many({"k": User()}), bool)
    assert_type(group.delete("k"), bool)
    assert_type(group.clear(), bool)
    assert_type(group.stats(), GroupStats)
    group.set("k", b"value")  # type: ignore[call-overload]
    group.set_many({"k": 5})  # type: ignore[dict-item]
    group.get(5)  # type: ignore[call-overload]


async def its_twins(group: Group[User]) -> None:
    assert_type(await group.aget("k"), User | None)
    assert_type(await group.aget_many(["k"]), dict[str, User])
    assert_type(await group.aset("k", User()), bool)
    assert_type(await group.apeek("k"), User | None)
    assert_type(await group.astats(), GroupStats)


def a_decorator(node: Node) -> None:
    @node.loader("bytes", ttl="1h")
    def plain(key: str) -> bytes | None: ...

    @node.loader("text", codec="text")
    async def text(key: str) -> str | None: ...

    @node.loader("users", codec=UserCodec())
    def users(key: str) -> User | None: ...

    @node.loader("json", codec="json")
    async def numbers(key: str) -> dict[str, int] | None: ...

    @node.loader("more", codec="msgpack", jitter=0)
    def more(key: str) -> dict[str, int] | None: ...

    @node.loader
    def bare(key: str) -> bytes | None: ...

    @node.loader(ttl="1h", codec="json")
    async def nameless(key: str) -> dict[str, int] | None: ...

    assert_type(bare, Group[bytes])
    assert_type(nameless, Group[dict[str, int]])
    node.loader("g", policy="fifo")  # type: ignore[call-overload]
    assert_type(plain, Group[bytes])
    assert_type(numbers, Group[dict[str, int]])
    assert_type(more, Group[dict[str, int]])
    assert_type(text, Group[str])
    assert_type(users, Group[User])


def a_node(node: Node) -> None:
    assert_type(node.address, str | None)
    assert_type(node.members(), list[Member])
    assert_type(node.owner("g", "k"), Member)
    assert_type(node.groups, Mapping[str, Group[Any]])
    with node as same:
        assert_type(same, Node)


def protocols(codec: Codec[User], load: Callable[[str], User | None], node: Node) -> None:
    mine: Codec[User] = UserCodec()
    assert_type(node.group("g", load, codec=mine), Group[User])
    assert_type(node.group("g", load, codec=codec), Group[User])
    assert_type(Value(User(), ttl="1s"), Value[User])


def load_or_none(key: str) -> str | None: ...
async def aload_or_none(key: str) -> str | None: ...


def load_valued(key: str) -> Value[str | None] | str | None: ...


def with_none(node: Node, flag: bool) -> None:
    plain = node.group("g", load_or_none, codec="text", cache_none=True)
    assert_type(plain, Group[str | None])
    plain.set("k", None)
    assert_type(plain.get("k", 0), str | int | None)
    assert_type(node.group("g", aload_or_none, codec="json", cache_none=True), Group[str | None])
    assert_type(node.group("g", codec="json", cache_none=True), Group[Any])
    assert_type(node.group("g", load_or_none, codec="text", cache_none=False), Group[str])
    assert_type(node.group("g", load_or_none, codec="text", cache_none=flag), Group[str])
    assert_type(node.loader("g", cache_none=True)(load_or_none), Group[str | None])
    assert_type(node.loader("g", cache_none=True)(aload_or_none), Group[str | None])
    assert_type(node.group("g", load_valued, codec="text", cache_none=True), Group[str | None])
