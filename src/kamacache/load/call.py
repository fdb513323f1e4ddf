"""The call of a group's loader for the keys of a lead: on this thread, on a thread of the pool, or on the home loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kamacache._engine import MISSING, monotonic
from kamacache.deadline import Deadline
from kamacache.errors import Overloaded
from kamacache.load.flight import CHAIN, own_loop
from kamacache.load.pool import on_pool
from kamacache.steps import PAUSE_EVERY, Wait, parts

if TYPE_CHECKING:
    from kamacache._engine import Flight, Histogram, Lead
    from kamacache.load.loader import Loader
    from kamacache.load.loop import HomeLoop
    from kamacache.load.pool import Pool
    from kamacache.options import GroupOptions


_TURN = 8  # keys that a thread of the pool loads in one go
_LONG = 1e8  # seconds: no limit was asked for


class Failed:
    """The exception that a loader raised, in the place of a value."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


LATE = Failed(TimeoutError("the time of the load was over"))


def call(loader: Loader, inside: Flight | Lead, argument: str | list[str], home: HomeLoop, times: Histogram) -> Any:
    """Call a plain loader on this thread, inside its flight. Return its value; raises what it raises."""
    token = CHAIN.set(inside)
    began = monotonic()
    try:
        value = _function(loader, argument)(argument)
        return awaited(loader, value, inside, home) if hasattr(value.__class__, "__await__") else value
    finally:
        times.observe(monotonic() - began)
        CHAIN.reset(token)


def awaited(loader: Loader, value: Any, inside: Flight | Lead, home: HomeLoop) -> Any:
    """Await the result of a loader that looked plain. From now on that loader runs where async loaders do."""
    loader.is_async = True
    loader.lean = False

    async def outcome() -> Any:
        return await value

    begun = False
    try:
        if home.is_here():
            raise own_loop(getattr(inside, "key", ""))
        promise = home.spawn(outcome)
        begun = True
        return Wait(promise, Deadline.after(inside.left())).run()
    except TimeoutError:
        return LATE if inside.left() <= 0 else Failed(TimeoutError())
    finally:
        if not begun and hasattr(value, "close"):
            value.close()


def _function(loader: Loader, argument: str | list[str]) -> Callable[[Any], Any]:
    function = loader.many if isinstance(argument, list) else loader.single
    assert function is not None  # noqa: S101 - Loader.in_batch decides so
    return function


class Call:
    """A step: run the loader for keys of a lead and pass each value, or Failed, to `ended` as soon as it is there.

    With a `pool`, a plain loader runs on more threads of the pool as well.
    """

    def __init__(
        self,
        loader: Loader,
        lead: Lead,
        keys: list[str],
        ended: Callable[[str, Any], None],
        *,
        home: HomeLoop,
        pool: Pool | None,
        times: Histogram,
        options: GroupOptions,
    ) -> None:
        self._loader = loader
        self._lead = lead
        self._keys = keys
        self._ended = ended
        self._home = home
        self._pool = pool
        self._times = times
        self._options = options

    def _calls(self) -> tuple[list[str | list[str]], int]:
        """Return the argument of each call, and how many calls are to run at a time; 0: as many as can."""
        most = self._options.concurrency
        if self._loader.in_batch(self._keys):
            return list(parts(self._keys, self._options.max_batch)), most or 1
        return list(self._keys), most or 0

    def _inside(self, argument: str | list[str]) -> Flight | Lead:
        return self._lead.flight(argument) if isinstance(argument, str) else self._lead

    # -- a plain loader ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        calls, most = self._calls()
        shared = iter(calls)  # each thread takes the next one
        helpers = []
        if self._pool is not None:
            with suppress(Overloaded):
                for _ in range(min(len(calls), most or self._pool.threads) - 1):
                    helpers.append(self._pool.submit(lambda: self._run_each(shared)))  # noqa: PERF401 - until one is refused
        self._run_each(shared)
        for helper in helpers:
            if not helper.begin():  # it has begun already; otherwise it never will
                try:
                    Wait(helper, Deadline.after(self._lead.left())).run()
                except TimeoutError:
                    for key in self._lead.keys:
                        self._ended(key, LATE)

    def _run_each(self, calls: Iterator[str | list[str]]) -> None:
        for number, argument in enumerate(calls, 1):
            inside = self._inside(argument)
            if inside.ended:
                continue
            if not self._lead.wanted:
                break  # the callers have gone; a key that is asked for again is loaded again
            if self._pool is not None and number % _TURN == 0:
                time.sleep(0)  # the event loop that waits wants the interpreter, too
            try:
                value = call(self._loader, inside, argument[:], self._home, self._times)  # the list is the loader's
            except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
                value = failed_here(error)
            for key, its in _by_key(argument, value):
                self._ended(key, its)

    # -- an async loader ---------------------------------------------------------------------------------------------

    async def arun(self) -> None:
        calls, most = self._calls()
        if len(calls) == 1:
            await self._arun_one(calls[0])
        else:
            await self._arun_each(calls, most or len(calls))

    async def _arun_each(self, calls: list[str | list[str]], most: int) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        free = asyncio.Semaphore(most)

        async def one(argument: str | list[str]) -> None:
            async with free:
                if not self._inside(argument).ended:
                    await self._arun_one(argument)

        async with asyncio.TaskGroup() as group:
            for number, argument in enumerate(calls, 1):
                group.create_task(one(argument))
                if number % PAUSE_EVERY == 0:
                    await asyncio.sleep(0)

    async def _arun_one(self, argument: str | list[str]) -> None:
        answer = await self._await(self._inside(argument), argument[:])
        if isinstance(argument, str):
            self._ended(argument, answer)
            return
        import asyncio  # noqa: PLC0415 - it is running

        for number, (key, value) in enumerate(_by_key(argument, answer), 1):
            self._ended(key, value)
            if number % PAUSE_EVERY == 0:
                await asyncio.sleep(0)

    def _late(self, argument: str | list[str]) -> Callable[[], None]:
        """Return a function that ends the flights in time, even if their loader ignores its cancellation."""

        def late() -> None:
            for key in argument if isinstance(argument, list) else [argument]:
                self._ended(key, LATE)

        return late

    async def _await(self, inside: Flight | Lead, argument: Any) -> Any:
        """Await the loader within the flight's time."""
        function = _function(self._loader, argument)
        token = CHAIN.set(inside)
        began = monotonic()
        timer = _Timer(inside.left(), self._late(argument), own_loop=self._home.is_own() and self._home.is_here())
        try:
            value = function(argument)
            return await value if hasattr(value.__class__, "__await__") else value
        except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
            return timer.failed(error)
        finally:
            timer.cancel()
            self._times.observe(monotonic() - began)
            CHAIN.reset(token)


class _Timer:
    """Cancel this task when its time is over. asyncio.timeout does the same at several times the cost."""

    __slots__ = ("_handle", "_late", "_over", "_own_loop", "_task")

    def __init__(self, seconds: float, late: Callable[[], None], *, own_loop: bool) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        self._over = False
        self._own_loop = own_loop
        self._late = late
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._handle = None if seconds > _LONG else loop.call_later(seconds, self._end)

    def _end(self) -> None:
        self._over = True
        self._late()
        if self._task is not None:
            self._task.cancel()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def failed(self, error: BaseException) -> Failed:
        """Return the failure of an async loader, or raise an error that is not meant for the load.

        A cancellation of the task by other code is raised. So is an interrupt, because it is meant for the user's loop.
        On a loop of our own no user can want to interrupt anything, so both fail the load.
        """
        import asyncio  # noqa: PLC0415 - it is running

        if self._over and isinstance(error, asyncio.CancelledError) and self._task is not None:
            if self._task.uncancel() == 0:
                return LATE
            raise error
        if isinstance(error, asyncio.CancelledError):
            own = self._own_loop or (self._task is not None and not self._task.cancelling())
        else:
            own = self._own_loop or not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
        if not own:
            raise error
        return Failed(error)


def _by_key(argument: str | list[str], answer: Any) -> Iterator[tuple[str, Any]]:
    """Yield each key of a call, and its value, Failed, or MISSING for a key that load_many has left out."""
    if isinstance(argument, str):
        yield argument, answer
        return
    if not isinstance(answer, Failed):
        try:
            answer = checked(answer)
        except TypeError as error:
            answer = Failed(error)
    for key in argument:
        yield key, answer if isinstance(answer, Failed) else answer.get(key, MISSING)


def checked(answer: object) -> Mapping[str, Any]:
    """Return the answer of load_many. Raises TypeError unless it is a mapping."""
    if not isinstance(answer, Mapping):
        raise TypeError(f"load_many must return a mapping of key to value, not {type(answer).__name__}")
    return answer


def failed_here(error: BaseException) -> Failed:
    """Return the failure of a plain loader. On a caller's own thread an interrupt is for that caller, and is raised.

    On a thread of the pool no user can want to interrupt anything, so an interrupt fails the load.
    """
    if not isinstance(error, Exception) and not on_pool():
        raise error
    return Failed(error)
