"""Ask all members what they show of themselves, once a second at most, however many people look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import Promise, monotonic
from kamacache.deadline import Deadline
from kamacache.errors import Overloaded
from kamacache.serve.status import Document, can_answer, of_node, together
from kamacache.serve.writes import Refusal
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.core import GroupCore
    from kamacache.runtime import Runtime

_FRESH = 1.0  # seconds for which an answer is given again
_PATIENCE = 1.0  # seconds in which a member must answer
_LATE = 5.0  # seconds until the thread that asks is given up


class Statuses:
    """Answer KC.STATUS, on the loop of clients alone. `info` and `members` return what the node says of these."""

    def __init__(
        self,
        runtime: Runtime,
        groups: Mapping[str, GroupCore],
        info: Callable[[], Document],
        members: Callable[[], list[Document]],
    ) -> None:
        self._runtime = runtime
        self._cores = groups
        self._info = info
        self._members = members
        self._one = asyncio.Lock()
        self._answer = b""
        self._until = 0.0

    async def answer(self, which: str = "") -> bytes:
        """Return the document of all members, or with "self" that of this node. Raises Refusal."""
        if which.lower() == "self":
            return _encoded(self._own())
        if which:
            raise Refusal("kc.status takes SELF or nothing")
        async with self._one:
            if monotonic() >= self._until:
                self._answer = _encoded(await self._all())
                self._until = monotonic() + _FRESH
            return self._answer

    def _own(self) -> Document:
        return of_node(self._info(), self._cores, self._runtime.history)

    async def _all(self) -> Document:
        me, *others = members = self._members()
        asked = [each for each in others if can_answer(each)]
        told: Promise = Promise()
        addresses = [each["address"] for each in asked]
        if addresses:
            thread.start("kamacache-status", self._ask, addresses, told)
        else:
            told.set_result([])
        try:
            found = await Wait(told, Deadline.after(_LATE)).arun()
        except TimeoutError:
            raise Overloaded("the other members could not be asked in time") from None
        answers = {each["id"]: _decoded(answer) for each, answer in zip(asked, found, strict=True)}
        answers[me["id"]] = self._own()
        return together(self._info(), members, answers, self._runtime.clock.unix())

    def _ask(self, addresses: list[str], told: Promise) -> None:
        try:
            told.set_result(self._runtime.lane.statuses(addresses, _PATIENCE))
        except Exception as error:  # noqa: BLE001 - it belongs to the task that waits
            told.set_exception(error)


def _encoded(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _decoded(answer: bytes | Exception) -> Document | str:
    """Return the document of a member, or why there is none."""
    if isinstance(answer, Exception):
        return str(answer)
    try:
        document: Any = json.loads(answer)
    except ValueError:
        return "it does not answer as a node does"
    return document if isinstance(document, dict) else "it does not answer as a node does"
