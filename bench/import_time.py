"""Measure the milliseconds that importing kamacache adds to the bare interpreter: the least of interleaved runs.

Bytecode is cached for the runs, in a directory of their own, as it is for users, whatever PYTHONDONTWRITEBYTECODE says
here: without it the compiler would be measured.

python -m bench.import_time [--json] [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

BAR_MS = 30.0
IMPORTS = ("import kamacache", "from kamacache import Node")


def once(code: str, environ: dict[str, str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, env=environ)
    return (time.perf_counter() - begun) * 1e3


def measure(rounds: int) -> dict[str, float]:
    codes = ("pass", *IMPORTS)
    times: dict[str, list[float]] = {code: [] for code in codes}
    with tempfile.TemporaryDirectory() as cached:
        environ = os.environ | {"PYTHONPYCACHEPREFIX": cached, "PYTHONDONTWRITEBYTECODE": ""}
        for code in codes:
            once(code, environ)
        for _ in range(rounds):
            for code in codes:
                times[code].append(once(code, environ))
    least = {code: min(found) for code, found in times.items()}
    bare = least.pop("pass")
    return {"bare": round(bare, 1), **{code: round(ms - bare, 1) for code, ms in least.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    print(f"the bare interpreter: {result['bare']} ms")
    for code in IMPORTS:
        print(f"{code}: {result[code]} ms more ({BAR_MS:g} at most)")


if __name__ == "__main__":
    main()
