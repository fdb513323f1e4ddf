"""A node without a loader says NoLoader only if no member that has one can be asked; each docstring is the schedule."""

from __future__ import annotations

import asyncio

import pytest

from kamacache import NoLoader
from kamacache.errors import PeerError
from kamacache.testing import Ping
from tests.cluster.cluster import wait_until
from tests.cluster.shop import KEYS, Shop, load, users

KEY = KEYS[0]


def candidates(shop: Shop) -> list[str]:
    """Return the addresses of those that the last node asks for a key, in order."""
    return [peer.address for peer in shop.nodes[-1]._membership.route("users").candidates(KEY)]


@pytest.mark.parametrize("client", [True, False], ids=["client", "member"])
def test_it_asks_the_last_candidate_after_all_others_were_silent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, *, client: bool
) -> None:
    """Ask on when the second is over after which a node with a loader loads by itself."""
    monkeypatch.setattr("kamacache.load.remote.PATIENCE", 0.05)
    webs = [shop.add(load) for _ in range(3)]
    group = users(shop.add(client=client))
    shop.agree(*webs)
    for address in candidates(shop)[:-1]:
        shop.network.freeze(address)
    assert group.get(KEY) == load(KEY)


def test_it_asks_others_if_all_candidates_of_the_key_are_silent(shop: Shop) -> None:
    """Name them all to one that is none of the four candidates, and loads for them."""
    webs = [shop.add(load) for _ in range(5)]
    group = users(shop.add(client=True))
    shop.agree(*webs)
    for address in candidates(shop):
        shop.network.freeze(address)
    assert group.get_many([KEY]) == {KEY: load(KEY)}


def test_it_asks_members_that_it_doubts_before_it_gives_up(shop: Shop) -> None:
    """Ask those that did not answer in time: all, perhaps, after a standstill of this process, until a ping is back."""
    webs = [shop.add(load) for _ in range(2)]
    client = shop.add(client=True)
    shop.agree(*webs)
    pings = shop.network.gate(Ping, source=client.address)
    pings.wait()
    for peer in client._membership.peers.all():
        client._membership.doubt(peer, PeerError("the test says so"))
        assert peer.skipped
    assert users(client).get(KEY) == load(KEY)
    assert asyncio.run(users(client).aget(KEYS[1])) == load(KEYS[1])
    pings.open()


@pytest.mark.parametrize("client", [True, False], ids=["client", "member"])
def test_a_list_that_was_emptied_does_not_hide_members_that_live(shop: Shop, *, client: bool) -> None:
    """Ask those that were listed before, until they are listed again or have gone.

    1. The registry loses all that it knew. A and B live, and have not registered again yet.
    2. C, which has no loader, asks them. Its write is ordered by one of them.
    3. A and B leave: C says NoLoader.
    """
    webs = [shop.add(load) for _ in range(2)]
    third = shop.add(client=client)
    shop.agree(*webs)
    for node in webs:
        shop.network.unregister(node.address or "")
    wait_until(lambda: not third._membership.peers.registered())
    third._membership._build()
    assert {key: users(third).get(key) for key in KEYS[:10]} == {key: load(key) for key in KEYS[:10]}
    assert users(third).set(KEYS[0], b"set") is True
    assert any(users(node).peek(KEYS[0]) == b"set" for node in webs)
    for node in webs:
        node.close(drain=0)
    wait_until(lambda: third._membership.route("users").first(KEY) is None)
    with pytest.raises(NoLoader):
        users(third).get(KEYS[11])
