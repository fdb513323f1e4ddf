"""Choose a sample of the cases, as each needs a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.sample import keep_sample

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    keep_sample(config, items, lambda case: case.path.parent == HERE)
