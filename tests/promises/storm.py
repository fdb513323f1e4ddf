"""Interrupts at random instants: the work, its interrupters, and the checks afterwards."""

from __future__ import annotations

import asyncio
import ctypes
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from kamacache import Group, KamaCacheError, LoadCycle, LoadTimeout, Member, Node
from tests.promises.support import Source, came_from, make_group, right, stack
from tests.support.table import Table
from tests.unit.groups import Caller, until

KEYS = [f"k{number:02}" for number in range(12)]
HANG = 20.0  # seconds after which a call that takes less than a millisecond is considered to hang


class Interrupt(BaseException):
    """The exception that a signal handler raises, or another thread sets."""


class Storm:
    """A cache whose callers are interrupted. `kind` is a kind of loader, or "remote": two nodes with plain loaders."""

    def __init__(self, kind: str, rng: random.Random) -> None:
        self.random = rng
        self.source = Source()
        if kind == "remote":
            # Over sockets: no thread is made for a call. A thread that is just being made has the ident of its maker,
            # so that it may get what another thread sets for that one.
            table: dict[str | None, Member] = {}
            nodes = [Node("127.0.0.1:0", registry=Table(table)) for _ in range(2)]
        else:
            nodes = [Node()]
        loader = "plain" if kind == "remote" else kind
        self.groups = [make_group(node, loader, self.load, load_timeout=None) for node in nodes]
        if kind == "remote":
            for node in nodes:
                node.start()
        self.errors: list[BaseException] = []
        self.check()

    def load(self, key: str) -> bytes:
        if self.random.random() < 0.05:  # now and then, so that others come to wait
            time.sleep(1e-4)
        return self.source(key)

    def tolerate(self, error: KamaCacheError) -> None:
        """Note an error that no interrupt explains."""
        if isinstance(error, (LoadCycle, LoadTimeout)):
            self.errors.append(error)

    def operate(self) -> None:
        """Do one thing, most often a miss."""
        group: Group[bytes] = self.random.choice(self.groups)
        key = self.random.choice(KEYS)
        action = self.random.randrange(6)
        try:
            if action == 0:
                group.set(key, self.source.made(key))
            else:
                group.delete(key)
                values = group.get_many(KEYS) if action == 1 else {key: group.get(key)}
                self.expect(values)
        except KamaCacheError as error:
            self.tolerate(error)

    async def aoperate(self) -> None:
        group: Group[bytes] = self.random.choice(self.groups)
        key = self.random.choice(KEYS)
        action = self.random.randrange(6)
        try:
            if action == 0:
                await group.aset(key, self.source.made(key))
            else:
                await group.adelete(key)
                values = await group.aget_many(KEYS) if action == 1 else {key: await group.aget(key)}
                self.expect(values)
        except KamaCacheError as error:
            self.tolerate(error)

    def expect(self, values: dict[str, Any]) -> None:
        wrong = {key: value for key, value in values.items() if not right(key, value)}
        if wrong:
            self.errors.append(AssertionError(f"wrong values: {wrong}"))

    def check(self) -> None:
        """Have every key answered, in this thread."""
        for group in self.groups:
            values = {key: group.get(key) for key in KEYS}
            assert all(right(key, value) for key, value in values.items()), values
            assert sorted(group.get_many(KEYS)) == KEYS
        self.blame()

    async def acheck(self) -> None:
        async with asyncio.timeout(HANG):
            for group in self.groups:
                values = dict(zip(KEYS, await asyncio.gather(*map(group.aget, KEYS)), strict=True))
                assert all(right(key, value) for key, value in values.items()), values
                assert sorted(await group.aget_many(KEYS)) == KEYS
        self.blame()

    def blame(self) -> None:
        if self.errors:
            raise self.errors[0]

    def settle(self) -> None:
        """Check, now that all is calm, that every key is written, deleted, loaded once and then kept."""
        for asked in self.groups:
            for key in KEYS:
                until(lambda group=asked, key=key: group.delete(key) is True)  # type: ignore[misc]
                before = self.source.loads[key]
                values = [group.get(key) for group in (asked, *self.groups, asked)]
                assert values == [self.source.last[key]] * len(values), (
                    f"{key}: {values}, not {self.source.last[key]!r}"
                )
                assert self.source.loads[key] == before + 1, f"{key}: a loaded value was not kept"
                written = self.source.made(key)
                assert asked.set(key, written) is True
                assert [group.get(key) for group in self.groups] == [written] * len(self.groups)

    def end(self) -> None:
        """Check from this thread, from a new one and from tasks."""
        self.blame()
        self.settle()
        for call in (self.settle, self.check):
            Caller(call).result()
        asyncio.run(self.acheck())


class Worker:
    """A thread that works until another one interrupts it, or checks. An interrupt breaks no native lock."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.sent = False  # the interrupt
        self.job: Callable[[], None] = storm.check
        self.error: BaseException | None = None
        self.go, self.begun, self.done = threading.Lock(), threading.Lock(), threading.Lock()
        for lock in (self.go, self.begun, self.done):
            lock.acquire()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while True:
            self.go.acquire()
            try:
                self.job()
            except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
                self.error = None if came_from(error, Interrupt) else error
            self.done.release()

    def until_interrupted(self) -> None:
        """Work until the interrupt comes, at a random instant."""
        self.begun.release()
        while not self.sent:
            self.storm.operate()
        for _ in range(100):  # one that was on its way comes here
            pass

    def do(self, job: Callable[[], None]) -> None:
        self.sent = False
        self.job = job
        self.go.release()

    def interrupt(self) -> None:
        ident = ctypes.c_ulong(self.thread.ident or 0)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Interrupt)) == 1
        self.sent = True

    def wait(self) -> None:
        assert self.done.acquire(timeout=HANG), f"a call was never answered:\n{stack(self.thread)}"
        if self.error is not None:
            raise self.error


class Bystander:
    """A thread that works beside those that are interrupted."""

    def __init__(self, storm: Storm) -> None:
        self.storm = storm
        self.ended = False
        self.caller = Caller(self._run)

    def _run(self) -> None:
        while not self.ended:
            self.storm.operate()
            time.sleep(1e-4)

    def end(self) -> None:
        self.ended = True
        self.caller.thread.join(HANG)
        assert not self.caller.thread.is_alive(), f"a bystander was never answered:\n{stack(self.caller.thread)}"
        self.caller.result()
