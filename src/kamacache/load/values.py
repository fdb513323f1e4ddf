"""Turn what was found or loaded into what callers get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import MISSING, Store
from kamacache.errors import CodecError
from kamacache.load.local import Local
from kamacache.load.outcome import LOADS, Outcome, raised
from kamacache.packed import Packed

if TYPE_CHECKING:
    from kamacache.load.given import Given
    from kamacache.load.unread import Unread
    from kamacache.options import GroupOptions


class Values:
    """The values of one group."""

    def __init__(self, store: Store, options: GroupOptions, local: Local, unread: Unread) -> None:
        codec = options.codec
        self.plain = isinstance(codec, codecs.BytesCodec)  # bytes are values
        self._codec = codec
        self._of_bytes = codec.of_bytes() if isinstance(codec, Packed) else None
        self._shareable = codecs.is_shareable(codec)
        self._store = store
        self._local = local
        self._unread = unread

    def decode(self, key: str, data: bytes | None, *, raw: bool = False, default: Any = None) -> Any:
        """Return the value, or `default` if it is absent; with `raw` its bytes, as before they were compressed.

        Raises CodecError.
        """
        if data is None:
            return default
        codec: codecs.Codec[Any] | None = self._of_bytes if raw else self._codec
        if codec is None:
            return data
        value = codecs.untagged(data)
        marked = value.startswith(codecs.MARK)
        if raw if marked else self.plain:  # what clients see of a marked value is up to the engine
            return value
        if self._shareable and not raw and (shared := self._store.peek(key)) is not None:
            kept = self._store.find(key)  # after the look: another value may have come, which is not the caller's
            if kept is not None and kept[0] is not None and codecs.untagged(kept[0]) == value:
                return shared
        try:
            return codecs.decode(codec, value)
        except CodecError as error:
            self._unread.note(key, data, error)
            raise

    def read(self, key: str, data: bytes | None, *, raw: bool = False) -> Any:
        """Return the value of bytes that are not fresh from the loader; MISSING if the codec cannot read them."""
        try:
            return self.decode(key, data, raw=raw)
        except CodecError:
            return MISSING

    def result(
        self,
        key: str,
        outcome: Outcome,
        *,
        raw: bool = False,
        last: bool = False,
        given: Given | None = None,
        default: Any = None,
    ) -> Any:
        """Return the value of an outcome; MISSING if it cannot be read, and the key is to be loaded again.

        A value that the loader has just returned is not loaded again, nor one that came back after that; raises
        CodecError.
        Without any loader, and without a function that the caller has `given`, the value counts as absent.
        """
        outcome = self._local.instead(key, outcome)
        if outcome.failure is not None:
            raise raised(outcome.failure, key)
        try:
            value = self.decode(key, outcome.value, raw=raw, default=default)
        except CodecError:
            if outcome.how != LOADS and not last:
                return MISSING
            if given is None and not self._local.may_load():  # on a client node, too
                return default
            raise
        if self._unread.marks:
            self._unread.marks.pop(key, None)
        return value
