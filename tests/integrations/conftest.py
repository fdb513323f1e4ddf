"""Start the suites of the frameworks before the other tests here, as they mostly sleep. test_suites.py waits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.suites import fetched

ROOT = Path(__file__).parents[2]
PLUGINS = ROOT / "tests/integrations/plugins"
PYTEST = ["pytest", "-p", "no:cacheprovider", "-W", "ignore"]
ASYNC = ["-p", "pytest_asyncio", "-o", "asyncio_mode=auto", "-o", "addopts="]
# Left out: a value is the same object as before, what is read from a private dict, and raw commands of a dict.
OF_AIOCACHE = "not redis and not memcached", "not TestNullSerializer and not TestHitMissRatioPlugin and not test_raw"
# Left out: a pattern with more than its end open deletes too much here; and what touches no backend, or another one.
OF_CASHEWS = [f"--ignore=tests/test_{name}.py" for name in ("key", "pickle_serializer", "settings_url", "utils")]
SUITES = {
    "aiocache": [*PYTEST, *ASYNC, "-p", "kamacache_for_aiocache", "-m", OF_AIOCACHE[0], "-k", OF_AIOCACHE[1]],
    "cachelib": [*PYTEST, "tests/integrations/cachelib_suite.py"],
    "cashews": [
        *[*PYTEST, *ASYNC, *OF_CASHEWS],
        *["-p", "kamacache_for_cashews", "-m", "not redis", "-k", "not test_delete_match"],
    ],
    "django": ["tests.integrations.django_suite"],
    "django_redis": ["tests.integrations.django_suite", "redis"],
    "dogpile": [*PYTEST, "tests/integrations/dogpile_suite.py"],
    "redis": [*PYTEST, "tests/integrations/redis_suite.py"],
}
FOLDERS = {"aiocache": "tests/acceptance", "cashews": "tests"}  # in the source distribution, of suites that run there


@pytest.fixture(scope="session", autouse=True)
def suites(request: pytest.FixtureRequest) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Return the processes of the suites that tests of this run wait for, by name."""
    wanted = {item.callspec.params["suite"] for item in request.session.items if _waits(item)}  # type: ignore[attr-defined]
    running = {name: _start(name) for name in sorted(wanted)}
    yield running
    for process in running.values():
        if process.poll() is None:
            process.kill()
        process.communicate()


def _start(name: str) -> subprocess.Popen[str]:
    folder = FOLDERS.get(name)
    where = [] if folder is None else [str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", *SUITES[name], *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=fetched(name) if where else ROOT,
        env={**os.environ, "KAMACACHE_SERVICE": f"{name}-{os.getpid()}", "PYTHONPATH": str(PLUGINS)},
    )


def _waits(item: pytest.Item) -> bool:
    return item.path.name == "test_suites.py"
