"""Finalizers that use a node while the interpreter ends, after its nodes were closed: calls raise NodeClosed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import kamacache

node = kamacache.Node()
group = node.group("g", lambda key: key, codec="text", refresh_after=1, ttl=2)

@node.cached(ttl="1h")
def square(number: int) -> int:
    return number * number

node.start()
if "used" in sys.argv:
    assert group.get("key") == "key" and square(3) == 9
CALLS = {
    "get": lambda: group.get("key"),
    "get of another": lambda: group.get("other"),
    "get_many": lambda: group.get_many(["key", "other"]),
    "get_or_load": lambda: group.get_or_load("key", str),
    "peek": lambda: group.peek("key"),
    "in": lambda: "key" in group,
    "set": lambda: group.set("key", "value"),
    "incr": lambda: group.incr("key"),
    "function": lambda: square(3),
    "start": lambda: node.start(),
    "close": lambda: node.close(),
    "get_or_load of nothing": lambda: group.get_or_load("key"),
}

class Last:
    def __del__(self, say=print, dumps=json.dumps, base=BaseException, kind=type, calls=CALLS):
        ends = {}
        for name, call in calls.items():
            try:
                ends[name] = repr(call())
            except base as error:
                ends[name] = kind(error).__name__
        say(dumps(ends), flush=True)

last = Last()
last.itself = last
"""


@pytest.mark.parametrize("before", ["unused", "used"])
def test_calls_of_a_finalizer_while_the_interpreter_ends(before: str) -> None:
    command = [sys.executable, "-c", PROGRAM, before]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    ends = json.loads(ended.stdout)
    assert ends.pop("close") == "None"
    assert ends.pop("get_or_load of nothing") == "TypeError"
    assert set(ends.values()) == {"NodeClosed"}, ends
