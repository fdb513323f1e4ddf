"""Two processes of one application, which begin once they agree on the owner of a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cluster.cluster import wait_until

ROOT = Path(__file__).parents[2]
AGREE = '''
import sys
from kamacache.integrations.place import _nodes

def agree(group, key):
    """Say who owns the key, as often as the test asks."""
    (node,) = _nodes.values()
    while sys.stdin.readline() == "owner?\\n":
        print(len(node.members()), node.owner(group, key).address, flush=True)
'''


def run_two(code: str) -> list[str]:
    """Run code twice. It calls `agree`, prints one line, and waits for the end of its input. Return the two lines."""
    both = [
        subprocess.Popen([sys.executable, "-c", AGREE + code], stdin=-1, stdout=-1, text=True, cwd=ROOT, bufsize=1)
        for _ in range(2)
    ]

    def say(text: str) -> list[str]:
        for process in both:
            assert process.stdin
            process.stdin.write(text)
        return [process.stdout.readline() for process in both if process.stdout]

    def agreed() -> bool:
        answers = set(say("owner?\n"))
        return len(answers) == 1 and answers.pop().startswith("2 ")

    try:
        wait_until(agreed)
        return say("go\n")
    finally:
        for process in both:
            process.communicate(timeout=30)
