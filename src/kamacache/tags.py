"""Tags: names that values carry, by which they are deleted together.

A value with tags begins with them, so that they go wherever it goes; crates/engine/src/marked.rs reads them. The store
that keeps it gives each the version of the last delete of the tag that the value can have seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from kamacache._engine import TAG
from kamacache.codecs import HEAD, TAGGED, untagged
from kamacache.errors import InvalidKey

Tags = str | Iterable[str]
"""One tag, or several."""

_MOST = 64  # tags of one value
_LONGEST = 1_024  # bytes of a tag
_UNCLAIMED = b"\xff" * 16


def parse_tags(tags: Tags) -> tuple[str, ...]:
    """Return the tags, each once. Raises TypeError for what is no text, InvalidKey for a bad tag."""
    given = (tags,) if isinstance(tags, str) else tags
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise TypeError(f"tags takes texts, as in tags=['user:7'], not {given!r}")
    parsed = tuple(dict.fromkeys(check_tag(tag) for tag in given))
    if len(parsed) > _MOST:
        raise InvalidKey(f"a value has {_MOST} tags at most, not {len(parsed)}")
    return parsed


def check_tag(tag: object) -> str:
    """Return a tag. Raises TypeError, InvalidKey."""
    if not isinstance(tag, str):
        raise TypeError(f"a tag is a str, not {type(tag).__name__}: {tag!r}")
    try:
        size = len(tag.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"a tag is text that UTF-8 can write, not {tag[:40]!r}") from None
    if not 0 < size <= _LONGEST:
        raise InvalidKey(f"a tag has 1 to {_LONGEST:,} bytes, not {size:,}")
    return str(tag)


def key_of(tag: str) -> str:
    """Return the key by which a tag is deleted. Raises TypeError, InvalidKey."""
    return TAG + check_tag(tag)


def tagged(raw: bytes, tags: tuple[str, ...]) -> bytes:
    """Return the bytes of a value with these tags."""
    if not tags:
        return raw
    names = [tag.encode() for tag in tags]
    head = b"".join(_UNCLAIMED + len(name).to_bytes(2) + name for name in names)
    return b"%b%b%b%b" % (TAGGED, len(head).to_bytes(4), head, raw)


def stated(raw: bytes, version: int) -> int:
    """Return the version by which callers know a value: that of the key or of a tag, the greater one.

    What is loaded after a tag was deleted has another one than what was there before.
    """
    head, at = raw[: len(raw) - len(untagged(raw))], HEAD
    while at < len(head):
        version = max(version, int.from_bytes(head[at : at + 16]))
        at += 18 + int.from_bytes(head[at + 16 : at + 18])
    return version


def retagged(raw: bytes, other: bytes) -> bytes:
    """Return other bytes with the tags of a value, which they keep as they are."""
    return raw[: len(raw) - len(untagged(raw))] + other
