"""URLs of etcd: their parts, and the secrets that they must not show."""

from __future__ import annotations

import pytest

from kamacache import ConfigError, Member
from kamacache.registry import parse
from kamacache.registry.etcd import EtcdRegistry


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://127.0.0.1:2379", "127.0.0.1:2379"),
        ("etcd://etcd", "etcd:2379"),
        ("ETCD://a:1,b, [::1],[::1]:5/", "a:1, b:2379, [::1]:2379, [::1]:5"),
        ("etcd://user:p%40ss%3F@a:1,b:2", "a:1, b:2"),
    ],
)
def test_endpoints(url: str, endpoints: str) -> None:
    registry = parse(url)
    assert isinstance(registry, EtcdRegistry)
    assert repr(registry) == f"<EtcdRegistry {endpoints}>"
    assert registry.lease == 10.0
    registry.close()


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "a:1,",
        "a:0",
        "0.0.0.0:1",
        "a:99999",
        "unix:/run/etcd.sock",
        "a/b",
        "a:1?tls=1",
        "a:1?ca=",
        "a:1?ca",
        "a:1?ca=x&ca=y",
        "a:1?cert=x&key=y",
        "a:1?ca=x&cert=y",
        "a:1?ca=/no/such/file.pem",
        "user@a:1",
        ":hidden@a:1",
        "user:@a:1",
        "user:hidden@x@a:1",
        "user:hidd?en@a:1",
        "u:hidden@a:1,u:hidden@b:1",
        "user:hidden@a:0",
        "user:hidden",
        "a:1,user:hidden",
        "user:hidd]en",
        "user:hidd[e]n:1",
        "user:1:hidd]en",
        "user:hidden@a:1?token=hidden",
        pytest.param("user:hidden\udcff@a:1", id="a password that is no UTF-8"),
        pytest.param("a:1?ca=/\udcff", id="a path that is no UTF-8"),
    ],
)
def test_invalid_urls(rest: str) -> None:
    with pytest.raises(ConfigError, match="registry etcd://") as caught:
        parse(f"etcd://{rest}")
    assert "hidd" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "listen", "loopback"),
    [
        ("etcd://127.0.0.1:2379", "127.0.0.1:0", True),
        ("etcd://localhost:2379,[::1]:2379", "127.0.0.1:0", True),
        ("etcd://192.0.2.1:2379", "0.0.0.0:0", False),
        ("etcd://127.0.0.1:2379,192.0.2.1:2379", "0.0.0.0:0", False),
    ],
)
def test_loopback_is_for_an_etcd_of_this_machine_alone(url: str, listen: str, *, loopback: bool) -> None:
    registry = parse(url)
    assert registry.default_listen("app", "id1") == listen
    assert registry.advertise("10.0.0.1:8001") == "10.0.0.1:8001"
    if loopback:
        assert registry.advertise("127.0.0.1:8001") == "127.0.0.1:8001"
        assert registry.advertise("0.0.0.0:8001") == "127.0.0.1:8001"
    else:
        with pytest.raises(ConfigError, match="other machines"):
            registry.advertise("127.0.0.1:8001")
    registry.close()


def test_a_member_without_an_address_is_refused() -> None:
    registry = parse("etcd://127.0.0.1:2379")
    with pytest.raises(ConfigError, match="listen="):
        registry.register("app", Member("id1", None), lambda: None)
    registry.close()


def test_names_of_services_are_checked() -> None:
    registry = parse("etcd://127.0.0.1:2379")
    for service in ("", "a/b", "../x"):
        with pytest.raises(ConfigError):
            registry.members(service)
    registry.close()
