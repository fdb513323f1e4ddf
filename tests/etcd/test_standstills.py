"""A process stands still for so long that etcd forgets it: it is no member before it is one again."""

from __future__ import annotations

import signal
import time
from typing import Any

from tests.cluster.cluster import wait_until
from tests.cluster.conftest import Processes
from tests.etcd.server import Etcd

LEASE = 2.0  # a standstill of more than a second is longer than half of it
PREFIX = "/kamacache/test/nodes/"


def test_a_process_wakes_that_etcd_has_forgotten(own_etcd: Etcd, processes: Processes) -> None:
    """Confirm no write that a member which joined meanwhile is not told of.

    1. A process stands still, its lease ends, and another one joins. That one keeps a value that it owns.
    2. etcd does not answer any more, so that the process that goes on cannot read who is there. It deletes the key.
    3. etcd answers again.
    """
    options: dict[str, Any] = {"registry": own_etcd.url, "lease": LEASE, "group": {"near_ttl": "500ms"}}
    stays, sleeps = processes.make(2, **options)
    wait_until(lambda: sleeps.do("set", "settled", "")[0])
    (late,) = processes.make(1, start=False, **options)
    late.do("peek", "key")
    sleeps.kill(signal.SIGSTOP)
    stopped = time.monotonic()
    own_etcd.revoke(own_etcd.leases(PREFIX)[PREFIX + sleeps.address])
    late.start()
    key = next(key for key in map("key{}".format, range(99)) if late.do("owners", [key]) == [late.address])
    wait_until(lambda: stays.do("set", key, "old")[0])
    time.sleep(max(0.0, stopped + 1.2 - time.monotonic()))
    own_etcd.freeze()
    sleeps.kill(signal.SIGCONT)
    went_on = time.monotonic()
    while time.monotonic() < went_on + 1.5:  # it asks etcd for a second
        if sleeps.do("delete", key)[0]:
            assert late.do("get", key)[0] != "old"
        time.sleep(0.05)
    own_etcd.thaw()
    wait_until(lambda: sleeps.do("delete", key)[0])
    assert [process.do("get", key)[0] for process in (stays, sleeps, late)] == [f"value of {key}"] * 3
