"""The table of owners as Python sees it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamacache._engine import Placement

MEMBERS = st.dictionaries(st.text(min_size=1, max_size=8), st.floats(0.1, 10), min_size=1, max_size=12)


def members(count: int) -> list[tuple[str, float]]:
    return [(f"10.0.{number // 256}.{number % 256}:8001", 1.0) for number in range(count)]


def owners(given: list[tuple[str, float]]) -> list[str]:
    return [given[position][0] for position in Placement(given).slots()]


@settings(max_examples=20, deadline=None)
@given(given=MEMBERS, data=st.data())
def test_order_does_not_matter(given: dict[str, float], data: st.DataObject) -> None:
    one = list(given.items())
    other = data.draw(st.permutations(one))
    assert owners(one) == owners(other)
    key = data.draw(st.text(min_size=1))
    names = [one[position][0] for position in Placement(one).candidates(key)]
    assert names == [other[position][0] for position in Placement(other).candidates(key)]
    assert len(names) == len(set(names)) == min(4, len(one))


@pytest.mark.parametrize("count", [3, 10, 100, 1000])
def test_balance(count: int) -> None:
    loads = Counter(Placement(members(count)).slots())
    assert sum(loads.values()) == Placement.SLOTS
    assert max(loads.values()) <= 1.06 * Placement.SLOTS / count


@pytest.mark.parametrize(("count", "most"), [(3, 1.2), (10, 1.2), (100, 1.2), (1000, 2.0)])
def test_movement(count: int, most: float) -> None:
    without, newcomer = members(count - 1), ("10.1.0.1:8001", 1.0)
    before, after = owners(without), owners([newcomer, *without])
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert 0.8 * Placement.SLOTS / count < moved <= most * Placement.SLOTS / count


def test_weights() -> None:
    given = [("a", 1.0), ("b", 2.0), ("c", 5.0)]
    loads = Counter(Placement(given).slots())
    assert [loads[position] / Placement.SLOTS for position in range(3)] == pytest.approx(
        [1 / 8, 1 / 4, 5 / 8], rel=0.06
    )


def test_owner_is_the_first_candidate() -> None:
    placement = Placement(members(5))
    for number in range(200):
        candidates = placement.candidates(f"user:{number}")
        assert placement.owner(f"user:{number}") == candidates[0]
        assert len(candidates) == 4


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [("a", 1.0), ("a", 2.0)],
        [("a", 0.0)],
        [("a", -1.0)],
        [("a", float("nan"))],
        [("a", float("inf"))],
    ],
)
def test_bad_members(bad: list[tuple[str, float]]) -> None:
    with pytest.raises(ValueError, match="member"):
        Placement(bad)
