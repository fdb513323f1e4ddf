"""Compress the large values of a group. What is stored says itself whether it is packed, so any threshold can read it.

Small values are stored as the group's codec returns them. A packed one begins with PACKED and one more byte: 1 and a
frame of zstd, or 0 and the bytes themselves, which begin like a packed value by chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamacache._engine import PACKED
from kamacache.codecs import BytesCodec, Codec, Named, codec_name, is_shareable
from kamacache.errors import ConfigError

MOST = 64 * 1024 * 1024  # bytes of a value that is compressed; a frame that claims more is not read
_AS_IS, _ZSTD = b"\0", b"\1"
_HEAD = len(PACKED) + 1


class Packed(Named):
    """A codec whose results are compressed if they have more than `above` bytes and become smaller by it."""

    def __init__(self, inner: Codec[Any], above: int) -> None:
        self.inner = inner
        self.name = codec_name(inner)
        self.shareable = is_shareable(inner)
        self._above = above
        self._compress, self._decompress = _zstd()
        self._decode = inner.decode

    def __repr__(self) -> str:
        return repr(self.inner)

    @property
    def is_plain(self) -> bool:
        """Return whether a value that is not packed is its own bytes."""
        return isinstance(self.inner, BytesCodec)

    def of_bytes(self) -> Packed:
        """Return a codec that packs and unpacks what the inner codec makes: for clients, which want that."""
        return Packed(BytesCodec(), self._above)

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes of the inner codec, packed if they are large; what that codec raises."""
        data = self.inner.encode(value)
        if not isinstance(data, bytes):
            return data
        if self._above < len(data) <= MOST:
            packed = PACKED + _ZSTD + self._compress(data)
            if len(packed) < len(data):
                return packed
        return PACKED + _AS_IS + data if data.startswith(PACKED) else data

    def decode(self, data: bytes, /) -> Any:
        """Return the value; ValueError for a frame that is none or would be too large, what the inner codec raises."""
        if data.startswith(PACKED):
            kind = data[_HEAD - 1 : _HEAD]
            if kind not in {_AS_IS, _ZSTD}:
                raise ValueError("it is packed in a way that this release does not know")
            data = self._decompress(data[_HEAD:]) if kind == _ZSTD else data[_HEAD:]
        return self._decode(data)


def unpacked(codec: Codec[Any]) -> Codec[Any]:
    """Return the codec that the user gave."""
    return codec.inner if isinstance(codec, Packed) else codec


def _zstd() -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    """Return functions that compress and decompress; ConfigError without a module that does."""
    from importlib import import_module  # noqa: PLC0415 - only groups of this option pay for it

    for name, make in (("compression.zstd", _standard), ("backports.zstd", _standard), ("zstandard", _zstandard)):
        try:
            return make(import_module(name))
        except ImportError:
            continue
    raise ConfigError("compress_above needs the zstandard package: pip install kamacache[zstd]")


def _standard(zstd: Any) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    def decompress(data: bytes) -> bytes:
        _check(zstd.get_frame_info(data).decompressed_size)
        one = zstd.ZstdDecompressor()
        value: bytes = one.decompress(data, max_length=MOST)
        if not one.eof or one.unused_data:
            raise ValueError("the frame is cut off, or something follows it")
        return value

    return zstd.compress, decompress


def _zstandard(zstandard: Any) -> tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]:
    # Its objects are for one thread at a time.
    def compress(data: bytes) -> bytes:
        frame: bytes = zstandard.ZstdCompressor().compress(data)
        return frame

    def decompress(data: bytes) -> bytes:
        _check(zstandard.frame_content_size(data))
        value: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=MOST, allow_extra_data=False)
        return value

    return compress, decompress


def _check(size: int | None) -> None:
    """Raise ValueError unless a frame says its size, and that it may be decompressed. Decompressors hold it to that."""
    if size is None or not 0 <= size <= MOST:
        raise ValueError(f"the frame would have {size} bytes, which are not known or more than {MOST:,}")
