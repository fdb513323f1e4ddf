"""Clock and Hlc."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamacache._engine import Clock, Hlc

VERSIONS = st.integers(min_value=0, max_value=(1 << 127))


def test_a_manual_clock_moves_by_hand_alone() -> None:
    clock = Clock(manual=True, unix=1_000.0)
    assert (clock.now(), clock.unix()) == (0.0, 1_000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.unix()) == (2.5, 1_002.5)
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1.0)
    with pytest.raises(ValueError, match="NaN"):
        clock.advance(float("nan"))


def test_the_machines_clock_is_the_machines() -> None:
    clock = Clock()
    before, now, after = time.time(), clock.unix(), time.time()
    assert before - 0.01 <= now <= after + 0.01
    assert clock.now() <= clock.now()
    with pytest.raises(TypeError, match="manual=True"):
        clock.advance(1.0)


def test_a_version_is_time_counter_and_node() -> None:
    clock = Clock(manual=True, unix=5.0)
    hlc = Hlc(clock, 7)
    assert hlc.latest() == 0
    assert hlc.next() == (5_000 << 16) << 64 | 7
    assert hlc.next() == (5_000 << 16 | 1) << 64 | 7
    clock.advance(0.001)
    assert hlc.next() == (5_001 << 16) << 64 | 7 == hlc.latest()


def test_versions_end() -> None:
    hlc = Hlc(Clock(manual=True), 7)
    with pytest.raises(OverflowError):
        hlc.next(above=(1 << 128) - 1)


@given(st.lists(st.tuples(st.booleans(), VERSIONS, st.floats(0, 10))))
def test_next_is_greater_than_all_seen(steps: list[tuple[bool, int, float]]) -> None:
    clock = Clock(manual=True, unix=1e9)
    hlc = Hlc(clock, 3)
    greatest = 0
    for merge, version, passed in steps:
        clock.advance(passed)
        if merge:
            if hlc.merge(version):
                greatest = max(greatest, version)
        else:
            given_ = hlc.next(version)
            assert given_ > max(version, greatest)
            greatest = given_
        assert hlc.latest() == greatest


def test_a_version_more_than_a_day_ahead_is_not_taken_in() -> None:
    clock = Clock(manual=True, unix=1000.0)
    hlc = Hlc(clock, 7)
    day = 86_400 * 1000 << 80
    now = hlc.next()
    assert hlc.merge(now + day)
    assert hlc.latest() == now + day
    assert not hlc.merge(now + day + (2 << 80))
    assert not hlc.merge(1 << 120)
    assert hlc.latest() == now + day
    clock.advance(1.0)
    assert hlc.merge(now + day + (2 << 80))
