"""compress_above: large values are compressed, small ones stay as they are, and any threshold reads both."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from kamacache import CodecError, ConfigError, Group, Node, ValueTooLarge
from kamacache._engine import PACKED
from kamacache.codecs import MARK, BytesCodec, JsonCodec, TextCodec, decode, encode, resolve
from kamacache.packed import MOST, Packed
from kamacache.testing import Network
from tests.unit.groups import WAYS, call, until

LARGE = b"many of the same words, " * 1000


@given(data=st.binary(max_size=60) | st.binary(max_size=20).map(lambda tail: PACKED + tail), above=st.integers(0, 80))
@example(data=MARK, above=1)
def test_bytes_come_back_whatever_the_threshold(data: bytes, above: int) -> None:
    writer, reader = Packed(BytesCodec(), above), Packed(BytesCodec(), 1000)
    packed = encode(writer, data)
    assert decode(reader, packed) == data
    if len(data) <= above and not data.startswith((PACKED, MARK)):
        assert packed is data


@pytest.mark.parametrize(
    ("codec", "value"), [("bytes", LARGE), ("text", LARGE.decode()), ("json", [LARGE.decode()]), ("pickle", [LARGE])]
)
@pytest.mark.parametrize("way", WAYS)
def test_large_values_take_less_memory(node: Node, way: str, codec: Any, value: Any) -> None:
    small = value[:3] if codec != "pickle" else [b"abc"]
    options: Any = {"codec": codec, "compress_above": "1 KiB"}
    group = node.group("g", lambda key: value if key == "large" else small[:1], **options)
    assert call(way, group, "get", "large") == call(way, group, "get", "large") == value
    assert call(way, group, "get_many", ["large", "small"])["large"] == value
    found = group._core.store.find("large")
    assert found is not None
    assert found[0] is not None
    assert found[0].startswith(PACKED)
    assert len(found[0]) < 1000
    assert group.stats().bytes < 3000


def test_a_small_value_of_bytes_is_the_same_object(node: Node) -> None:
    small, marked = b"small", PACKED + b"by chance"
    group = node.group("g", lambda key: small if key == "s" else marked, compress_above=100)
    group.get_many(["s", "m"])
    assert group.get("s") is small
    assert group.get("m") == marked
    group.set("m", LARGE)
    assert group.get("m") == LARGE


BOMB = zstandard.ZstdCompressor().compress(bytes(MOST + 1))
UNSIZED = zstandard.ZstdCompressor(write_content_size=False).compress(LARGE)
LYING = zstandard.ZstdCompressor().compress(LARGE)[:-9]


@pytest.mark.parametrize("frame", [BOMB, UNSIZED, LYING, b"", b"no frame", LYING + bytes(20)])
@pytest.mark.parametrize("kind", [b"\1", b"\2", b""])
def test_a_bomb_and_other_nonsense_cannot_be_read(node: Node, frame: bytes, kind: bytes) -> None:
    with pytest.raises(CodecError):
        decode(Packed(BytesCodec(), 5), PACKED + (kind + frame if kind else b""))
    group = node.group("g", str.encode, compress_above=100)
    store = group._core.store
    assert store.put("k", PACKED + kind + frame, store.known("k"), None, store.MAIN)
    assert group.get("k") == b"k"
    assert group.stats().undecodable == 1


def test_a_value_may_be_larger_than_max_value_if_it_becomes_small() -> None:
    with Node(max_value="8 KiB") as node:
        group = node.group("g", compress_above="4 KiB")
        assert group.set("k", LARGE) is True
        assert group.get("k") == LARGE
        with pytest.raises(ValueTooLarge):
            node.group("h").set("k", LARGE)


def test_members_with_different_thresholds_read_each_other() -> None:
    network = Network(hot=True)
    loads: list[str] = []

    def load(key: str) -> list[str]:
        loads.append(key)
        return [key] * 500

    with (
        Node(registry=network.registry(), lane=network.lane()) as one,
        Node(registry=network.registry(), lane=network.lane()) as other,
    ):
        groups: list[Group[Any]] = [
            node.group("g", load, codec="json", compress_above=above) for node, above in ((one, 100), (other, "1 MiB"))
        ]
        until(lambda: {one.owner("g", str(n)).id for n in range(100)} == {one.id, other.id})
        until(lambda: {other.owner("g", str(n)).id for n in range(100)} == {one.id, other.id})
        keys = [str(n) for n in range(40)]
        for group in (*groups, *groups):
            assert group.get_many(keys) == {key: [key] * 500 for key in keys}
        assert groups[0].set("0", LARGE.decode()) is True
        assert groups[1].get("0") == LARGE.decode()
        assert sum(group.stats().undecodable for group in groups) == 0
        assert sorted(loads) == sorted(keys)


def test_the_options_are_checked_and_shown(node: Node) -> None:
    wrong: Any
    for wrong in (-1, "much", 1.5, True, []):
        with pytest.raises(ConfigError, match="compress_above="):
            node.group("g", compress_above=wrong)
    group: Group[Any] = node.group("g", codec="json", compress_above="16 KiB")
    assert node.groups["g"] is node.group("g", codec="json", compress_above=16 * 1024)
    assert group._core.shown()["codec"] == "json"
    assert group._core.shown()["compress_above"] == 16 * 1024
    assert isinstance(group._core.arguments()["codec"], JsonCodec)
    with pytest.raises(ConfigError, match="compress_above: 16384, None"):
        node.group("g", codec="json")


def test_a_missing_module_names_the_extra() -> None:
    code = (
        "import sys\n"
        "for name in ('compression.zstd', 'backports.zstd', 'zstandard'): sys.modules[name] = None\n"
        "import kamacache\n"
        "try: kamacache.Node().group('g', compress_above=5)\n"
        "except kamacache.ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install kamacache[zstd]" in done.stdout


def test_sharing_is_that_of_the_inner_codec(node: Node) -> None:
    assert Packed(TextCodec(), 5).shareable
    assert not Packed(resolve("json"), 5).shareable
    group = node.group("g", lambda _: "a text of some length", codec="text", compress_above=1000)
    assert group.get("k") is group.get("k")


# -- versions --------------------------------------------------------------------------------------------------------


def test_versions_share_nothing(node: Node) -> None:
    first = node.group("products", lambda _: b"first")
    second = node.group("products", lambda _: b"second", version=2)
    assert (first.name, second.name) == ("products", "products")
    assert set(node.groups) == {"products", "products@2"}
    assert second is node.groups["products@2"]
    assert (first.get("k"), second.get("k")) == (b"first", b"second")
    first.set("k", b"set")
    assert second.get("k") == b"second"
    assert second.clear() is True
    assert (first.stats().entries, second.stats().entries) == (1, 0)
    assert node.owner("products@2", "k").id == node.id

    @node.loader("products", version=3)
    def third(key: str) -> bytes:
        return key.encode()

    assert third.get("k") == b"k"
    second.close()
    assert set(node.groups) == {"products", "products@3"}


@pytest.mark.parametrize("wrong", [0, -1, True, "2", 1.0, 10**9])
def test_a_version_is_a_whole_number(node: Node, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="version="):
        node.group("g", version=wrong)
    with pytest.raises(ConfigError, match="group name"):
        node.group("g@2")


def test_two_releases_in_one_cluster_never_meet() -> None:
    network = Network(hot=True)
    with (
        Node(registry=network.registry(), lane=network.lane()) as old,
        Node(registry=network.registry(), lane=network.lane()) as new,
    ):
        keys = [str(n) for n in range(50)]
        before = old.group("g", lambda key: f"old {key}", codec="text")
        after: Group[Any] = new.group("g", lambda key: {"new": key}, codec="json", version=2)
        for _ in range(2):
            assert before.get_many(keys) == {key: f"old {key}" for key in keys}
            assert after.get_many(keys) == {key: {"new": key} for key in keys}
        assert before.set("0", "written") is True
        assert after.get("0") == {"new": "0"}
        assert after.clear() is True
        assert before.get("0") == "written"
        assert (before.stats().loads, before.stats().undecodable) == (50, 0)
        assert after.stats().undecodable == 0
