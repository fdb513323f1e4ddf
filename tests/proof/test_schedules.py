"""Schedules that a seed decides keep every promise, are repeatable, and find what is made wrong on purpose.

KAMACACHE_SEEDS is the number of schedules; without it there are a few. A failure is printed with its fewest steps:
keep it in test_found.py, by a name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from kamacache.cluster.contact import Reading
from kamacache.load.remote import Remote
from kamacache.net.messages import TellReply
from kamacache.steps import Wait
from kamacache.write.decision import Decisions
from kamacache.write.write import Writes
from tests.proof.schedule import Schedule, report, run, shrink

SEEDS = int(os.environ.get("KAMACACHE_SEEDS", "20"))
CHUNK = 20
PATIENCE = 60  # schedules in which a mutation must be found


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Do not write down that members come and go."""
    logger = logging.getLogger("kamacache")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_schedules_keep_the_promises(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS + 1)):
        schedule = Schedule.of(seed)
        found = run(schedule)
        assert not found.broken, report(schedule, found)


@pytest.mark.flaky(reruns=1)
def test_a_seed_decides_what_happens() -> None:
    """Run each twice. Real threads decide which of two that wait goes on first, so that one of many may differ."""
    seeds = range(1, 7)
    same = [run(Schedule.of(seed)).trace == run(Schedule.of(seed)).trace for seed in seeds]
    assert sum(same) >= len(seeds) - 1


# -- what is made wrong on purpose must be found -----------------------------------------------------------------------


def deaf(self: Any, request: Any) -> TellReply:
    """Confirm a notice without taking note of it."""
    return TellReply([0] * len(request.writes), 0, self._runtime.hlc.latest())


def silent(self: Any, request: Any, deadline: Any, knows: Any = None) -> Any:
    """Notify no member of a write."""
    yield from ()
    return True, {}


def forgetful(self: Any, core: Any, peer: Any, contact: Any) -> bool:
    """Fetch nothing of what was missed."""
    core.has[contact.id] = max(core.has.get(contact.id, 0), contact.number, contact.begun)
    return True


def lonely(self: Any, key: str) -> None:
    """Take oneself for the owner of every key."""
    return


def strict(self: Any, lead: Any, peer: Any, keys: Any, call: Any, deadline: Any) -> Any:
    """Pass the silence of a peer on to the caller."""
    return (yield Wait(call, deadline))


MUTATIONS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], int]] = {  # and a seed not far before its find
    "a listener keeps its copies": (lambda: patch.object(Writes, "told", deaf), 1),
    "nobody is notified": (lambda: patch.object(Writes, "tell", silent), 1),
    "a member that was away fetches nothing": (lambda: patch.object(Reading, "_catch_up", forgetful), 570),
    "the silent need not confirm": (lambda: patch("kamacache.write.write.has_ended", lambda _: True), 130),
    "a node takes itself for the owner": (lambda: patch.object(Decisions, "_owner", lonely), 1),
    "a silent owner is an error": (lambda: patch.object(Remote, "_reply", strict), 10),
}


def found_by(name: str) -> tuple[Schedule, str] | None:
    """Return the first schedule that shows that something is wrong, and what that breaks."""
    mutation, first = MUTATIONS[name]
    with mutation():
        for seed in range(first, first + PATIENCE):
            schedule = Schedule.of(seed)
            if broken := run(schedule).broken:
                return schedule, broken[0].splitlines()[0]
    return None


@pytest.mark.parametrize("name", MUTATIONS)
def test_finds_what_is_wrong(name: str) -> None:
    assert found_by(name) is not None


def test_shrinks_what_it_finds() -> None:
    found = found_by("nobody is notified")
    assert found is not None
    with MUTATIONS["nobody is notified"][0]():
        small = shrink(*found)
        assert any(words.startswith(found[1]) for words in run(small).broken)
    assert len(small.steps) <= 6
