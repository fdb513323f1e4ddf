"""Turn the values of a group into bytes and back. Built in: bytes, text, json, msgpack (an extra), pickle.

Codecs that are made for one type, with msgspec or pydantic, are in typed.py.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeVar, get_args

from kamacache._engine import check_keys
from kamacache.errors import CodecError, ConfigError, encodable, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")


class Codec(Protocol[V]):
    """Turn values of one type into bytes and back.

    Both methods are called from any thread, several at once. An error that they raise reaches the user as a CodecError,
    with that error as its `__cause__`.
    """

    @property
    def shareable(self) -> bool:
        """Return whether a decoded value may be kept and returned to all callers: True only if it cannot be changed."""
        return False

    def encode(self, value: V, /) -> bytes:
        """Return the bytes of a value; b"" is allowed."""
        ...

    def decode(self, data: bytes, /) -> V:
        """Return the value that these bytes were made from, never None."""
        ...


class Named:
    """The base of the codecs of this package. `name` is what nodes compare; `of` names the type of its values."""

    name = ""
    of = ""

    def __repr__(self) -> str:
        return f"<codec {self.name} for {self.of}>" if self.of else f"<codec {self.name}>"


class BytesCodec(Named):
    """Keep bytes as they are, and a copy of other bytes-like objects, which could change later."""

    name = "bytes"
    shareable = True

    def encode(self, value: Any, /) -> bytes:
        """Return bytes as the same object, a copy of any other buffer; TypeError for anything else."""
        if type(value) is bytes:
            return value
        try:
            return memoryview(value).tobytes()
        except TypeError:
            other = "text" if isinstance(value, str) else "json"
            raise TypeError(
                f'this group keeps bytes; give it codec="{other}", or another codec that takes such values'
            ) from None

    def decode(self, data: bytes, /) -> bytes:
        """Return the same object."""
        return data


class TextCodec(Named):
    """Keep a str as UTF-8."""

    name = "text"
    shareable = True

    def encode(self, value: str, /) -> bytes:
        """Return UTF-8; UnicodeEncodeError for lone surrogates, TypeError for anything but a str."""
        return str.encode(value)

    def decode(self, data: bytes, /) -> str:
        """Return the text; UnicodeDecodeError for bytes that are not UTF-8."""
        return data.decode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class JsonCodec(Named):
    """Keep JSON as in RFC 8259: compact, in UTF-8, without NaN and infinities. Tuples come back as lists.

    The keys of a dict must be str: json.dumps makes text of others, so that 1 would come back as "1", and of
    {1: ..., "1": ...} one entry would be lost.
    """

    name = "json"
    shareable = False

    def __init__(self, of: str = "") -> None:
        import json  # noqa: PLC0415 - only groups of this codec pay for its import

        self.of = of
        self._encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
        self._decode = json.JSONDecoder(parse_constant=_refuse).decode

    def encode(self, value: Any, /) -> bytes:
        """Return JSON; TypeError or ValueError for a value that JSON does not have."""
        text = self._encode(value)
        if "{" in text:
            check_keys(value, True)
        return text.encode()

    def decode(self, data: bytes, /) -> Any:
        """Return the value; ValueError for bytes that are not JSON."""
        return self._decode(data.decode())


class MsgpackCodec(Named):
    """Keep MessagePack. Tuples come back as lists, so that the keys of a dict must not be tuples."""

    name = "msgpack"
    shareable = False

    def __init__(self, msgpack: ModuleType) -> None:
        self._pack: Callable[..., bytes] = msgpack.packb
        self._unpack: Callable[..., Any] = msgpack.unpackb

    def encode(self, value: Any, /) -> bytes:
        """Return MessagePack; TypeError, ValueError or OverflowError for a value that MessagePack does not have."""
        data = self._pack(value, use_bin_type=True)
        check_keys(value, False)
        return data

    def decode(self, data: bytes, /) -> Any:
        """Return the value; ValueError for bytes that are not MessagePack."""
        return self._unpack(data, raw=False, strict_map_key=False)


class PickleCodec(Named):
    """Keep what pickle keeps. Reading it may run any code, so nodes that strangers can reach refuse it (node.py)."""

    name = "pickle"
    shareable = False

    def __init__(self) -> None:
        import pickle  # noqa: PLC0415 - only groups of this codec pay for its import; see above

        self._dumps, self._loads = pickle.dumps, pickle.loads

    def encode(self, value: Any, /) -> bytes:
        """Return a pickle that Python 3.8 and newer can read; what pickle raises for a value that it does not take."""
        return self._dumps(value, protocol=5)

    def decode(self, data: bytes, /) -> Any:
        """Return the value; whatever the classes in the pickle raise."""
        return self._loads(data)


MARK = b"\xc1"  # begins a value that says what it is, as crates/engine/src/marked.rs has it
_RAW, _INTEGER, _NONE, TAGGED = b"\xc1r", b"\xc1i", b"\xc1n", b"\xc1t"
HEAD = 6  # bytes before the tags of a value: TAGGED and how many bytes the tags have


def kept(raw: bytes) -> bytes:
    """Return the bytes under which a value is kept that its codec made: those that begin with the mark get another."""
    return _RAW + raw if raw.startswith(MARK) else raw


def untagged(data: bytes) -> bytes:
    """Return a value without its tags; see tags.py."""
    return data[HEAD + int.from_bytes(data[2:HEAD]) :] if data.startswith(TAGGED) else data


def kept_integer(number: int) -> bytes:
    """Return the bytes of an integer, the same under every codec."""
    return b"%b%d" % (_INTEGER, number)


def integer(codec: Codec[Any], raw: bytes) -> int | None:
    """Return the integer that a value is, or the decimal digits of which it consists; None if it is neither."""
    try:
        value = decode(codec, raw)
    except CodecError:
        return None
    if isinstance(value, bytes | str):
        digits = len(value) <= _DIGITS and value.isascii() and value[value[:1] in {"-", b"-"} :].isdigit()
        return int(value) if digits else None
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


_DIGITS = 20
_BUILT_IN: dict[str, Codec[Any]] = {"bytes": BytesCodec(), "text": TextCodec()}
CodecName = Literal["bytes", "text", "json", "msgpack", "pickle", "msgspec", "pydantic"]
TypedName = Literal["msgspec", "pydantic"]
NAMES, TYPED = get_args(CodecName), get_args(TypedName)


def resolve(codec: str | Codec[Any]) -> Codec[Any]:
    """Return the codec of this name, or the user's own once its methods are checked; ConfigError for anything else."""
    if isinstance(codec, str):
        if codec not in NAMES:
            raise ConfigError(f"codec={codec!r}: give one of {', '.join(NAMES)}, or an object with encode and decode")
        if codec in TYPED:
            raise ConfigError(
                f"codec={codec!r}: it takes the type of the values from the return annotation of the loader, and there "
                "is none; annotate the loader, or write codec=kamacache.codec_for(...) with the type"
            )
        if codec not in _BUILT_IN:
            _BUILT_IN[codec] = {"json": JsonCodec, "msgpack": _load_msgpack, "pickle": PickleCodec}[codec]()
        return _BUILT_IN[codec]
    if isinstance(codec, type):
        raise ConfigError(f"codec={codec.__qualname__}: this is a class, give an instance of it")
    if not callable(getattr(codec, "encode", None)) or not callable(getattr(codec, "decode", None)):
        raise ConfigError(f"codec={codec!r}: give one of {', '.join(NAMES)}, or an object with encode and decode")
    return codec


def _load_msgpack() -> Codec[Any]:
    try:
        import msgpack  # type: ignore[import-untyped,unused-ignore] # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError('codec="msgpack" needs the msgpack package: pip install kamacache[msgpack]') from error
    return MsgpackCodec(msgpack)


def codec_name(codec: Codec[Any]) -> str:
    """Return the text by which nodes compare codecs: the built-in name, or module.qualname of the class."""
    if isinstance(codec, Named):
        return codec.name
    if isinstance(codec, ModuleType):
        return codec.__name__
    return encodable(f"{type(codec).__module__}.{type(codec).__qualname__}")


def is_shareable(codec: Codec[Any]) -> bool:
    """Return whether callers may share a decoded value; False if the codec does not say."""
    return getattr(codec, "shareable", False) is True


def encode(codec: Codec[Any], value: Any, *, none: bool = False) -> bytes:
    """Return the bytes of a value; CodecError for a value that the codec does not take, and for None without `none`."""
    if value is None and none:
        return _NONE
    if value is None:
        raise CodecError(f"codec {codec_name(codec)}: None is not a value; a loader returns it for a key without one")
    try:
        data = codec.encode(value)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(
            f"codec {codec_name(codec)} does not take this {type(value).__qualname__}: {text_of(error)}"
        ) from error
    if not isinstance(data, bytes):
        raise CodecError(f"codec {codec_name(codec)}: encode returned {type(data).__qualname__}, not bytes")
    return kept(data)


def decode(codec: Codec[Any], data: bytes) -> Any:
    """Return the value of these bytes; CodecError for bytes that the codec cannot read, or reads as None."""
    data = untagged(data)
    if data == _NONE:
        return None
    try:
        value = int(data[2:]) if data.startswith(_INTEGER) else codec.decode(data.removeprefix(_RAW))
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"codec {codec_name(codec)} cannot read these {len(data)} bytes: {text_of(error)}") from error
    if value is None:
        raise CodecError(f"codec {codec_name(codec)}: these {len(data)} bytes mean None, which is not a value")
    return value


def means_none(codec: Codec[Any], data: bytes) -> bool:
    """Return whether a codec reads these bytes as None, as JSON reads null."""
    try:
        return codec.decode(data) is None
    except Exception:  # noqa: BLE001 - whatever a user's codec raises
        return False


def is_open(codec: CodecName | Codec[Any] | None) -> bool:
    """Return whether the loader's return annotation has a say in the codec."""
    return codec is None or (isinstance(codec, str) and codec in TYPED)
