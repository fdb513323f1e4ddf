"""Cut batches of writes into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from kamacache.net.messages import WriteItem

_MESSAGE = 32 * 1024 * 1024  # bytes of values that one message carries, if there are several
_KEYS = 4 * 1024 * 1024  # bytes of keys that are written together, as those of a notice
AT_ONCE = 2_000  # items that are written together: the wire thread of an owner stands still meanwhile


def weight(items: Sequence[WriteItem]) -> int:
    """Return about how many bytes these take in messages."""
    return sum(len(item.value or b"") + len(item.key) * 4 for item in items)


def at_once(items: Sequence[WriteItem]) -> Iterator[list[WriteItem]]:
    """Cut a batch into parts that are written one after the other, so that each part's notices fit into messages."""
    return _cut(items, _KEYS, AT_ONCE, lambda item: len(item.key) * 4)


def in_messages(items: Sequence[WriteItem]) -> Iterator[list[WriteItem]]:
    """Cut a batch so that each part fits into a message."""
    return _cut(items, _MESSAGE, len(items), lambda item: weight((item,)))


def _cut(
    items: Sequence[WriteItem], most: int, number: int, weigh: Callable[[WriteItem], int]
) -> Iterator[list[WriteItem]]:
    part: list[WriteItem] = []
    size = 0
    for item in items:
        heavy = weigh(item)
        if part and (size + heavy > most or len(part) == number):
            yield part
            part, size = [], 0
        part.append(item)
        size += heavy
    if part:
        yield part
