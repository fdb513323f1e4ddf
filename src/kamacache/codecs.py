"""Codecs: a group's values to bytes and back. Built in: bytes, text, json, msgpack (an extra)."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, TypeVar, get_args

from kamacache.errors import CodecError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")


class Codec(Protocol[V]):
    """What turns values of one type into bytes and back; called from any thread, several at once.

    Whatever encode or decode raises reaches the user as a CodecError with it as `__cause__`.
    """

    @property
    def shareable(self) -> bool:
        """Whether a decoded value may be kept and handed to all callers: True only if nobody can change it."""
        return False

    def encode(self, value: V, /) -> bytes:
        """Turn a value into bytes; b"" is allowed."""
        ...

    def decode(self, data: bytes, /) -> V:
        """Turn bytes back into the value they were made from, which is never None."""
        ...


class BytesCodec:
    """Bytes as they are. Other bytes-like objects are copied, as they could change later."""

    shareable = True

    def encode(self, value: Any, /) -> bytes:
        """Give bytes back as the same object, else copy the buffer; TypeError without one."""
        return value if type(value) is bytes else memoryview(value).tobytes()

    def decode(self, data: bytes, /) -> bytes:
        """Give the same object back."""
        return data


class TextCodec:
    """A str as UTF-8."""

    shareable = True

    def encode(self, value: str, /) -> bytes:
        """Encode; UnicodeEncodeError for lone surrogates, TypeError for anything but a str."""
        return str.encode(value)

    def decode(self, data: bytes, /) -> str:
        """Decode; UnicodeDecodeError for bytes that are not UTF-8."""
        return data.decode()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


class JsonCodec:
    """JSON as RFC 8259 has it: compact, in UTF-8, no NaN and no infinities. Tuples come back as lists."""

    shareable = False

    def __init__(self) -> None:
        import json  # noqa: PLC0415 - only groups of this codec pay for its import

        self._encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
        self._decode = json.JSONDecoder(parse_constant=_refuse).decode

    def encode(self, value: Any, /) -> bytes:
        """Encode; TypeError or ValueError for what JSON cannot say."""
        return self._encode(value).encode()

    def decode(self, data: bytes, /) -> Any:
        """Decode; ValueError for what is not JSON."""
        return self._decode(data.decode())


class MsgpackCodec:
    """MessagePack. Tuples come back as lists."""

    shareable = False

    def __init__(self, msgpack: ModuleType) -> None:
        """Take the imported module."""
        self._pack: Callable[..., bytes] = msgpack.packb
        self._unpack: Callable[..., Any] = msgpack.unpackb

    def encode(self, value: Any, /) -> bytes:
        """Encode; TypeError, ValueError or OverflowError for what MessagePack cannot say."""
        return self._pack(value, use_bin_type=True)

    def decode(self, data: bytes, /) -> Any:
        """Decode; ValueError for what is not MessagePack."""
        return self._unpack(data, raw=False, strict_map_key=False)


_BUILT_IN: dict[str, Codec[Any]] = {"bytes": BytesCodec(), "text": TextCodec()}
CodecName = Literal["bytes", "text", "json", "msgpack"]
NAMES = get_args(CodecName)


def resolve(codec: str | Codec[Any]) -> Codec[Any]:
    """Find the codec of that name, or check the methods of the user's own; ConfigError for anything else."""
    if isinstance(codec, str):
        if codec not in NAMES:
            raise ConfigError(f"codec={codec!r}: give one of {', '.join(NAMES)}, or an object with encode and decode")
        if codec not in _BUILT_IN:
            _BUILT_IN[codec] = JsonCodec() if codec == "json" else _load_msgpack()
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
    """Give what nodes compare to see that they agree: the built-in name, or module.qualname of the class."""
    for name, known in _BUILT_IN.items():
        if codec is known:
            return name
    if isinstance(codec, ModuleType):
        return codec.__name__
    return f"{type(codec).__module__}.{type(codec).__qualname__}"


def is_shareable(codec: Codec[Any]) -> bool:
    """Whether decoded values may be shared; a codec that does not say is not shareable."""
    return getattr(codec, "shareable", False) is True


def encode(codec: Codec[Any], value: Any) -> bytes:
    """Encode by this codec; CodecError for what it does not take, None (which is no value) included."""
    if value is None:
        raise CodecError(f"codec {codec_name(codec)}: None is not a value; a loader returns it for a key without one")
    try:
        data = codec.encode(value)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"codec {codec_name(codec)} does not take this {type(value).__qualname__}: {error}") from error
    if not isinstance(data, bytes):
        raise CodecError(f"codec {codec_name(codec)}: encode returned {type(data).__qualname__}, not bytes")
    return data


def decode(codec: Codec[Any], data: bytes) -> Any:
    """Decode by this codec; CodecError for bytes that it cannot read, or reads as None."""
    try:
        value = codec.decode(data)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"codec {codec_name(codec)} cannot read these {len(data)} bytes: {error}") from error
    if value is None:
        raise CodecError(f"codec {codec_name(codec)}: these {len(data)} bytes mean None, which is not a value")
    return value
