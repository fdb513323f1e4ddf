"""The backend for dogpile.cache. Its own suites are run by test_suites.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region

from tests.integrations.pair import run_two


@pytest.fixture
def region() -> Any:
    return make_region().configure("kamacache", expiration_time=60, arguments={"place": "none", "group": "own"})


def test_many_values_at_once(region: Any) -> None:
    region.set_multi({"a": 1, "b": [2]})
    assert region.get_or_create_multi(["a", "b", "c"], lambda *keys: [key.upper() for key in keys]) == [1, [2], "C"]
    region.delete_multi(["a", "b"])
    assert not region.get("a")
    assert region.get("c") == "C"


def test_a_value_that_is_too_large() -> None:
    region = make_region().configure("kamacache", arguments={"place": "none", "group": "tiny", "max_bytes": "1 MiB"})
    region.set("k", "old")
    region.set_multi({"k": "x" * 1_000_000, "j": 1})
    assert not region.get("k")
    assert region.get("j") == 1
    assert region.get_or_create("k", lambda: "y" * 1_000_000) == "y" * 1_000_000


def test_arguments_that_are_unknown(caplog: pytest.LogCaptureFixture) -> None:
    make_region().configure("kamacache", arguments={"place": "none", "group": "known", "max_byte": 1})
    assert "unknown here: max_byte" in caplog.text


def test_one_process_creates_for_all(tmp_path: Path) -> None:
    """Two processes of four threads ask for the same keys: each is created once in all."""
    code = f"""
import sys, threading, time
from dogpile.cache import make_region
region = make_region().configure(
    "kamacache", expiration_time=60, arguments={{"place": "local://", "service": "dogpile-{os.getpid()}"}}
)
region.get("warm")
agree("dogpile", "k0")

def create(key):
    with open({str(tmp_path / "runs")!r}, "a") as runs:
        runs.write(key + " ")
    time.sleep(0.05)
    return key

def ask():
    for number in range(10):
        key = f"k{{number}}"
        assert region.get_or_create(key, lambda: create(key)) == key

threads = [threading.Thread(target=ask) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("done", flush=True)
sys.stdin.read()
"""
    assert run_two(code) == ["done\n"] * 2
    assert sorted((tmp_path / "runs").read_text().split()) == [f"k{number}" for number in range(10)]
