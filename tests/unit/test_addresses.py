"""Addresses are read, written, and chosen for others to use."""

from __future__ import annotations

import socket

import pytest

from kamacache.errors import ConfigError
from kamacache.net.addresses import Address, advertised, parse_address
from kamacache.registry.local import LocalRegistry


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:65535", "host.example:80", "unix:/run/a.sock", "my_host-1:1"])
def test_read_and_written(text: str) -> None:
    assert str(parse_address(text, name="listen")) == text


@pytest.mark.parametrize("path", ["/run/caf\udce9.sock", "/run/\ud800"])
def test_a_path_that_is_no_utf8_cannot_be_told_to_others(path: str) -> None:
    with pytest.raises(ConfigError, match=r"listen=.*UTF-8"):
        parse_address(f"unix:{path}", name="listen")
    with pytest.raises(ConfigError, match=r"registry=.*UTF-8"):
        LocalRegistry(f"local://{path}")


@pytest.mark.parametrize(
    ("text", "loopback", "unspecified"),
    [
        ("127.0.0.1:1", True, False),
        ("localhost:1", True, False),
        ("LOCALHOST:1", True, False),
        ("[::1]:1", True, False),
        ("0.0.0.0:1", False, True),
        ("[::]:1", False, True),
        ("[::ffff:0.0.0.0]:1", False, True),
        ("10.0.0.1:1", False, False),
        ("localhost.example:1", False, False),
        ("unix:/run/localhost", False, False),
    ],
)
def test_kinds(text: str, *, loopback: bool, unspecified: bool) -> None:
    address = parse_address(text, name="listen")
    assert (address.is_loopback, address.is_unspecified) == (loopback, unspecified)
    assert address.is_unix == text.startswith("unix:")


def test_a_real_address_is_advertised_as_it_is() -> None:
    assert advertised("10.1.2.3:8001", "10.0.0.1:2379") == "10.1.2.3:8001"
    assert advertised("10.1.2.3:8001", None) == "10.1.2.3:8001"


def test_with_a_registry_on_this_machine_loopback_will_do() -> None:
    assert advertised("127.0.0.1:8001", "localhost:2379") == "127.0.0.1:8001"
    assert advertised("0.0.0.0:8001", "127.0.0.1:2379") == "127.0.0.1:8001"


@pytest.mark.parametrize("bound", ["127.0.0.1:8001", "[::1]:8001", "localhost:8001", "unix:/run/a.sock"])
def test_an_address_that_others_cannot_reach_is_never_advertised(bound: str) -> None:
    for remote in ("192.0.2.7:2379", None):
        with pytest.raises(ConfigError, match="other machines"):
            advertised(bound, remote)


def test_the_address_of_the_route_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Routed(socket.socket):
        """A socket on a machine whose route to everywhere begins at 10.9.8.7."""

        def connect(self, address: object) -> None:
            assert address == ("192.0.2.7", 2379)

        def getsockname(self) -> tuple[str, int]:
            return "10.9.8.7", 40000

    monkeypatch.setattr(socket, "socket", Routed)
    assert advertised("0.0.0.0:8001", "192.0.2.7:2379") == "10.9.8.7:8001"


@pytest.mark.parametrize("found", ["127.0.0.1", "0.0.0.0", None])  # noqa: S104 - nothing is bound
def test_without_a_route_the_user_is_asked(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    class Lost(socket.socket):
        def connect(self, address: object) -> None:
            if found is None:
                raise OSError("network is unreachable")

        def getsockname(self) -> tuple[str | None, int]:
            return found, 40000

    monkeypatch.setattr(socket, "socket", Lost)
    with pytest.raises(ConfigError, match="advertise="):
        advertised("0.0.0.0:8001", "192.0.2.7:2379")


def test_ipv6_is_written_in_brackets() -> None:
    assert str(Address("2001:db8::1", 80)) == "[2001:db8::1]:80"
