"""Print tables for people and JSON for machines."""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Container, Sequence
from typing import Any

import click

_UNITS = ("B", "KiB", "MiB", "GiB")
_STEP = 1024


def show_json(value: Any) -> None:
    """Print one JSON value in UTF-8, whatever the locale."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False).encode())


def table(head: Sequence[str], rows: Sequence[Sequence[str | float]], *, right: bool = False) -> None:
    """Print columns under their names, aligning numbers to the right; with `right`, all but the first column."""
    names, *lines = columns(head, rows, right=right)
    click.echo(click.style(names, bold=True))
    for line in lines:
        click.echo(line)


def columns(
    head: Sequence[str], rows: Sequence[Sequence[str | float]], *, right: bool | Container[int] = False
) -> list[str]:
    """Return the lines of such a table, the one with the names first. `right` may be the positions of columns, too."""
    if isinstance(right, bool):
        right = range(1, len(head)) if right else ()
    texts = [[_text(cell) for cell in row] for row in rows]
    places = range(len(head))
    widths = [max(width(line[place]) for line in [head, *texts]) for place in places]
    numbers = [all(not isinstance(row[place], str) for row in rows) or place in right for place in places]

    def line(cells: Sequence[str]) -> str:
        padded = []
        for cell, most, number in zip(cells, widths, numbers, strict=True):
            pad = " " * (most - width(cell))
            padded.append(pad + cell if number else cell + pad)
        return "  ".join(padded).rstrip()

    return [line(head), *(line(row) for row in texts)]


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me"}:  # it goes onto the character before it
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def clip(text: str, most: int) -> str:
    """Return a text in so many columns at most; the end of a longer one is "…"."""
    if width(text) <= most:
        return text
    left = most - 1
    for place, character in enumerate(text):
        left -= _width(character)
        if left < 0:
            return f"{text[:place]}…"
    return text


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
