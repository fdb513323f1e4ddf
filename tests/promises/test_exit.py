"""A process ends well although its threads still read."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.promises.forks import ROOT
from tests.support.environment import own_environment
from tests.support.sample import EVERY_CASE

RUNS = 20 if EVERY_CASE else 6

# The threads read until the interpreter is gone: keys in memory, or keys that have to be loaded.
READERS = """
import itertools, sys, threading
from kamacache import Node

how = sys.argv[1]
node = Node()

def load(key):
    return {"key": key, "numbers": list(range(20))}

async def aload(key):
    return load(key)

group = node.group("g", aload if how == "async misses" else load, codec="json", max_bytes="1 MiB")
group.get("0")
begun = threading.Semaphore(0)

def slow(key):
    return [load(key) for _ in range(1000)][0]

def read():
    for number in itertools.count():
        if how == "functions":
            group.get_or_load(str(number), slow)
        else:
            group.get(str(number % 10 if how == "hits" else number))
        if number == 20:
            begun.release()

for _ in range(6):
    threading.Thread(target=read, daemon=True).start()
for _ in range(6):
    assert begun.acquire(timeout=30)
"""


@pytest.mark.parametrize("how", ["hits", "misses", "async misses", "functions"])
def test_daemon_threads_that_read_while_the_interpreter_ends(how: str) -> None:
    codes: Counter[int | str] = Counter()
    told = ""
    for _ in range(RUNS):
        try:
            ended = subprocess.run(
                [sys.executable, "-c", READERS, how],
                cwd=ROOT,
                env=own_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            codes["hangs"] += 1
            break  # once is enough
        codes[ended.returncode] += 1
        told = ended.stderr[-2000:] if ended.returncode else told
    assert codes == {0: RUNS}, f"{codes}\n{told}"
