"""A process stands still for so long that others may have dropped it."""

from __future__ import annotations

import time

from kamacache.net.messages import Hello
from tests.cluster.cluster import Cluster, wait_until


def test_a_process_confirms_and_orders_nothing_before_the_members_have_answered_its_hello() -> None:
    """Have B stand still for longer than its lease, as far as it can tell, and hold the hello that it says then.

    1. B asks A what it has missed. A has not answered its hello: it may not tell B of its writes.
    2. B sets a key: False. A sets a key of B: B refuses the order, so it is False.
    3. A answers the hello. Both are True again.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(b)
        cluster.assert_serves(key, b"old")
        contacts = b._runtime.lane.contacts
        hello = cluster.network.gate(Hello, source=b.address)
        registry = b._membership._registry
        assert registry is not None
        registry.poll = 60.0  # its thread does not look at the time any more
        b._membership.refresh()
        time.sleep(0.1)
        contacts.watch()
        for _ in range(5):  # its thread may have had no time yet
            time.sleep(1.05)
            if contacts.stood:
                break
        b._membership.refresh()
        hello.wait()
        assert cluster.group(b).set(key, b"new") is False
        assert cluster.group(a).set(key, b"new") is False
        assert contacts.stood
        hello.open()
        wait_until(lambda: not contacts.stood)
        assert cluster.group(b).set(key, b"new") is True
        assert cluster.group(a).set(key, b"newer") is True
        cluster.assert_serves(key, b"newer")
