"""Processes for tests that may hang, groups with every kind of loader, and looks at errors and logs."""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import importlib
import itertools
import json
import logging
import os
import random
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest

from kamacache import Group, Node
from tests.promises.forks import ROOT, forks, serve
from tests.support.environment import own_environment
from tests.support.sample import EVERY_CASE

LIMIT = 60.0  # seconds for one test in its process, which takes far less even on the slowest machine
KINDS = ("plain", "async", "many", "async_many")


def isolated(limit: float = LIMIT) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test in a process of its own; if it takes longer than `limit`, show where its threads stand and fail."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**arguments: Any) -> None:
            call = (test.__module__, test.__qualname__, json.dumps(arguments))
            code, said = (in_a_new_interpreter if EVERY_CASE else forks().run)(*call, limit)
            if code:
                pytest.fail(f"exit code {code}\n{said[-8000:]}", False)

        return run

    return decorate


def in_a_new_interpreter(module: str, name: str, arguments: str, limit: float) -> tuple[int, str]:
    """Run one test, and return the exit code of its process and what it has written."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.promises.support", module, name, arguments, str(limit)],
        cwd=ROOT,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit + 30,
        check=False,
    )
    return ended.returncode, ended.stdout


def main(module: str, name: str, arguments: str, limit: str) -> NoReturn:
    """Run one test in this process, and end it whatever its threads do."""
    faulthandler.dump_traceback_later(float(limit), exit=True)
    try:
        getattr(importlib.import_module(module), name).__wrapped__(**json.loads(arguments))
    except BaseException:  # noqa: BLE001 - the process that started this one shows it
        traceback.print_exc()
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def seeded(seed: int | None = None) -> random.Random:
    """Return a source of randomness whose seed is printed, to be given here when a failure is to be repeated."""
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


class Source:
    """The place that values are loaded from: each load brings another one of its key. `loads` counts them by key."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.last: dict[str, bytes] = {}
        self._numbers = itertools.count()

    def made(self, key: str) -> bytes:
        """Return a new value of this key, unlike all before."""
        return f"{key}={next(self._numbers)}".encode()

    def __call__(self, key: str) -> bytes:
        self.loads[key] += 1
        self.last[key] = value = self.made(key)
        return value


def right(key: str, value: object) -> bool:
    """Return whether a value is one of this key's."""
    return isinstance(value, bytes) and value.startswith(f"{key}=".encode())


def make_group(node: Node, kind: str, answer: Callable[[str], Any], name: str = "g", **options: Any) -> Group[Any]:
    """Make a group whose loader of one of KINDS returns what `answer` says for a key."""

    def load_many(keys: Sequence[str]) -> dict[str, Any]:
        return {key: answer(key) for key in keys}

    async def load(key: str) -> Any:
        await asyncio.sleep(0)
        return answer(key)

    async def load_many_async(keys: Sequence[str]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return load_many(keys)

    made: Group[Any]
    if kind == "plain":
        made = node.group(name, answer, **options)
    elif kind == "async":
        made = node.group(name, load, **options)
    else:
        made = node.group(name, load_many=load_many if kind == "many" else load_many_async, **options)
    return made


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def came_from(error: BaseException | None, cause: type[BaseException], text: str = "") -> bool:
    """Return whether an error, or one it came from, is of this kind and has this text."""
    return any(isinstance(each, cause) and text in repr(each) for each in chain(error))


def in_tasks(*calls: Callable[[], Any], within: float = 20.0) -> list[Any]:
    """Await what these return, at once on an event loop of its own, and return their results or errors."""

    async def run() -> list[Any]:
        async with asyncio.timeout(within):
            return await asyncio.gather(*(call() for call in calls), return_exceptions=True)

    return asyncio.run(run())


class Log(logging.Handler):
    """The records that the package has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        logging.getLogger("kamacache").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def tells(self, cause: type[BaseException], text: str) -> bool:
        """Return whether a record carries this error with its traceback."""
        errors = [record.exc_info[1] for record in list(self.records) if record.exc_info]
        return any(came_from(error, cause, text) and each_has_traceback(error) for error in errors)


def each_has_traceback(error: BaseException | None) -> bool:
    """Return whether an error was raised somewhere, and still says where."""
    return error is not None and error.__traceback__ is not None


def stack(thread: threading.Thread) -> str:
    """Return where a thread stands."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame is not None else "it has ended"


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[1:] else serve(main)
