"""What a group remembers of recent writes: loads beside many writes, the budget, and what is said when it is full."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kamacache import Clock, Node
from tests.unit.groups import counts, until

if TYPE_CHECKING:
    import pytest

FULL = "recent writes fill half of max_bytes"


def test_loads_are_kept_beside_twenty_thousand_writes_a_second(
    node: Node, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Load 32 keys, one after another, while 20,000 other keys are written in the second that each load takes."""
    written = 0

    def slow(key: str) -> bytes:
        nonlocal written
        numbers = range(written, written + 20_000)
        for number in numbers:
            group._core.store.note(f"written:{number:08}", number + 1 << 64)
        written += 20_000
        clock.advance(1)
        return key.encode()

    group = node.group("g", slow)
    keys = [f"loaded:{number}" for number in range(32)]
    for key in keys:
        group.get(key)
        stats = group.stats()
        assert stats.bytes <= stats.max_bytes == 64 << 20
    assert stats.unremembered == 0
    assert stats.remembered >= 600_000
    assert stats.remembered_bytes <= stats.max_bytes // 2
    group.get_many(keys)
    assert counts(group) == {"loads": 32, "hits": 32}
    assert FULL not in caplog.text


def test_a_full_memory_of_writes_is_counted_and_logged_once(
    node: Node, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kamacache.sweeper._QUIET", 0.02)
    group = node.group("g", str.encode, max_bytes="256 KiB")

    def fill() -> None:
        before = group.stats().unremembered
        for number in range(4):
            group.set_many({f"{number}:{n}": b"v" for n in range(1_000)})
            stats = group.stats()
            assert stats.bytes <= stats.max_bytes
            assert stats.remembered_bytes <= stats.max_bytes // 2
        assert stats.unremembered > before
        assert stats.entries > 0

    def warnings() -> int:
        return sum(FULL in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)

    fill()
    until(lambda: warnings() == 1)
    assert "group 'g': recent writes fill half of max_bytes (262,144 bytes)" in caplog.text
    fill()
    clock.advance(31)
    until(lambda: group.stats().remembered == 0)
    assert warnings() == 1
    assert group.stats().unremembered > 0
    fill()
    until(lambda: warnings() == 2)


def test_the_smallest_group_keeps_loads_while_it_is_written(node: Node) -> None:
    group = node.group("g", str.encode, max_bytes="4 KiB")
    for number in range(200):
        group.set(f"written:{number}", b"v")
        assert group.get(f"loaded:{number}") == f"loaded:{number}".encode()
        group.get(f"loaded:{number}")
        stats = group.stats()
        assert stats.bytes <= stats.max_bytes
        assert stats.remembered_bytes <= stats.max_bytes // 2
    assert counts(group) == {"loads": 200, "hits": 200}
    assert stats.unremembered > 0
