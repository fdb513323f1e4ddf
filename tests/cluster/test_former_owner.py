"""A former owner that is asked to load, by a member that has not seen the change yet, gives what it still holds."""

import time

from kamacache import Node
from kamacache.messages import LoadReply, LoadRequest
from kamacache.testing import GATE_TIMEOUT, Network


def test_what_was_loaded_once_is_not_loaded_again_by_its_former_owner() -> None:
    network = Network(hot=False)
    loads: list[str] = []

    def load(key: str) -> bytes:
        loads.append(key)
        return b"value of " + key.encode()

    keys = [str(number) for number in range(100)]
    nodes: list[Node] = []
    try:
        for _ in range(2):
            node = Node(registry=network.registry(), lane=network.lane())
            nodes.append(node)
            node.group("users", load)
            node.start()
            if len(nodes) == 1:
                for key in keys:
                    node.groups["users"].get(key)
        first, second = nodes
        until = time.monotonic() + GATE_TIMEOUT
        moved: list[str] = []
        while not moved and time.monotonic() < until:
            moved = [key for key in keys if first.owner("users", key).id == second.id]
        assert moved
        call = network.lane()
        call.start(None, lambda _: None)
        request = LoadRequest("users", moved, [], 0, 0)
        reply: LoadReply = call.call(first.address or "", request, None).result(GATE_TIMEOUT)
        assert [answer.value for answer in reply.answers] == [b"value of " + key.encode() for key in moved]
        assert [nodes[1].groups["users"].get(key) for key in moved] == [answer.value for answer in reply.answers]
        assert loads == keys
    finally:
        for node in nodes:
            node.close(drain=0)
