"""The tests that frameworks have for their own backends pass on this one."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

PASSED = {"aiocache": 131, "cachelib": 28, "cashews": 215, "dogpile": 32, "redis": 50}  # at least


@pytest.mark.parametrize("suite", sorted(PASSED))
def test_a_suite_of_pytest(suite: str, suites: dict[str, subprocess.Popen[str]]) -> None:
    said, _ = suites[suite].communicate(timeout=240)
    assert suites[suite].returncode == 0, said
    (passed,) = re.findall(r"(\d+) passed", said)
    assert int(passed) >= PASSED[suite], said


@pytest.mark.parametrize("suite", ["django", "django_redis"])
def test_the_suite_of_django(suite: str, suites: dict[str, subprocess.Popen[str]]) -> None:
    """All tests of cache backends pass; those of culling by MAX_ENTRIES do not apply."""
    said, _ = suites[suite].communicate(timeout=240)
    assert suites[suite].returncode == 0, said
    found = json.loads(said.splitlines()[-1])
    assert found["failed"] == []
    assert found["run"] >= 50
    assert set(found["skipped"]) <= {"Culling isn't implemented."}
