"""Fuzz every parser, or those that the command line names: `python -m tools.fuzz --inputs 1000000 replies records`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.fuzz import engine, python


def main() -> None:
    """Feed the inputs to one parser after the other; the first that fails ends the run."""
    arguments = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__)
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="for each parser")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("parsers", nargs="*")
    given = arguments.parse_args()
    native = [name for name in engine.parsers() if not given.parsers or name in given.parsers]
    if native:
        program = engine.build()
        for name in native:
            engine.fuzz(program, name, given.inputs, given.seed)
    with tempfile.TemporaryDirectory(prefix="kamacache-fuzz-") as directory:
        for name, target in python.targets(Path(directory)).items():
            if not given.parsers or name in given.parsers:
                took = python.fuzz(name, target, given.inputs, given.seed)
                print(f"{name}: {given.inputs:,} inputs in {took:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
