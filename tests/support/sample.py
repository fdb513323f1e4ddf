"""A sample of the cases of a test: every value of every parameter, and not each combination. `make soak` runs all."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

EVERY_CASE = os.environ.get("KAMACACHE_CASES") == "all"


def keep_sample(config: pytest.Config, items: list[pytest.Item], chosen: Callable[[pytest.Function], bool]) -> None:
    """Deselect the cases of the chosen tests that are not in the sample, unless KAMACACHE_CASES=all."""
    if EVERY_CASE:
        return
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and chosen(item):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    dropped = {case for cases in tests.values() for case in set(cases).difference(sample(cases))}
    config.hook.pytest_deselected(items=[item for item in items if item in dropped])
    items[:] = [item for item in items if item not in dropped]


def sample(cases: list[pytest.Function]) -> list[pytest.Function]:
    """Return few cases of one test, the same ones each time, that have every value of every parameter."""
    chosen = cases[:1]
    while True:
        covered = set().union(*map(values, chosen))
        best = max(cases, key=lambda case: len(values(case) - covered))
        if values(best) <= covered:
            return chosen
        chosen.append(best)


def values(case: pytest.Function) -> set[tuple[str, str]]:
    """Return the parameters of a case with their values."""
    callspec = getattr(case, "callspec", None)
    return {(name, repr(value)) for name, value in callspec.params.items()} if callspec is not None else set()
