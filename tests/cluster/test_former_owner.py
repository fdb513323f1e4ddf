"""A former owner returns its copy to a member that has not seen the change yet and asks it to load."""

from kamacache import Node
from kamacache.testing import Network
from tests.cluster.cluster import ask_directly, moved


def test_a_loaded_value_is_not_loaded_again_by_its_former_owner() -> None:
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
        taken = moved(first, second, keys)
        assert ask_directly(network, first.address, taken) == [b"value of " + key.encode() for key in taken]
        assert [second.groups["users"].get(key) for key in taken] == [b"value of " + key.encode() for key in taken]
        assert loads == keys
    finally:
        for node in nodes:
            node.close(drain=0)
