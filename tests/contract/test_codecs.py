"""One contract for all codecs: a decoded value equals the encoded one, and a failure is a CodecError."""

from __future__ import annotations

import array
import contextlib
import datetime as dt
import math
import pickle
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kamacache.codecs import Codec, codec_name, decode, encode, is_shareable, resolve, untagged
from kamacache.errors import CodecError, ConfigError


class PickleCodec:
    """A user's codec."""

    shareable = False

    def encode(self, value: Any, /) -> bytes:
        return pickle.dumps(value)

    def decode(self, data: bytes, /) -> Any:
        return pickle.loads(data)  # noqa: S301 - its own bytes


class Opaque:
    """A value that no built-in codec knows."""


def trees(*extra: st.SearchStrategy[Any], least: int, most: int) -> st.SearchStrategy[Any]:
    text = st.text(st.characters(codec="utf-8"))
    numbers = st.integers(least, most) | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | text
    for one in extra:
        leaves |= one
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=10)


@dataclass
class Kind:
    """A codec with values that it takes, values that it refuses, and bytes that it cannot read."""

    codec: str | Codec[Any]
    name: str
    values: st.SearchStrategy[Any]
    refused: list[Any]
    unreadable: list[bytes]

    def __str__(self) -> str:
        return self.name


JSON = trees(least=-(10**30), most=10**30)
MSGPACK = trees(st.binary(), least=-(2**63), most=2**64 - 1)
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
UTF8 = st.text(st.characters(codec="utf-8"))

KINDS = [
    Kind("bytes", "bytes", st.binary(), ["text", 5, 1.5, [1], {}, Opaque()], []),
    Kind("text", "text", UTF8, [b"bytes", 5, ["a"], "\ud800", Opaque()], [b"\xff", b"\xed\xa0\x80"]),
    Kind(
        "json",
        "json",
        JSON.filter(lambda value: value is not None),
        [math.nan, math.inf, [-math.inf], {1, 2}, b"bytes", Opaque(), {(1, 2): 3}, {1: 2}, {None: 2}, "\ud800", CYCLE],
        [b"", b"{", b"NaN", b"[Infinity]", b"-Infinity", b"\xff", b"1 2", b"null", b"[" * 100_000],
    ),
    Kind(
        "msgpack",
        "msgpack",
        MSGPACK.filter(lambda value: value is not None),
        [2**64, {1, 2}, Opaque(), dt.date(2024, 1, 1), "\ud800", CYCLE],
        [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xa1\xff", b"\xc0"],
    ),
    Kind(PickleCodec(), f"{__name__}.PickleCodec", JSON.filter(lambda v: v is not None), [lambda: 0], [b"", b"?"]),
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)


@kinds
class TestContract:
    @given(data=st.data())
    def test_decoded_values_equal_the_encoded_ones(self, kind: Kind, data: st.DataObject) -> None:
        codec = resolve(kind.codec)
        value = data.draw(kind.values)
        encoded = encode(codec, value)
        assert type(encoded) is bytes
        decoded = decode(codec, encoded)
        assert decoded == value
        assert type(decoded) is type(value)

    @given(data=st.binary(max_size=40))
    @example(data=b"\xc1i")  # marked as an integer, and none
    def test_any_bytes_are_read_or_refused(self, kind: Kind, data: bytes) -> None:
        if kind.name.endswith("PickleCodec"):
            data = data[:0]  # unpickling arbitrary bytes runs arbitrary code
        with contextlib.suppress(CodecError):
            kept_none = untagged(data) == b"\xc1n"  # which says so itself, under every codec
            assert (decode(resolve(kind.codec), data) is None) == kept_none

    def test_the_rest_is_refused(self, kind: Kind) -> None:
        codec = resolve(kind.codec)
        for value in kind.refused:
            with pytest.raises(CodecError, match=kind.name) as caught:
                encode(codec, value)
            assert caught.value.__cause__ is not None

    def test_unreadable_bytes_are_refused(self, kind: Kind) -> None:
        for data in kind.unreadable:
            with pytest.raises(CodecError, match=kind.name):
                decode(resolve(kind.codec), data)

    def test_none_is_no_value(self, kind: Kind) -> None:
        codec = resolve(kind.codec)
        with pytest.raises(CodecError, match="None"):
            encode(codec, None)

    def test_name_and_sharing(self, kind: Kind) -> None:
        codec = resolve(kind.codec)
        assert resolve(kind.codec) is codec
        assert codec_name(codec) == kind.name
        assert is_shareable(codec) == (kind.name in {"bytes", "text"})


def test_empty_is_a_value() -> None:
    assert decode(resolve("bytes"), encode(resolve("bytes"), b"")) == b""
    assert decode(resolve("text"), encode(resolve("text"), "")) == ""


def test_bytes_are_kept_and_buffers_copied() -> None:
    codec = resolve("bytes")
    value = bytes(range(200))
    assert encode(codec, value) is value
    assert decode(codec, value) is value

    class Named(bytes):
        pass

    buffer = bytearray(b"abc")
    for given_, expected in (
        (buffer, b"abc"),
        (memoryview(b"abcdef")[::2], b"ace"),
        (array.array("B", [1, 2]), b"\1\2"),
        (Named(b"x"), b"x"),
    ):
        encoded = encode(codec, given_)
        assert encoded == expected
        assert type(encoded) is bytes
    kept = encode(codec, buffer)
    buffer[0] = 0
    assert kept == b"abc"


def test_json_is_compact_utf8() -> None:
    assert encode(resolve("json"), {"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()


@pytest.mark.parametrize(("key", "shown"), [(1, "1"), (True, "True"), (None, "None"), (2.5, "2.5")])
def test_json_refuses_keys_that_it_would_turn_into_text(key: Any, shown: str) -> None:
    codec = resolve("json")
    for value in ({key: "a"}, {"1": "b", key: "a"}, [{"a": ({"b": [{key: 0}]},)}]):
        with pytest.raises(CodecError, match=rf'the key {shown} of a dict is no str.*codec="msgpack" or "pickle"'):
            encode(codec, value)

    class Text(str):
        __slots__ = ()

    assert decode(codec, encode(codec, {Text("a"): "{"})) == {"a": "{"}


def test_msgpack_refuses_keys_that_it_could_not_read() -> None:
    pytest.importorskip("msgpack")
    codec = resolve("msgpack")
    for value in ({(1, 2): "a"}, [{"a": ({1: [{(): 0}]},)}]):
        with pytest.raises(CodecError, match=r'a dict is a tuple, .* is no key; .*codec="pickle"'):
            encode(codec, value)
    assert decode(codec, encode(codec, {1: {b"b": {None: (2,)}}})) == {1: {b"b": {None: [2]}}}


class Strange:
    """A codec that returns any object a test sets."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def encode(self, value: Any, /) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def decode(self, data: bytes, /) -> Any:
        return self.encode(data)


@pytest.mark.parametrize("answer", ["text", None, bytearray(b"x"), 5])
def test_a_codec_must_encode_to_bytes(answer: Any) -> None:
    with pytest.raises(CodecError, match="not bytes"):
        encode(Strange(answer), 1)  # type: ignore[arg-type] # shareable may be left out


def test_an_error_of_a_codec_is_the_cause() -> None:
    error = ZeroDivisionError("oops")
    codec: Any = Strange(error)
    for call in (lambda: encode(codec, 1), lambda: decode(codec, b"")):
        with pytest.raises(CodecError, match=r"Strange.*oops") as caught:
            call()
        assert caught.value.__cause__ is error
    own = CodecError("mine")
    with pytest.raises(CodecError) as caught:
        encode(Strange(own), 1)  # type: ignore[arg-type]
    assert caught.value is own


def test_interrupts_pass_through() -> None:
    with pytest.raises(KeyboardInterrupt):
        encode(Strange(KeyboardInterrupt()), 1)  # type: ignore[arg-type]


def test_a_codec_that_does_not_say_is_not_shared() -> None:
    codec: Any = Strange(b"")
    assert resolve(codec) is codec
    assert not is_shareable(codec)


@pytest.mark.parametrize("bad", ["xml", "", "JSON", 5, None, object(), PickleCodec])
def test_objects_that_are_no_codec(bad: Any) -> None:
    with pytest.raises(ConfigError, match="codec="):
        resolve(bad)


def test_msgpack_missing_names_the_package_to_install() -> None:
    code = (
        "import sys; sys.modules['msgpack'] = None\n"
        "from kamacache.codecs import resolve\n"
        "try: resolve('msgpack')\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install kamacache[msgpack]" in done.stdout


def test_msgpack_is_imported_when_it_is_used() -> None:
    code = "import sys, kamacache.options; print('msgpack' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
