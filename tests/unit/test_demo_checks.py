"""The demonstration's checks: made-up journals that break each promise are caught, and nothing else is."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from tools.demo import latency
from tools.demo.checks import (
    Facts,
    Outage,
    check,
    check_outages,
    count_loads,
    find_overlaps,
    unconfirmed,
)
from tools.demo.evidence import (
    CONFIRMED,
    DELETE,
    LOAD,
    LOADED,
    SET,
    UNCONFIRMED,
    Journal,
    Load,
    Write,
    read_journal,
)
from tools.demo.views import Window, disagreements, merged
from tools.demo.worker import Doubts


def load(key: int, begin: float, end: float, node: str = "A") -> Load:
    return Load(key, node, begin, end)


def write(key: int, begin: float, end: float, *, delete: bool = True, confirmed: bool | None = True) -> Write:
    return Write(key, "B", begin, end, delete, confirmed)


GOOD = Facts(
    loads=[load(1, 0, 1), load(2, 0, 1), load(1, 5, 6), load(3, 0, 1), load(3, 20, 21, "B")],
    writes=[write(1, 3, 4), write(2, 3, 4, delete=False), write(2, 27, 28, delete=False, confirmed=False)],
    lost=[3],
    killed=Window(15, 15),
    windows=[Window(27, 28)],
    reads=100,
    stale=0,
    errors=0,
    words=[],
)
LOADS, AT_ONCE, STALE, CONFIRM, ERRORS, ENOUGH = (promise.name for promise in check(GOOD))


def broken(facts: Facts) -> list[str]:
    return [promise.name for promise in check(facts) if not promise.held]


def test_a_good_run_holds() -> None:
    assert broken(GOOD) == []


@pytest.mark.parametrize(
    ("facts", "promises"),
    [
        (replace(GOOD, loads=[*GOOD.loads, load(2, 7, 8)]), [LOADS]),  # a set allows no load
        (replace(GOOD, loads=[*GOOD.loads, load(1, 7, 8)]), [LOADS]),  # one delete, two loads after it
        (replace(GOOD, loads=[*GOOD.loads, load(3, 30, 31)]), [LOADS]),  # lost once, loaded again twice
        (replace(GOOD, killed=Window(30, 30)), [LOADS]),  # loaded again before it was lost
        (replace(GOOD, writes=[write(1, 7, 8), *GOOD.writes[1:]]), [LOADS]),  # deleted after it was loaded again
        (replace(GOOD, lost=[]), [LOADS]),  # not lost, and loaded again
        (replace(GOOD, loads=[*GOOD.loads, load(4, 7, 9), load(4, 8, 9, "B")]), [LOADS, AT_ONCE]),
        (replace(GOOD, loads=[*GOOD.loads, load(4, 14, 21), load(4, 20, 21, "B")], lost=[3, 4]), [AT_ONCE]),
        (replace(GOOD, stale=1, words=["A: get 7"]), [STALE]),
        (replace(GOOD, writes=[*GOOD.writes, write(2, 30, 31, confirmed=False)]), [CONFIRM]),
        (replace(GOOD, errors=1, words=["A: get 7"]), [ERRORS]),
        (replace(GOOD, reads=3), [ENOUGH]),
        (replace(GOOD, writes=GOOD.writes[2:], loads=GOOD.loads[1:]), [ENOUGH]),
    ],
)
def test_a_broken_promise_is_named(facts: Facts, promises: list[str]) -> None:
    assert broken(facts) == promises


def test_loads_and_their_reasons() -> None:
    counted = count_loads(GOOD.loads, GOOD.writes, GOOD.lost, GOOD.killed, GOOD.windows)
    assert (counted.loads, counted.first, counted.after_deletes, counted.after_kill) == (5, 3, 1, 1)
    assert not counted.in_windows
    assert count_loads([load(9, t, t + 1) for t in (0, 5, 9, 10)], [], [9], Window(7, 7), []).too_many == {9: 2}
    assert count_loads([load(9, t, t + 1) for t in (0, 5, 6)], [write(9, 2, 3)] * 2, [], Window(7, 7), []).too_many == {
        9: 1
    }


def test_loads_while_views_differed_are_counted_apart() -> None:
    def counts(*begins: float) -> tuple[int, int]:
        counted = count_loads([load(9, t, t + 1) for t in begins], [], [], Window(0, 0), [Window(4, 6)])
        return counted.in_windows, counted.too_many.total()

    assert counts(2, 5) == (1, 0)
    assert counts(5, 9) == (1, 0)
    assert counts(2, 9) == (0, 1)  # neither began then
    assert counts(2, 5, 9, 11) == (2, 1)


def test_a_set_while_views_differed_may_have_gone_astray() -> None:
    def counts(*writes: Write) -> tuple[int, int]:
        loads = [load(9, t, t + 1) for t in (2, 8, 9)]
        counted = count_loads(loads, writes, [], Window(0, 0), [Window(4, 6)])
        return counted.in_windows, counted.too_many.total()

    assert counts() == (0, 2)
    assert counts(write(9, 5, 5.5, delete=False)) == (1, 1)  # good for one load
    assert counts(write(9, 6.5, 7, delete=False)) == (0, 2)  # when they agreed again
    assert counts(write(8, 5, 5.5, delete=False)) == (0, 2)  # of another key


def test_two_loads_at_once_are_distinguished_by_their_reason() -> None:
    pair = [load(1, 10, 12), load(1, 11, 13, "B")]

    def kinds(writes: list[Write], windows: list[Window]) -> tuple[int, int, int]:
        found = find_overlaps(pair, writes, windows)
        return len(found.by_writes), len(found.in_windows), len(found.broken)

    assert kinds([], []) == (0, 0, 1)
    assert kinds([write(1, 9, 10.5)], []) == (1, 0, 0)
    assert kinds([write(1, 11.5, 14)], []) == (0, 0, 1)  # called when both were running
    assert kinds([write(1, 8, 9)], []) == (0, 0, 1)  # returned before both
    assert kinds([write(2, 9, 10.5)], []) == (0, 0, 1)  # of another key
    assert kinds([], [Window(10.5, 20)]) == (0, 1, 0)
    assert kinds([], [Window(11.5, 20)]) == (0, 0, 1)


def test_a_long_load_is_compared_with_all_that_begin_in_it() -> None:
    loads = [load(1, 0, 10), load(1, 2, 3), load(1, 5, 6)]
    assert len(find_overlaps(loads, [], []).broken) == 2
    assert not find_overlaps([load(1, 0, 1), load(1, 1, 2), load(2, 0, 5)], [], []).broken


def test_unconfirmed_writes_near_a_change_are_counted_apart() -> None:
    writes = [write(1, 1, 2, confirmed=False), write(1, 9, 11, confirmed=False), write(1, 11, 12, confirmed=None)]
    assert unconfirmed(writes, [Window(10, 20)]) == (2, 1)


def test_views_that_differ() -> None:
    assert disagreements([]) == []
    assert disagreements([(9, [(1, "ab")]), (9, [(2, "ab")])]) == []
    assert disagreements([(9, [(1, "ab"), (5, "a"), (6, "ab")]), (9, [(1, "ab")])]) == [Window(5, 6)]
    assert disagreements([(9, [(1, "ab"), (5, "b")]), (9, [(1, "ab"), (6, "b"), (7, "ab")])]) == [
        Window(5, 6),
        Window(7, 9),
    ]
    assert disagreements([(4, [(1, "ab")]), (9, [(1, "ab"), (5, "b")])]) == []  # the first had ended
    assert disagreements([(9, [(1, "a"), (3, "ab")]), (9, [(2, "ab")])]) == [Window(2, 3)]


def test_a_doubt_is_reported_before_it_counts() -> None:
    """Report a doubt first: a view that counts one unknown to the parent would have it passed over forever."""
    told: list[int] = []
    doubts = Doubts(lambda: told.append(doubts.count))
    for words in ("a is considered dead: no answer", "a answers again"):
        doubts.emit(logging.makeLogRecord({"msg": words}))
    assert (told, doubts.count) == ([0], 1)


def test_windows_that_meet_are_one() -> None:
    assert merged([Window(5, 6), Window(1, 4), Window(2, 3), Window(4, 4.5)]) == [Window(1, 4.5), Window(5, 6)]


def test_outages_of_etcd() -> None:
    def held(registered: float, *writes: Write) -> list[bool]:
        found = check_outages([Outage(10, 20, registered, "A and B", False)], [load(1, 15, 16)], writes, 15.0)
        return [promise.held for promise in found]

    assert held(35, write(1, 11, 12)) == [True, True]
    assert held(35.5, write(1, 11, 12)) == [True, False]
    assert held(35, write(1, 9, 11), write(1, 19, 21)) == [False, True]  # neither wholly without etcd
    assert held(35, write(1, 11, 12, confirmed=False)) == [False, True]
    assert [promise.held for promise in check_outages([], [], [], 15.0)] == [False, False]


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "A1.journal"
    journal = Journal(path)
    for what, key, number in [
        (LOAD, 7, 1),
        (DELETE, 8, 1),
        (LOAD, 7, 2),
        (LOADED, 7, 2),
        (CONFIRMED, 8, 1),
        (SET, 9, 2),
        (UNCONFIRMED, 9, 2),
        (SET, 9, 3),
    ]:
        journal.note(what, key, number)
    with path.open("ab") as file:
        file.write(b"half a record")
    died = 1e12
    loads, writes = read_journal(path, "A", died)
    assert [(load.key, load.end == died) for load in loads] == [(7, False), (7, True)]
    assert [(write.key, write.delete, write.confirmed) for write in writes] == [
        (8, True, True),
        (9, False, False),
        (9, False, None),
    ]
    assert all(load.begin <= load.end for load in loads)


def test_latency_quantiles_are_near_the_truth() -> None:
    durations = [37 * n for n in range(1, 20_001)]
    counts = Counter(map(latency.bucket, durations))
    for share in (0.01, 0.5, 0.99, 1.0):
        true = durations[round(share * len(durations)) - 1] / 1e9
        assert latency.quantile(counts, share) == pytest.approx(true, rel=1 / 64)
    assert latency.quantile({}, 0.5) == 0.0
    assert sum(latency.merged([counts, counts]).values()) == 2 * len(durations)
