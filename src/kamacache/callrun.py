"""What happens around a run of a cached function: its result is checked, and what it raises is noted."""

from __future__ import annotations

from typing import Any


def plain(value: Any, function: object) -> Any:
    """Return the value. Raises TypeError for a coroutine: a plain function hides it from the decorator."""
    if hasattr(value.__class__, "__await__"):
        if hasattr(value, "close"):
            value.close()
        raise TypeError(
            f"{getattr(function, '__name__', function)}() returned a {type(value).__name__}: decorate an async def"
        )
    return value


class noting:  # noqa: N801 - read as a word of the `with`
    """Note the exception that leaves the block in a list, which its raiser empties: so no cycle of references stays."""

    __slots__ = ("_caught",)

    def __init__(self, caught: list[BaseException]) -> None:
        self._caught = caught

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._caught[:] = [error]
