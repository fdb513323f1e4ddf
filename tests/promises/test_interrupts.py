"""Interrupts at random instants of misses and writes leave nothing behind that affects a later caller.

There are KAMACACHE_INTERRUPTS of them in all; unless it says otherwise 5,000, and 20,000 in `make soak`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kamacache.load import local, remote
from kamacache.steps import adrive
from tests.promises.storm import HANG, KEYS, Bystander, Interrupt, Storm, Worker
from tests.promises.support import came_from, isolated, right, seeded
from tests.support.sample import EVERY_CASE

KINDS = ("plain", "async", "many", "remote")
CASES = 4 * len(KINDS)
NUMBER = -(-int(os.environ.get("KAMACACHE_INTERRUPTS", "20000" if EVERY_CASE else "5000")) // CASES)
LIMIT = 45.0 + NUMBER / 50
ASYNCIO = str(Path(asyncio.__file__).parent)
HERE = (str(Path(__file__).parent), "kamacache")

numbers = pytest.mark.parametrize("number", [NUMBER])
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@numbers
@isolated(LIMIT)
def test_threads_in_which_another_thread_sets_an_exception(kind: str, number: int) -> None:
    rng = seeded()
    sys.setswitchinterval(1e-6)  # threads change at any instruction, not only when they wait
    storm = Storm(kind, rng)
    workers = [Worker(storm) for _ in range(4)]
    for _ in range(-(-number // len(workers))):
        for worker in workers:
            worker.do(worker.until_interrupted)
        for worker in workers:
            assert worker.begun.acquire(timeout=HANG)
        for worker in rng.sample(workers, len(workers)):
            time.sleep(rng.random() * 2e-4)  # at a random instant
            worker.interrupt()
        for worker in workers:
            worker.wait()
        for worker in workers:
            worker.do(storm.check)
        for worker in workers:
            worker.wait()
    storm.end()


@kinds
@numbers
@isolated(LIMIT)
def test_the_main_thread_with_a_signal_handler_that_raises(kind: str, number: int) -> None:
    rng = seeded()
    storm = Storm(kind, rng)
    bystanders = [Bystander(storm) for _ in range(2)]
    fired = False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal fired
        fired = True
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    for _ in range(number):
        fired = False
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 4e-4))
            while not fired:
                storm.operate()
        except BaseException as error:
            if not came_from(error, Interrupt):
                raise
        storm.check()
    for bystander in bystanders:
        bystander.end()
    storm.end()


@kinds
@numbers
@isolated(LIMIT)
def test_tasks_that_are_cancelled(kind: str, number: int) -> None:
    rng = seeded()
    storm = Storm(kind, rng)

    async def busy() -> None:
        while True:
            await storm.aoperate()
            await asyncio.sleep(0)

    async def main() -> None:
        for _ in range(-(-number // 3)):
            tasks = [asyncio.create_task(busy()) for _ in range(3)]
            for task in rng.sample(tasks, len(tasks)):
                for _ in range(rng.randrange(12)):
                    await asyncio.sleep(0)
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.random() * 3e-4)
                task.cancel()
            _, running = await asyncio.wait(tasks, timeout=HANG)
            assert not running, f"a cancellation was swallowed, or a task hangs: {running}"
            for task in tasks:
                assert task.cancelled() or task.result()
            await storm.acheck()

    asyncio.run(main())
    storm.end()


@kinds
@numbers
@isolated(LIMIT)
def test_tasks_with_a_signal_handler_that_raises(kind: str, number: int) -> None:
    rng = seeded()
    storm = Storm(kind, rng)
    fired = ended = False

    async def busy() -> None:
        while not ended:
            try:
                await storm.aoperate()
            except BaseException as error:
                if not came_from(error, Interrupt):
                    raise
                return
            await asyncio.sleep(0)

    async def main() -> None:
        nonlocal fired, ended
        driver: Any = asyncio.current_task()

        def interrupt(signum: int, frame: FrameType | None) -> None:
            nonlocal fired
            task = asyncio.current_task()
            itself = frame is not None and frame.f_code is interrupt.__code__
            if itself or task is None or task is driver or in_asyncio(frame):
                signal.setitimer(signal.ITIMER_REAL, 1e-4)
            else:
                fired = True
                raise Interrupt

        signal.signal(signal.SIGALRM, interrupt)
        for _ in range(number):
            fired = ended = False
            tasks = [asyncio.create_task(busy()) for _ in range(3)]
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 5e-4))
            deadline = time.monotonic() + HANG
            while not fired:
                assert time.monotonic() < deadline, f"no task runs any more: {tasks}"
                await asyncio.sleep(0)
            ended = True
            _, waiting = await asyncio.wait(tasks, timeout=HANG)
            assert not waiting, f"a call was never answered: {[awaited(task) for task in waiting]}"
            for task in tasks:
                assert not task.cancelled(), "a task was cancelled that no call cancelled"
                if not isinstance(task.exception(), Interrupt):  # between two calls
                    task.result()
            await storm.acheck()

    asyncio.run(main())
    storm.end()


@pytest.mark.parametrize("kind", ["async", "many", "remote"])
@isolated(LIMIT)
def test_before_the_first_instruction_of_a_load(kind: str) -> None:
    """Begin a load again by the waiting callers if its task, or job of a pool, is interrupted before it begins."""
    storm = Storm(kind, seeded())
    interrupts = 0

    def interrupted(real: Any) -> Any:
        def call(path: Any) -> Any:
            nonlocal interrupts
            interrupts += 1
            return raising() if real is adrive else fail()

        return lambda path: real(path) if interrupts else call(path)

    async def raising() -> None:
        fail()

    def fail() -> None:
        raise Interrupt

    async def main() -> None:
        nonlocal interrupts
        for group in storm.groups:
            for key in KEYS:
                await group.adelete(key)
                interrupts = 0
                async with asyncio.timeout(HANG):
                    values = await asyncio.gather(*(group.aget(key) for _ in range(3)), return_exceptions=True)
                assert interrupts
                assert all(right(key, value) for value in values), values

    for module in (local, remote):
        for name in ("drive", "adrive"):
            setattr(module, name, interrupted(getattr(module, name)))
    asyncio.run(main())


def awaited(task: asyncio.Task[Any]) -> list[str]:
    """Return where a task stands, the innermost coroutine last."""
    found: list[str] = []
    each: Any = task.get_coro()
    while each is not None:
        frame = getattr(each, "cr_frame", None)
        found.append(f"{each!r}" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}")
        each = getattr(each, "cr_await", None)
    return found


def in_asyncio(frame: FrameType | None) -> bool:
    """Return whether asyncio itself is at work, which forgets wake-ups when it is interrupted."""
    while frame is not None and not any(part in frame.f_code.co_filename for part in HERE):
        if frame.f_code.co_filename.startswith(ASYNCIO):
            return True
        frame = frame.f_back
    return False
