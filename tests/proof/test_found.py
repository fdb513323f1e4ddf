"""Schedules that broke a promise, with the fewest steps that did, by the name of what was wrong."""

from __future__ import annotations

from tests.proof.schedule import Schedule, run
from tests.proof.steps import Step


def step(number: int, kind: str, node: int, group: str, key: str, **more: object) -> Step:
    return Step(number, kind, node, {"group": group, "keys": [key], **more})


def test_the_order_of_a_write_arrives_after_its_writer_gave_up() -> None:
    """Seed 196 of the first generator, and seed 11 of the soak over processes.

    1. The order of a set_many is on its way to the owner for more than a second: its writer gives up, for False.
    2. Another member clears the group: True.
    3. The order arrives, and must be refused: its version would be above that of the clear.
    """
    steps = [
        step(9, "hold", 0, "plain", "c", message="WriteRequest", stage="request", end="source"),
        step(19, "set_many", 0, "bare", "n2", values=True),
        step(25, "advance", 2, "plain", "b", seconds=2.1),
        step(29, "clear", 3, "bare", "n1"),
    ]
    assert run(Schedule(196, steps)).broken == []


def test_the_owner_is_killed_while_a_member_waits_for_a_lease_of_another() -> None:
    """Seed 2163: the call to the killed owner fails at once, as that of a real connection does."""
    steps = [
        step(4, "hold_load", 0, "plain", "a"),
        step(5, "get_or_load", 1, "plain", "a"),
        step(6, "get", 0, "plain", "a"),
        step(7, "crash", 2, "plain", "a"),
        step(8, "finish_load", 0, "plain", "a", which=0),
    ]
    assert run(Schedule(2163, steps)).broken == []


def test_an_owner_that_asks_others_keeps_the_ttl_of_what_it_has_by_then() -> None:
    """Seed 792797.

    1. A member increments a key that no member has. The answer of the owner is held: it is to ask the others first.
    2. The member adds the key. Another one reads it, and has a near copy.
    3. The owner asks the others for the increment, and gets the near copy: its own, the same value, lasts longer.
    """
    steps = [
        step(13, "hold", 3, "plain", "b", message="WriteRequest", stage="reply", end="source"),
        step(33, "incr", 3, "plain", "a", delta=2, initial=None),
        step(38, "add", 3, "plain", "a", value=True),
        step(40, "get", 0, "plain", "a"),
    ]
    assert run(Schedule(792797, steps)).broken == []


def test_only_if_version_meets_an_old_value() -> None:
    """Seed 810803: the judge took a value that an increment finds expired for one that is gone for all."""
    steps = [
        step(1, "set", 2, "ageing", "y", value=True, ttl=None, wait=None),
        step(5, "mend", 0, "ageing", "y"),
        step(6, "incr", 3, "ageing", "y", delta=2, initial=None),
        step(8, "get_entry", 2, "ageing", "y"),
        step(10, "set_version", 4, "ageing", "y"),
    ]
    assert run(Schedule(810803, steps)).broken == []


def test_an_old_value_whose_writer_is_not_known() -> None:
    """Seed 820206: what a touch does not find may have been written before the time that the judge looks at."""
    steps = [
        step(11, "cut", 4, "ageing", "y", other=0, both=True),
        step(13, "get_or_load", 3, "ageing", "y"),
        step(19, "mend", 2, "bare", "n2"),
        step(23, "touch", 4, "ageing", "y", ttl=0.0),
        step(28, "get_entry", 0, "ageing", "y"),
        step(39, "set_version", 2, "ageing", "y"),
    ]
    assert run(Schedule(820206, steps)).broken == []


def test_an_owner_that_closes_refuses_what_it_does_not_order() -> None:
    """Seed 822853.

    1. An owner leaves. The hello that says so is held, and lost.
    2. A member sets a key of it. The store of the owner is closed: another member orders the write.
    3. The writer reads, and sees its own write.
    """
    steps = [
        step(5, "hold", 2, "ageing", "x", message="Hello", stage="request", end="target"),
        step(10, "leave", 3, "ageing", "x"),
        step(26, "get", 0, "ageing", "x"),
        step(28, "set", 2, "ageing", "x", value=True, ttl=30.0, wait=None),
        step(31, "release", 3, "ageing", "x", which=6, fate="lose"),
        step(35, "get_entry", 2, "ageing", "x"),
    ]
    assert run(Schedule(822853, steps)).broken == []


def test_a_call_dies_with_its_process() -> None:
    """Seed 9086: a process that is killed while one of its calls waits is no call that hangs."""
    steps = [
        Step(1, "hold_load", 1, {"group": "plain", "keys": ["c", "b", "a"]}),
        Step(9, "get_many_or_load", 3, {"group": "plain", "keys": ["a", "b", "c"]}),
        Step(10, "get", 2, {"group": "plain", "keys": ["a", "b", "c"]}),
        Step(20, "crash", 2, {"group": "bare", "keys": ["q", "p", "n1", "n2"]}),
    ]
    assert run(Schedule(9086, steps)).broken == []


def test_a_lease_that_its_asker_never_saw_takes_no_value() -> None:
    """Seed 6620.

    1. A member asks the owner for a lease. The owner is held up, and the connection breaks: the member loads by itself.
    2. Another member clears the group: True.
    3. The owner goes on and grants the lease. Then it is given back, and must not take the value of before the clear.
    """
    steps = [
        step(16, "hold", 1, "bare", "p", message="Peek", stage="request", end="source"),
        step(18, "get_or_load", 2, "bare", "p"),
        step(28, "cut", 4, "bare", "n2", other=2, both=True),
        step(38, "clear", 0, "bare", "n2"),
    ]
    assert run(Schedule(6620, steps)).broken == []


def test_the_ttl_of_a_late_value_of_a_lease_holder_counts_from_its_load() -> None:
    """Seed 1342: the value is on its way to the owner for longer than its ttl."""
    steps = [
        step(1, "hold", 1, "ageing", "x", message="FillRequest", stage="request", end="source"),
        step(2, "get_or_load", 1, "ageing", "x"),
        step(3, "advance", 0, "ageing", "x", seconds=7.0),
        step(4, "late", 0, "ageing", "x"),
        step(5, "advance", 0, "ageing", "x", seconds=4.1),
        step(6, "get", 0, "ageing", "x"),
    ]
    assert run(Schedule(1342, steps)).broken == []


def test_a_process_that_leaves_has_its_address_until_it_has_gone() -> None:
    """Seeds 1094 and 6423: the network in memory disconnected a new process when the one before it had said goodbye."""
    steps = [
        step(5, "hold", 0, "ageing", "x", message="Hello", stage="request", end="source"),
        step(13, "leave", 0, "ageing", "y"),
        step(16, "join", 3, "plain", "b", client=True, loader=True),
        step(19, "mend", 0, "ageing", "x"),
        step(20, "set", 1, "plain", "b", value=True),
    ]
    assert run(Schedule(1094, steps)).broken == []


def test_what_one_function_loads_has_its_ttl_from_then_on() -> None:
    """Seed 756028: the load of one key of a batch is held, and those of the others return with it."""
    steps = [
        Step(12, "hold_load", 2, {"group": "ageing", "keys": ["x", "y"]}),
        Step(29, "get_many_or_load", 4, {"group": "ageing", "keys": ["y", "x"]}),
        Step(34, "advance", 1, {"group": "ageing", "keys": ["x", "y"], "seconds": 7.0}),
    ]
    assert run(Schedule(756028, steps)).broken == []


def test_the_ttl_of_a_write_that_is_sent_later_begins_then() -> None:
    """Seed 755577: the owner has ordered it, its answer is held, and the next candidate orders it after a second."""
    steps = [
        Step(
            14,
            "hold",
            3,
            {"group": "bare", "keys": ["n2", "p"], "message": "WriteRequest", "stage": "reply", "end": "source"},
        ),
        Step(16, "set", 0, {"group": "bare", "keys": ["n2"], "value": True, "ttl": 1.0, "wait": False}),
        Step(17, "advance", 4, {"group": "bare", "keys": ["n2"], "seconds": 2.1}),
        step(19, "get", 1, "bare", "n2"),
    ]
    assert run(Schedule(755577, steps)).broken == []
