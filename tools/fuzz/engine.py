"""Feed inputs to the parsers of the engine: build the crate in fuzz/ and run it once for each parser.

libFuzzer chooses the inputs by the code that they reach. It is in C++; without a compiler for that, the same parsers
get the seeds, changed at random.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEEDS = ROOT / "fuzz/seeds"
BUILT = ROOT / "target/fuzz"  # also what libFuzzer has learned, for the next run
# The flags of cargo-fuzz without a sanitizer: the engine has no unsafe code, and a stable compiler takes these.
COVERAGE = ["-Cpasses=sancov-module"] + [
    f"-Cllvm-args=-sanitizer-coverage-{flag}"
    for flag in ("level=4", "inline-8bit-counters", "pc-table", "trace-compares")
]
SECONDS = 10  # for one input
MEMORY = 1024  # MiB of the whole process; src/targets has the limits of one input


def parsers() -> list[str]:
    """Return the names of the engine's parsers."""
    return re.findall(r'Target \{ name: "(\w+)"', (ROOT / "fuzz/src/targets/mod.rs").read_text())


def build() -> Path:
    """Build the crate, guided by coverage if there is a C++ compiler, and return the program."""
    guided = shutil.which(os.environ.get("CXX", "c++").split()[0]) is not None
    if not guided:
        print("there is no C++ compiler for libFuzzer: the inputs are random, not guided by coverage", file=sys.stderr)
    host = re.search(r"^host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True), re.MULTILINE)
    assert host is not None
    kind = BUILT / ("guided" if guided else "plain")
    # With --target the flags are for the program alone, not for what builds it.
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target", host[1], "--target-dir", str(kind)]
    command += ["--features", "guided"] if guided else []
    flags = " ".join(COVERAGE) if guided else ""
    subprocess.run(command, cwd=ROOT / "fuzz", env=os.environ | {"RUSTFLAGS": flags}, check=True)
    return kind / host[1] / "release/kamacache-fuzz"


def fuzz(program: Path, name: str, count: int, seed: int) -> None:
    """Feed so many inputs to a parser. Raises SystemExit, with the place where the input is kept, if that fails."""
    learned, log = BUILT / "corpus" / name, BUILT / f"{name}.log"
    learned.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        program,
        f"-runs={count}",
        f"-seed={seed}",
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEMORY}",
    ]
    command += [f"-dict={ROOT}/fuzz/words", f"-artifact_prefix={SEEDS}/{name}/found-", learned, SEEDS / name]
    begun = time.monotonic()
    with log.open("wb") as file:
        ended = subprocess.run(command, env=os.environ | {"FUZZ": name}, stdout=file, stderr=file, check=False)
    said = log.read_text(errors="replace").splitlines()
    if ended.returncode != 0:
        print(*said[-40:], sep="\n", file=sys.stderr)
        raise SystemExit(f"{name}: the parser failed; the input is in {SEEDS / name}, all of the log in {log}")
    covered = [found[0] for line in said if (found := re.search(r"cov: \d+", line))]
    reached = f", {covered[-1]} edges" if covered else ""
    print(f"{name}: {count:,} inputs in {time.monotonic() - begun:.1f} s{reached}", file=sys.stderr)
