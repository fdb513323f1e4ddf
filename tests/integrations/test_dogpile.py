"""The backend for dogpile.cache. Its own suites are run by test_suites.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dogpile.cache import make_region


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
from kamacache.integrations.place import _nodes
(node,) = _nodes.values()
while sys.stdin.readline() == "owner?\\n":
    print(len(node.members()), node.owner("dogpile", "k0").address, flush=True)

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
    both = [subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True, bufsize=1) for _ in range(2)]
    try:
        while True:
            answers = {_said(process, "owner?\n") for process in both}
            if len(answers) == 1 and answers.pop().startswith("2 "):
                break
        for process in both:
            assert process.stdin
            process.stdin.write("go\n")
        assert [process.stdout.readline() for process in both if process.stdout] == ["done\n"] * 2
    finally:
        for process in both:
            process.communicate(timeout=30)
    assert sorted((tmp_path / "runs").read_text().split()) == [f"k{number}" for number in range(10)]


def _said(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write(text)
    return process.stdout.readline()
