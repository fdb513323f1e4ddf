"""Print tables for people and JSON for machines."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import click

_UNITS = ("B", "KiB", "MiB", "GiB")
_STEP = 1024


def show_json(value: Any) -> None:
    """Print one JSON value in UTF-8, whatever the locale."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False).encode())


def table(head: Sequence[str], rows: Sequence[Sequence[str | float]], *, right: bool = False) -> None:
    """Print columns under their names, aligning numbers to the right; with `right`, all but the first column."""
    texts = [[_text(cell) for cell in row] for row in rows]
    places = range(len(head))
    widths = [max(len(line[place]) for line in [head, *texts]) for place in places]
    numbers = [all(not isinstance(row[place], str) for row in rows) or (right and place > 0) for place in places]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, numbers, strict=True)
        return "  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in placed).rstrip()

    click.echo(click.style(line(head), bold=True))
    for row in texts:
        click.echo(line(row))


def size(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.3g} {unit}" if count % 1 else f"{count:.0f} {unit}"
        count /= _STEP
    return f"{count:.3g} {_UNITS[-1]}"


def value_as_json(value: bytes | None) -> Any:
    """Return a value as text, or as its base64 under that name if it is not UTF-8."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _text(cell: str | float) -> str:
    return cell if isinstance(cell, str) else f"{cell:,}"
