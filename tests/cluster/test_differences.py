"""Members whose groups differ in loader, codec or options warn of each difference once, on both sides."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kamacache.cluster.differences import Differences
from kamacache.member import Member
from kamacache.net.messages import GroupState
from tests.cluster.cluster import wait_until
from tests.cluster.shop import Shop, load, load_many, load_other


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def awaited(caplog: pytest.LogCaptureFixture, count: int) -> list[str]:
    """Wait for that many warnings, which the nodes log in threads of their own, and return all."""
    wait_until(lambda: len(warnings(caplog)) >= count)
    return warnings(caplog)


def both(
    shop: Shop, caplog: pytest.LogCaptureFixture, first: dict[str, Any], second: dict[str, Any], count: int = 0
) -> list[str]:
    """Return the warnings of two members with these options after several hellos, and no fewer than `count`."""
    nodes = [shop.add(**first), shop.add(**second)]
    for node in nodes:
        node.group("later")  # says hello again
    wait_until(lambda: all(not peer.dead and peer.greeted for node in nodes for peer in node._membership.peers.all()))
    found = awaited(caplog, count)
    for text in found:
        assert text.startswith("group 'users': ")
        assert all(str(node.address) in text for node in nodes)
    return found


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"loader": load}, {"loader": load_other}, [f"{load.__module__}.load at", f"{load.__module__}.load_other at"]),
        ({"loader": load}, {"loader": load, "load_many": load_many}, ["none at", f"{load_many.__module__}.load_many"]),
        ({"loader": load}, {}, ["has no loader", f"{load.__module__}.load;"]),
        ({"loader": load, "codec": "text"}, {"loader": load}, ["text at", "bytes at"]),
        ({"loader": load, "ttl": "1h"}, {"loader": load}, ["3600.0 at", "None at"]),
        ({"loader": load, "max_bytes": "1 MiB"}, {"loader": load}, ["1048576 at", "67108864 at"]),
    ],
    ids=["loader", "load_many", "none", "codec", "ttl", "max_bytes"],
)
def test_a_difference_is_warned_of_once_on_both_sides(
    shop: Shop, caplog: pytest.LogCaptureFixture, first: dict[str, Any], second: dict[str, Any], says: list[str]
) -> None:
    found = both(shop, caplog, first, second, 2)
    assert len(found) == 2
    assert all(part in text for part in says for text in found)


def test_each_difference_has_its_line(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    first, second = {"loader": load, "ttl": "1h", "codec": "json"}, {"loader": load_other, "near_ttl": 1}
    found = both(shop, caplog, first, second, 8)
    assert len(found) == 8
    assert {text.split()[2] for text in found} == {"loader", "ttl", "codec", "near_ttl"}


def test_members_that_are_alike_warn_of_nothing(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    assert both(shop, caplog, {"loader": load, "ttl": "1h"}, {"loader": load, "ttl": 3600}) == []


def test_a_client_is_not_warned_of_for_lacking_a_loader(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Warn of what decides how it reads and writes alone: at the members of the codec, at the client of the ttl too."""
    web, other = shop.add(load, ttl="1h"), shop.add(load, ttl="1h")
    client = shop.add(client=True, max_bytes="1 MiB")
    (text,) = awaited(caplog, 1)
    assert text.startswith("group 'users': ttl is None at " + str(client.address))
    assert web.address in text or other.address in text  # type: ignore[operator]
    caplog.clear()
    shop.add(client=True, codec="text", ttl="1h")
    found = awaited(caplog, 3)
    assert {text.split()[2] for text in found} == {"codec"}
    assert len(found) == 3  # two members and the client


def test_a_member_that_keeps_what_others_load_may_differ(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The functions of a get_or_load run elsewhere, and nobody can give `kamacache serve --group` their codec."""
    shop.add()
    assert both(shop, caplog, {"codec": "text", "ttl": "1h"}, {"codec": "text", "ttl": "1h"}) == []
    shop.add(client=True, codec="text", ttl="1h")
    assert warnings(caplog) == []
    shop.add(client=True)
    assert {text.split()[2] for text in awaited(caplog, 2)} == {"codec", "ttl"}  # it reads what others wrote as text


def test_a_node_that_does_not_know_its_address_yet_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Take in a hello while the registry is still asked which address is this node's, as when DNS is silent."""
    me, other = Member("id", None), Member("another id", "10.0.0.2:8001")
    for loader in ("none", "shop.load"):
        theirs = GroupState("users", "bytes", 0, ["ttl: 600.0", f"loader: {loader}"])
        Differences().look(me, {"ttl": None, "loader": "none"}, other, theirs)
    ttl, lacking, _ = warnings(caplog)
    assert ttl.startswith("group 'users': ttl is None at this node and 600.0 at 10.0.0.2:8001; ")
    assert lacking.startswith("group 'users': this node has no loader, 10.0.0.2:8001 has shop.load; this node owns no ")
