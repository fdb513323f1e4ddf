"""A function that a caller gives to its one call: get_or_load and its like run it where the caller is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamacache.deadline import Deadline
from kamacache.load.call import Failed
from kamacache.load.flight import chain
from kamacache.load.loader import Loader, is_async
from kamacache.steps import Wait, running_loop

if TYPE_CHECKING:
    import asyncio

    from kamacache.load.loop import HomeLoop
    from kamacache.load.outcome import Outcome
    from kamacache.runtime import Runtime


class Given(Loader):
    """The loader of one call.

    A plain one runs on the caller's thread, an async one as a task of the caller's loop, with a copy of its context.
    """

    __slots__ = ("ended", "misused")

    def __init__(self, function: Callable[[Any], Any], *, many: bool, is_async: bool) -> None:
        self.single, self.many = (None, function) if many else (function, None)
        self.is_async = is_async
        self.lean = not (many or is_async)
        self.misused: TypeError | None = None
        self.ended: dict[str, Outcome] = {}  # what it brought: this caller gets that, whatever became of the flight

    def again(self) -> Given:
        """Return the same for another load."""
        function = self.single or self.many
        assert function is not None  # noqa: S101 - the constructor gives one
        return Given(function, many=self.many is not None, is_async=self.is_async)

    def driver(self, _home: HomeLoop) -> asyncio.AbstractEventLoop | None:
        return running_loop() if self.is_async else None


def for_thread(load: Callable[[Any], Any], twin: str, *, many: bool = False) -> Given:
    """Return the loader of a call on a thread. Raises TypeError for an async function; `twin` is the method for it."""
    _check(load, "load_many" if many else "load")
    wrong = f"{load!r} is async: use {twin}"
    if is_async(load):
        raise TypeError(wrong)

    def plain(argument: Any) -> Any:
        value = load(argument)
        if hasattr(value.__class__, "__await__"):
            if hasattr(value, "close"):
                value.close()
            given.misused = TypeError(wrong)
            raise given.misused
        return value

    given = Given(plain, many=many, is_async=False)
    return given


def for_task(load: Callable[[Any], Any], runtime: Runtime, *, many: bool = False) -> Given:
    """Return the loader of a call in a task: a plain function runs on a thread of the pool, its awaitable here."""
    _check(load, "load_many" if many else "load")
    here = is_async(load)

    async def function(argument: Any) -> Any:
        value = load(argument) if here else await _on_pool(load, argument, runtime)
        return await value if hasattr(value.__class__, "__await__") else value

    return Given(function, many=many, is_async=True)


async def _on_pool(load: Callable[[Any], Any], argument: Any, runtime: Runtime) -> Any:
    def job() -> Any:
        try:
            return load(argument)
        except Exception:
            raise
        except BaseException as error:  # noqa: BLE001 - on a thread of the pool it interrupts nobody
            return Failed(error)

    inside = chain()
    pool = runtime.pool(0 if inside is None else inside.depth - 1)
    return await Wait(pool.submit(job, own=True), Deadline.after(None)).arun()


def _check(load: object, name: str) -> None:
    if not callable(load):
        raise TypeError(f"{name} must be a function, not {type(load).__name__}")
