"""An owner that stands still holds no task up for more than a second."""

from __future__ import annotations

import signal
import time

from tests.cluster.cluster import wait_until
from tests.cluster.conftest import Processes


def test_aget_and_aget_many_of_a_frozen_owner(processes: Processes) -> None:
    for asks, one in (("aget", True), ("aget_many", False)):
        asker, owner = processes.make(2)
        keys = processes.keys_of(owner)[:3]
        owner.kill(signal.SIGSTOP)
        values, took = asker.do(asks, keys[0] if one else keys)
        assert values == (f"value of {keys[0]}" if one else {key: f"value of {key}" for key in keys})
        assert took < 1.0
        for process in (asker, owner):
            process.end()
            processes.all.remove(process)


def test_a_write_whose_writer_gave_up_is_not_ordered_later(local_processes: Processes) -> None:
    """Refuse the orders that waited in the sockets of a process that stood still.

    1. The owner of keys is stopped. A member sets them: the orders wait at the owner, the sets return False.
    2. The member deletes them: False. The owner is known not to answer, and is not asked.
    3. The owner goes on. The sets, which it reads now, must not come after the deletes.
    """
    writer, owner = local_processes.make(2)
    keys = local_processes.keys_of(owner)[:3]
    owner.kill(signal.SIGSTOP)
    assert [writer.do("set", key, "old")[0] for key in keys] == [False] * 3
    time.sleep(0.3)
    assert [writer.do("delete", key)[0] for key in keys] == [False] * 3
    owner.kill(signal.SIGCONT)
    wait_until(lambda: writer.do("delete", "another")[0])
    for process in (owner, writer):
        assert [process.do("get", key)[0] for key in keys] == [f"value of {key}" for key in keys]
