"""Clock and Hlc."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamacache._engine import Clock, Hlc, Store

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
    for far in (float("inf"), 1e30, 9.3e9):
        with pytest.raises(ValueError, match="292 years"):
            clock.advance(far)
    assert clock.now() == 2.5


def test_the_machines_clock_is_the_machines() -> None:
    clock = Clock()
    before, now, after = time.time(), clock.unix(), time.time()
    assert before - 0.01 <= now <= after + 0.01
    assert clock.now() <= clock.now()
    with pytest.raises(TypeError, match="manual=True"):
        clock.advance(1.0)


def test_time_counts_while_the_machine_is_suspended() -> None:
    """Expire at the next sweep what outlived its ttl meanwhile. The cheap clock that hits read learns it then."""
    clock = Clock(manual=True)
    store = Store(
        "g",
        max_bytes=1 << 20,
        policy="lru",
        clock=clock,
        near_ttl=5.0,
        remember=30.0,
        decode=None,
        shareable=False,
        keep_evicted=False,
    )
    store.put("short", b"v", 1, 60.0, Store.MAIN)
    store.put("long", b"v", 1, 7_200.0, Store.MAIN)
    clock.advance(3_600.0, asleep=True)
    assert (clock.now(), clock.unix()) == (3_600.0, 3_600.0)
    store.sweep()
    assert store.get("short") is None
    assert store.find("long") == (b"v", 1, 3_600.0, Store.MAIN)
    assert store.stats()["expirations"] == 1
    store.put("later", b"v", 1, 60.0, Store.MAIN)
    clock.advance(59.0)
    assert store.get("later") == b"v"
    clock.advance(2.0)
    assert store.get("later") is None


def test_the_machines_clock_counts_the_time_asleep() -> None:
    """Run in a namespace whose machine has been asleep for a day, as far as a process can see."""
    code = "import time; from kamacache._engine import Clock; print(Clock().now() - time.monotonic())"
    command = ["unshare", "--user", "--map-root-user", "--time", "--boottime", "86400", sys.executable, "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("this system has no time namespaces for this user")
    assert float(done.stdout) >= 86_400 - 1


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


def test_the_time_of_the_service_is_that_of_the_clock_that_is_ahead() -> None:
    behind, ahead = Clock(manual=True, unix=1000.0), Clock(manual=True, unix=4600.0)
    first, second = Hlc(behind, 1), Hlc(ahead, 2)
    assert (first.now_ms(), second.now_ms()) == (1_000_000, 4_600_000)
    first.merge(second.next())
    second.heard(first.now_ms())
    for clock in (behind, ahead):
        clock.advance(1.5)  # it goes on between messages
    assert first.now_ms() == second.now_ms() == 4_601_500
    assert first.until_ms(1.0) == second.until_ms(1.0) == 4_602_400  # a tenth for what another may be behind
    ahead.advance(60.0)
    first.heard(second.now_ms())
    assert first.now_ms() == 4_661_500
    first.heard(1_001_000)  # old messages say less
    first.heard(1 << 63)  # more than a day ahead: its clock is wrong
    first.heard(1_000_000 + 86_402_000)
    assert first.now_ms() == 4_661_500
    assert first.latest() == 4_600_000 << 80 | 2  # versions are given to writes alone


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
