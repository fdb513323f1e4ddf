"""The step that runs a group's loader for some keys, on this thread, on the pool or on the home loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from kamacache._engine import Histogram
from kamacache.load.loader import CHAIN, Loader, checked_mapping, enter
from kamacache.load.loop import HomeLoop
from kamacache.load.pool import Pool, on_pool
from kamacache.steps import Wait


class Raised(NamedTuple):
    """What the loader raised for a key."""

    error: BaseException


class RunLoader:
    """Run the loader for `keys` and call `ended(key, value or Raised)` for each as soon as it is there.

    A plain loader runs on the thread that waits, for tasks on the pool; an async one on the home loop. Raises
    TimeoutError when, in a task, `deadline` passes first; on a thread nothing can stop the loader. Each call of the
    loader counts in `times`.
    """

    def __init__(
        self,
        loader: Loader,
        keys: list[str],
        ended: Callable[[str, Any], None],
        *,
        group: int,
        depth: int,
        deadline: float | None,
        home: HomeLoop,
        pool: Callable[[int], Pool],
        times: Histogram,
    ) -> None:
        self._loader = loader
        self._keys = keys
        self._ended = ended
        self._group = group
        self._depth = depth
        self._deadline = deadline
        self._home = home
        self._pool = pool
        self._times = times

    def run(self) -> None:
        if self._loader.in_batch(self._keys):
            self._run_batch()
        else:
            for key in self._keys:
                self._run_one(key)

    def _run_next(self, keys: Iterator[str]) -> None:
        for key in keys:
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise TimeoutError  # nobody waits any more
            self._run_one(key)

    def _run_one(self, key: str) -> None:
        single = self._loader.single
        assert single is not None  # noqa: S101 - in_batch decides so
        began = time.monotonic()
        try:
            token = CHAIN.set(enter(self._group, key, self._depth))
            try:
                value = single(key)
            finally:
                CHAIN.reset(token)
                self._times.observe(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
            self._ended(key, _raised_here(error))
        else:
            self._ended(key, value)

    def _run_batch(self) -> None:
        many = self._loader.many
        assert many is not None  # noqa: S101 - in_batch decides so
        began = time.monotonic()
        try:
            token = CHAIN.set(self._enter_all())
            try:
                answer = checked_mapping(many(list(self._keys)))
                values = [answer.get(key) for key in self._keys]
            finally:
                CHAIN.reset(token)
                self._times.observe(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
            values = [_raised_here(error)] * len(self._keys)
        for key, value in zip(self._keys, values, strict=True):
            self._ended(key, value)

    def _enter_all(self) -> Any:
        chain = enter(self._group, self._keys[0], self._depth)
        return type(chain)(chain.keys | {(self._group, key) for key in self._keys}, chain.depth)

    async def arun(self) -> None:
        if self._loader.is_async:
            if self._home.is_here():
                await self._arun_all()
            else:
                await Wait(self._home.spawn(self._arun_all()), self._deadline).arun()
            return
        pool = self._pool(max(self._depth, CHAIN.get().depth))
        if self._loader.in_batch(self._keys):
            jobs = [pool.submit(self._run_batch)]
        else:
            keys = iter(self._keys)  # shared: as many threads as there are take the next key, one job each in the queue
            jobs = [pool.submit(partial(self._run_next, keys)) for _ in range(min(len(self._keys), pool.threads))]
        for job in jobs:
            await Wait(job, self._deadline).arun()

    async def _arun_all(self) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        async with asyncio.timeout(left), asyncio.TaskGroup() as group:
            if self._loader.in_batch(self._keys):
                group.create_task(self._arun_batch())
            else:
                for key in self._keys:
                    group.create_task(self._arun_one(key))

    async def _arun_one(self, key: str) -> None:
        single = self._loader.single
        assert single is not None  # noqa: S101 - in_batch decides so
        began = time.monotonic()
        try:
            CHAIN.set(enter(self._group, key, self._depth))  # the task has a context of its own
            try:
                value = await single(key)
            finally:
                self._times.observe(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
            self._ended(key, _raised(error))
        else:
            self._ended(key, value)

    async def _arun_batch(self) -> None:
        many = self._loader.many
        assert many is not None  # noqa: S101 - in_batch decides so
        began = time.monotonic()
        try:
            CHAIN.set(self._enter_all())
            try:
                answer = checked_mapping(await many(list(self._keys)))
            finally:
                self._times.observe(time.monotonic() - began)
            values = [answer.get(key) for key in self._keys]
        except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
            values = [_raised(error)] * len(self._keys)
        for key, value in zip(self._keys, values, strict=True):
            self._ended(key, value)


def _raised_here(error: BaseException) -> Raised:
    """What a plain loader raised. An interrupt is for the caller whose thread this is; a pool's thread is nobody's.

    There it would else end the event loop of whoever waits for the load.
    """
    if not isinstance(error, Exception) and not on_pool():
        raise error
    return Raised(error)


def _raised(error: BaseException) -> Raised:
    """What an async loader raised; interrupts pass through, and so does a cancellation that is not its own doing."""
    import asyncio  # noqa: PLC0415 - it is running

    task = asyncio.current_task()
    own = isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()
    if not own and not isinstance(error, Exception):
        raise error
    return Raised(error)
