"""The owner of a key orders a write before the notice of it comes: a value loaded in between is kept."""

import threading
import time

from kamacache import Node
from kamacache.net.messages import TellRequest
from kamacache.testing import GATE_TIMEOUT, Network


def test_a_load_that_began_after_the_write_was_ordered_survives_the_notice() -> None:
    network = Network(hot=False)
    loads: list[str] = []
    loading, go_on = threading.Event(), threading.Event()

    def load(key: str) -> bytes:
        loads.append(key)
        loading.set()
        assert go_on.wait(GATE_TIMEOUT)
        return b"new"

    nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]
    groups = [node.group("users", load) for node in nodes]
    try:
        for node in nodes:
            node.start()
        until = time.monotonic() + GATE_TIMEOUT
        while any(len(node.members()) < len(nodes) for node in nodes) and time.monotonic() < until:
            time.sleep(0.01)
        owner, other = nodes
        key = next(key for key in map(str, range(1000)) if owner.owner("users", key).id == owner.id)
        assert other.owner("users", key).id == owner.id
        # Of a batch with two owners, whose notice goes to both: the owner of one key alone needs none.
        batch = [key, next(key for key in map(str, range(1000)) if other.owner("users", key).id == other.id)]
        told = network.gate(TellRequest, target=owner.address)
        results: dict[str, object] = {}
        writer = threading.Thread(target=lambda: results.update(write=groups[1].delete_many(batch)), daemon=True)
        writer.start()
        told.wait()  # the owner has ordered the delete, and is not notified of it yet
        reader = threading.Thread(target=lambda: results.update(read=groups[0].get(key)), daemon=True)
        reader.start()
        assert loading.wait(GATE_TIMEOUT)
        told.open()
        writer.join(GATE_TIMEOUT)
        go_on.set()
        reader.join(GATE_TIMEOUT)
        assert results == {"write": True, "read": b"new"}
        assert [group.get(key) for group in groups] == [b"new", b"new"]
        assert loads == [key]
    finally:
        for node in nodes:
            node.close(drain=0)
