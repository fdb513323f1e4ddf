"""Run the command line `kamacache`. Its one dependency is click, which the extra `cli` installs."""

from __future__ import annotations

import sys

_USAGE = 2


def main() -> None:
    """Run the command line; the exit codes are in kamacache.cli.commands."""
    try:
        from kamacache.cli.commands import cli  # noqa: PLC0415 - click may not be installed
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("kamacache: the command line needs click: pip install 'kamacache[cli]'", file=sys.stderr)  # noqa: T201
        sys.exit(_USAGE)
    cli(prog_name="kamacache")
