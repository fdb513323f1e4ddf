"""Print the demonstration: events as they happen, a line of progress, and the table at the end."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from typing import TextIO

from tools.demo.latency import quantile
from tools.demo.result import Numbers, Result

_REWRITE = 0.2  # seconds between two versions of the line on a terminal
_PLAIN = 5.0  # seconds between two lines elsewhere
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"
_LABEL = 12
_CHECK = 42
_BAR = 20
_WIDTH = 100
_MILLISECOND = 1e-3


class Report:
    """The output to a terminal or, in plain text, to anything else."""

    def __init__(self, out: TextIO = sys.stdout, *, color: bool = True) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._color = color and self._terminal
        encoding = (out.encoding or "").lower().replace("-", "")
        self._marks = ("✓", "✗") if encoding == "utf8" else ("ok", "FAILED")
        self._bars = ("█", "░") if encoding == "utf8" else ("#", ".")
        self._micro = "µs" if encoding == "utf8" else "us"
        self._shown = 0.0
        self._open = False  # whether the line of progress is on the screen

    def title(self, words: str) -> None:
        self._line(self._paint(words, _BOLD))

    def say(self, label: str, words: str) -> None:
        """Print one fact."""
        self._line(self._paint(f"{label:<{_LABEL}}", _DIM) + words)

    def event(self, at: float, words: str) -> None:
        """Print an event under load."""
        self._line(self._paint(_clock(at) + words, _BOLD))

    def progress(self, at: float, seconds: float, total: Numbers, alive: str) -> None:
        """Print the progress: one line, rewritten on a terminal."""
        now = time.monotonic()
        if not self._shown and not self._terminal:
            self._shown = now  # nothing worth a line has happened yet
        if now - self._shown < (_REWRITE if self._terminal else _PLAIN):
            return
        self._shown = now
        done = min(1.0, at / seconds)
        words = (
            f"nodes {alive}  {total.reads:>10,} reads  {total.hit_ratio:6.1%} hits"
            f"  {total.stale} stale  {total.errors} errors"
        )
        if not self._terminal:
            self._line(_clock(at) + words)
            return
        full = round(done * _BAR)
        bar = self._bars[0] * full + self._bars[1] * (_BAR - full)
        width = shutil.get_terminal_size().columns - 1
        self._out.write("\r\x1b[K" + f"{_clock(at)}{words}  {bar}"[:width])
        self._out.flush()
        self._open = True

    def end_progress(self) -> None:
        if self._open:
            self._out.write("\r\x1b[K")
            self._open = False

    def result(self, result: Result) -> None:
        """Print the table and the verdicts."""
        columns = {**result.nodes, "all": result.total}
        self._line("")
        self._line(self._paint(f"{'':<{_CHECK}}" + "".join(f"{name:>14}" for name in columns), _BOLD))
        for label, cells in _rows(list(columns.values()), self._micro):
            self._line(f"{label:<{_CHECK}}" + "".join(f"{cell:>14}" for cell in cells))
        self._line("")
        for check in result.checks:
            mark, color = (self._marks[0], _GREEN) if check.held else (self._marks[1], _RED)
            first, *more = textwrap.wrap(check.detail, _WIDTH - _CHECK)
            self._line(self._paint(f"{mark} {check.name}".ljust(_CHECK), color) + first)
            for line in more:
                self._line(" " * _CHECK + line)
        self._line("")
        self._line(self._paint(_footnote(result), _DIM))
        broken = [check.name for check in result.checks if not check.held]
        words = f"NOT HELD: {', '.join(broken)}" if broken else "Everything promised held."
        self._line(self._paint(words, _RED if broken else _GREEN))

    def _line(self, text: str) -> None:
        self.end_progress()
        self._out.write(text + "\n")
        self._out.flush()

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._color else text


def _rows(columns: list[Numbers], micro: str) -> list[tuple[str, list[str]]]:
    return [
        ("reads", [f"{numbers.reads:,}" for numbers in columns]),
        ("  found in this process's memory", [_share(numbers, "hits", "near_hits") for numbers in columns]),
        ("  found in the owner's memory", [_share(numbers, "peer_hits") for numbers in columns]),
        ("hit ratio", [f"{numbers.hit_ratio:.1%}" for numbers in columns]),
        ("database queries without the cache", [f"{numbers.reads:,}" for numbers in columns]),
        ("database queries with it", [f"{numbers.loads:,}" for numbers in columns]),
        ("confirmed writes", [f"{numbers.confirmed:,}" for numbers in columns]),
        ("stale reads after them", [f"{numbers.stale:,}" for numbers in columns]),
        ("errors", [f"{numbers.errors:,}" for numbers in columns]),
        ("read latency p50", [_time(quantile(numbers.latency, 0.5), micro) for numbers in columns]),
        ("read latency p99", [_time(quantile(numbers.latency, 0.99), micro) for numbers in columns]),
        ("slowest read", [_time(numbers.slowest, micro) for numbers in columns]),
    ]


def _share(numbers: Numbers, *names: str) -> str:
    gets = numbers.hits.get("gets", 0)
    return f"{sum(numbers.hits.get(name, 0) for name in names) / gets:.1%}" if gets else "-"


def _time(seconds: float, micro: str) -> str:
    if seconds < _MILLISECOND:
        return f"{seconds * 1e6:,.1f} {micro}"
    return f"{seconds * 1e3:,.1f} ms"


def _clock(at: float) -> str:
    return f"{at:5.1f} s".ljust(_LABEL)


def _footnote(result: Result) -> str:
    emptied = ", or when etcd came back empty," if result.registry == "etcd" else ""
    return textwrap.fill(
        "Loads are counted from the records of the loaders. A key may be loaded once, once more after each"
        f" delete of it, and once more if it was one of the {result.lost:,} that the killed node owned. A set brings"
        " its value along, and a restarted node takes over what the others still hold: no load for either. Two loads"
        " of a key at once are right only if a write came in between: a caller that asks after the write must not"
        " receive what was read before it. Once is promised while the nodes agree on the members; second loads right"
        f" after the kill or the restart{emptied} are counted apart, and so are those of moments when a node was"
        " too busy to answer and considered dead. The table lacks reads and writes of the killed node's last 0.2 s.",
        _WIDTH,
    )
