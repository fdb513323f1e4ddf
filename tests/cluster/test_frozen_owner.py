"""An owner that stands still holds no task up for more than a second."""

from __future__ import annotations

import signal

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
