"""Run the demonstration. Exit code 0: every promise held; 1: one did not; 2: wrong arguments or no etcd."""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.demo.etcd import Etcd, installed
from tools.demo.report import Report
from tools.demo.scenario import Scenario

from kamacache import KamaCacheError

_LEAST_ROWS, _MOST_ROWS = 100, 1_000_000
_LEAST_SECONDS, _MOST_SECONDS = 2.0, 3600.0
_SECONDS = {"local": 30.0, "etcd": 45.0}  # by registry; etcd is away for longer than its leases last
_FAILED, _USAGE = 1, 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return its exit code."""
    options = _parser().parse_args(arguments)
    if not _LEAST_ROWS <= options.rows <= _MOST_ROWS:
        _parser().error(f"--rows: {_LEAST_ROWS} to {_MOST_ROWS:,}, so that nothing is evicted")
    seconds = _SECONDS[options.registry] if options.seconds is None else options.seconds
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        _parser().error(f"--seconds: {_LEAST_SECONDS:g} to {_MOST_SECONDS:g}")
    binary = installed() if options.registry == "etcd" else None
    if options.registry == "etcd" and binary is None:
        return _fail("no etcd found: run `make demo REGISTRY=etcd`, or put etcd on the PATH", _USAGE)
    report = Report(sys.stderr if options.json else sys.stdout, color=not options.no_color)
    etcd_fails = "" if binary is None else ", while etcd fails"
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: no files and no processes are left behind
        signal.signal(number, signal.default_int_handler)
    report.title(f"KamaCache: three processes share one cache, with no cache server{etcd_fails}")
    try:
        with tempfile.TemporaryDirectory(prefix="kamacache-demo-") as directory:
            etcd = None if binary is None else Etcd(Path(directory), binary)
            result = Scenario(Path(directory), options.rows, seconds, report, etcd).run()
    except (KamaCacheError, OSError, sqlite3.Error) as error:
        report.end_progress()
        return _fail(str(error), _FAILED)
    except KeyboardInterrupt:
        report.end_progress()
        return _INTERRUPTED
    if options.json:
        print(json.dumps(result.as_dict(), indent=2))  # noqa: T201 - the output
    else:
        report.result(result)
    return 0 if result.held else 1


def _fail(words: str, code: int) -> int:
    print(f"demo: {words}", file=sys.stderr)  # noqa: T201 - the error text
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo",
        description="Three processes share one cache in front of a database; one of them is killed and comes back.",
    )
    parser.add_argument("--seconds", type=float, help="time under load (default: 30, with etcd 45)")
    parser.add_argument(
        "--registry", choices=sorted(_SECONDS), default="local", help="where the processes meet (default: %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the database (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, for machines")
    parser.add_argument("--no-color", action="store_true", help="no colours")
    return parser


if __name__ == "__main__":
    sys.exit(main())
