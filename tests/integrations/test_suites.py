"""The tests that frameworks have for their own backends pass on this one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
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
PASSED = {"aiocache": 131, "cachelib": 28, "cashews": 215, "dogpile": 32, "redis": 50}  # at least


def run(name: str) -> str:
    """Run a suite in a process of its own, and return what it printed."""
    folder = FOLDERS.get(name)
    done = subprocess.run(
        [sys.executable, "-m", *SUITES[name], *([] if folder is None else [folder])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT if folder is None else fetched(name),
        env={**os.environ, "KAMACACHE_SERVICE": f"{name}-{os.getpid()}", "PYTHONPATH": str(PLUGINS)},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("suite", sorted(PASSED))
def test_a_suite_of_pytest(suite: str) -> None:
    said = run(suite)
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) >= PASSED[suite], said


@pytest.mark.parametrize("suite", ["django", "django_redis"])
def test_the_suite_of_django(suite: str) -> None:
    """All tests of cache backends pass; those of culling by MAX_ENTRIES do not apply."""
    found = json.loads(run(suite).splitlines()[-1])
    assert found["failed"] == []
    assert found["run"] >= 50
    assert set(found["skipped"]) <= {"Culling isn't implemented."}
