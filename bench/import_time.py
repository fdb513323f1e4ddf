"""What `import kamacache` costs over the bare interpreter: the least of several runs, in milliseconds."""

from __future__ import annotations

import os
import subprocess
import sys
import time

RUNS = 15


def least(code: str) -> float:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, env=environ)
        times.append(time.perf_counter() - begun)
    return min(times) * 1e3


if __name__ == "__main__":
    bare, ours = least("pass"), least("import kamacache")
    print(f"interpreter {bare:.1f} ms, with kamacache {ours:.1f} ms: {ours - bare:.1f} ms (30 at most)")
