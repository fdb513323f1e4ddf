"""Start the suites of the frameworks before the other tests here, as they mostly sleep. test_suites.py waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTEST = ["pytest", "-p", "no:cacheprovider", "-W", "ignore"]
SUITES = {
    "cachelib": [*PYTEST, "tests/integrations/cachelib_suite.py"],
    "django": ["tests.integrations.django_suite"],
    "dogpile": [*PYTEST, "tests/integrations/dogpile_suite.py"],
}


@pytest.fixture(scope="session", autouse=True)
def suites(request: pytest.FixtureRequest) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Return the processes of the suites that tests of this run wait for, by name."""
    wanted = {item.callspec.params["suite"] for item in request.session.items if _waits(item)}  # type: ignore[attr-defined]
    running = {
        name: subprocess.Popen(
            [sys.executable, "-m", *SUITES[name]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env={**os.environ, "KAMACACHE_SERVICE": f"{name}-{os.getpid()}"},
        )
        for name in sorted(wanted)
    }
    yield running
    for process in running.values():
        if process.poll() is None:
            process.kill()
        process.communicate()


def _waits(item: pytest.Item) -> bool:
    return item.path.name == "test_suites.py"
