"""Find the times in which the nodes did not agree on the members. Pure functions, as the checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Window:
    """A time in which the nodes did not agree on the members."""

    begin: float
    end: float

    def meets(self, begin: float, end: float) -> bool:
        return begin <= self.end and self.begin <= end


def any_meets(windows: Iterable[Window], begin: float, end: float) -> bool:
    """Return whether the nodes disagreed at some time in between."""
    return any(window.meets(begin, end) for window in windows)


def disagreements(lives: Sequence[tuple[float, Sequence[tuple[float, object]]]]) -> list[Window]:
    """Return the times when living nodes had different views. A life is its end, and its views by their starts."""
    changes = [(at, who, view) for who, (died, views) in enumerate(lives) for at, view in [*views, (died, None)]]
    now: dict[int, object] = {}
    found: list[Window] = []
    begin: float | None = None
    for at, who, view in sorted(changes, key=lambda change: change[0]):
        now.pop(who, None)
        if view is not None:
            now[who] = view
        differ = len(set(now.values())) > 1
        if differ and begin is None:
            begin = at
        elif not differ and begin is not None:
            found.append(Window(begin, at))
            begin = None
    return found


def merged(windows: Iterable[Window]) -> list[Window]:
    """Return the same times without overlaps."""
    found: list[Window] = []
    for window in sorted(windows, key=lambda window: window.begin):
        if found and found[-1].meets(window.begin, window.end):
            last = found.pop()
            window = Window(last.begin, max(last.end, window.end))  # noqa: PLW2901 - the window grows
        found.append(window)
    return found
