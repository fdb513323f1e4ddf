"""A member in the registry's list may be asked at once; it knows by then the former owners of the keys it has taken."""

import threading

from kamacache import Node
from kamacache.net.messages import Hello
from kamacache.testing import GATE_TIMEOUT, Network
from tests.cluster.cluster import ask_directly, moved


def test_a_node_asked_before_any_member_has_answered_its_hello_peeks_at_the_owners_before_it() -> None:
    network = Network(hot=False)
    loads: list[str] = []

    def load(key: str) -> bytes:
        loads.append(key)
        return key.encode()

    first, second = nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]
    groups = [node.group("users", load) for node in nodes]
    keys = [str(number) for number in range(100)]
    try:
        first.start()
        for key in keys:
            groups[0].get(key)
        hellos = network.gate(Hello, target=first.address)
        starting = threading.Thread(target=second.start, daemon=True)
        starting.start()
        hellos.wait()
        taken = moved(first, second, keys)
        assert ask_directly(network, second.address, taken) == [key.encode() for key in taken]
        assert loads == keys
        hellos.open()
        starting.join(GATE_TIMEOUT)
    finally:
        for node in nodes:
            node.close(drain=0)
