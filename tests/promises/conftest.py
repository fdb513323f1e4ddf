"""Choose a sample of the cases, as each needs a process of its own. KAMACACHE_PROMISES=all runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.promises.support import EVERY_CASE

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if EVERY_CASE:
        return
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.path.parent == HERE:
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
