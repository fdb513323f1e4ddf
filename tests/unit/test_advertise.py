"""The address that a node advertises to others."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import ConfigError, Member, Node, Registry
from kamacache.fork import advertised, free_address


class Wide(Registry):
    """A registry of other machines, that says nothing of where to listen."""

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None: ...

    def members(self, service: str) -> list[Member]:
        return []

    def deregister(self) -> None: ...


def test_address_the_registry_would_choose_is_refused_unless_insecure(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match="insecure=True"):
        Node(registry=Wide()).start()
    node = Node(registry=Wide())
    assert node.group("g", lambda key: key.encode()).get("k") == b"k"  # nothing listens, and the log says why
    assert "insecure=True" in caplog.text
    node.close()


@pytest.mark.parametrize("allowed", [{"insecure": True}, {"password": "correct-horse"}])
def test_address_the_registry_would_choose_is_taken_if_it_is_protected(allowed: dict[str, Any]) -> None:
    with Node(advertise="cache.example:8001", registry=Wide(), **allowed) as node:
        assert node.address == "cache.example:8001"


def test_loopback_is_not_advertised_beyond_this_machine() -> None:
    node = Node("127.0.0.1:0", registry=Wide())
    with pytest.raises(ConfigError, match="cannot be reached from other machines"):
        node.start()
    with pytest.raises(ConfigError, match="cannot be reached from other machines"):
        node.start()  # bound once, and asked again
    node.close()


def test_own_address_must_be_in_a_fixed_list_even_if_it_is_advertised() -> None:
    node = Node("127.0.0.1:0", advertise="127.0.0.1:9", registry="static://127.0.0.1:8001")
    with pytest.raises(ConfigError, match="not in the list"):
        node.start()
    node.close()


class Given(Wide):
    """A registry of the user's that gives its node what a test says."""

    beyond_machine = False

    def __init__(self, listen: Any, advertise: Any) -> None:
        self.listen, self.given = listen, advertise

    def default_listen(self, service: str, node_id: str) -> str | None:
        return self.listen  # type: ignore[no-any-return]

    def advertise(self, address: str) -> str:
        return address if self.given is ... else self.given


@pytest.mark.parametrize(
    ("listen", "advertise"),
    [(None, ...), ("", ...), (":0", ...), (5, ...)]
    + [
        ("127.0.0.1:0", given) for given in (None, "", ":8001", "0.0.0.0:8001", "[::]:8001", "10.0.0.1:0", "nowhere", 5)
    ],
)
def test_an_address_of_no_use_is_refused_with_the_name_of_the_registry(listen: Any, advertise: Any) -> None:
    node = Node(registry=Given(listen, advertise))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"registry Given.*(listen|advertise)="):
            node.start()
    assert node.address is None
    node.close()


def test_every_address_of_the_machine_is_none_for_others() -> None:
    """Refuse it though the user wrote it: a registry without an idea of its own passes it on."""
    node = Node("0.0.0.0:0", registry=Given(None, ...), insecure=True)
    with pytest.raises(ConfigError, match=r"registry Given.*advertise="):
        node.start()
    node.close()


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
            Node(address).start()


def test_address_of_a_node() -> None:
    with Node("127.0.0.1:0") as node:
        assert node.address is not None
        assert node.address.startswith("127.0.0.1:")
        assert not node.address.endswith(":0")


def test_forked_child_advertises_its_own_port() -> None:
    assert free_address("10.0.0.1:8001") == "10.0.0.1:0"
    assert advertised("example.org:8001", "10.0.0.1:4711", forked=True) == "example.org:4711"
    assert advertised("example.org:80", "10.0.0.1:8001", forked=False) == "example.org:80"
    assert advertised(None, "10.0.0.1:4711", forked=True) == "10.0.0.1:4711"
