"""Look for races in what threads share: `python -m tools.races --switches 4`.

Loom tries every order of the steps in the models of races/; that needs cargo alone. Miri and ThreadSanitizer watch
threads that do everything at once. Each is left out if the toolchain does not bring it: Miri needs a nightly one.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

RACES = Path(__file__).parents[1] / "races"
BUILT = RACES.parent / "target/races"
ROUNDS, MIRI_ROUNDS = 20_000, 60
TSAN = ("-Zsanitizer=thread", "-Cunsafe-allow-abi-mismatch=sanitizer")


def run(*command: str, **environ: str) -> None:
    """Run a command in races/. Raises CalledProcessError if it fails."""
    subprocess.run(command, cwd=RACES, env=os.environ | environ, check=True)


def has(*command: str, **environ: str) -> bool:
    """Return whether a command works."""
    try:
        return subprocess.run(command, capture_output=True, env=os.environ | environ, check=False).returncode == 0
    except FileNotFoundError:
        return False


def main() -> None:
    """Run the three; the first that finds something ends the run."""
    arguments = argparse.ArgumentParser(prog="python -m tools.races", description=__doc__.partition("\n")[0])
    arguments.add_argument("--switches", default="2", help="how often an order interrupts a thread that could go on")
    switches = arguments.parse_args().switches
    cargo = ("cargo", "run", "--quiet", "--locked", "--target-dir", str(BUILT))
    run(*cargo, "--bin", "kamacache-races", KAMACACHE_SWITCHES=switches)
    run(*cargo, "--bin", "threads", "--", str(ROUNDS))
    if has("cargo", "+nightly", "miri", "--version"):
        threads = ("--quiet", "--target-dir", str(BUILT / "miri"), "--bin", "threads", "--", str(MIRI_ROUNDS))
        run("cargo", "+nightly", "miri", "run", *threads, MIRIFLAGS="-Zmiri-disable-isolation")
    else:
        print("no Miri: rustup component add --toolchain nightly miri rust-src", file=sys.stderr)
    sanitize()


def sanitize() -> None:
    """Run the threads under ThreadSanitizer, with the flags that a stable compiler hides.

    Its standard library was not compiled for that: so the threads take locks that never wait in there.
    """
    said = subprocess.check_output(["rustc", "-vV"], text=True)
    host = re.search(r"^host: (\S+)", said, re.MULTILINE)
    assert host is not None
    root = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())
    hidden = {"RUSTC_BOOTSTRAP": "1"}
    brought = list(root.glob(f"lib/rustlib/{host[1]}/lib/librustc*tsan*"))
    if not brought or not has("rustc", *TSAN, "--print", "cfg", **hidden):
        print("no ThreadSanitizer: this toolchain does not bring it", file=sys.stderr)
        return
    build = ("--features", "spun", "--target", host[1], "--target-dir", str(BUILT / "tsan"), "--bin", "threads")
    run("cargo", "run", "--quiet", "--locked", *build, "--", str(ROUNDS), RUSTFLAGS=" ".join(TSAN), **hidden)


if __name__ == "__main__":
    main()
