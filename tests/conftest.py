"""For all tests: how many random inputs they take, and an end to whatever hangs."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, settings

LIMIT = 120.0 + float(os.environ.get("KAMACACHE_SOAK", "0"))  # seconds for one test; a busy machine takes its time
SOAK_LIMIT = 3600.0

_patient = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_patient)
settings.register_profile("short", max_examples=200, deadline=None, suppress_health_check=_patient, print_blob=True)
settings.register_profile(
    "soak", max_examples=2_000, deadline=timedelta(seconds=60), suppress_health_check=_patient, print_blob=True
)
settings.load_profile("ci")

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(2)  # before each test's output is captured


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Show where every thread stands, and end, when a test takes far too long."""
    limit = SOAK_LIMIT if settings.get_current_profile_name() == "soak" else LIMIT
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()
