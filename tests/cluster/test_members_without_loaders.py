"""A member without a loader owns no keys that others can load, and never says that a key does not exist."""

from __future__ import annotations

import pytest

from kamacache import GroupExists, LoadError, NoLoader, UnknownGroup
from kamacache.net.messages import Hello
from tests.cluster.cluster import ask_directly, wait_until
from tests.cluster.shop import KEYS, Shop, load, load_many, load_other, users


def test_members_with_the_loader_own_all_keys(shop: Shop) -> None:
    web, task, other = shop.add(load), shop.add(), shop.add(load)
    shop.agree(web, other)
    for node in shop.nodes:
        assert {key: users(node).get(key) for key in KEYS} == {key: load(key) for key in KEYS}
        assert users(node).get_many(KEYS) == {key: load(key) for key in KEYS}
    tables = {tuple(node.owner("users", key).address for key in KEYS) for node in shop.nodes}
    assert len(tables) == 1
    assert users(task).delete(KEYS[0]) is True
    assert users(task).stats().loads == 0


def test_load_many_counts_as_a_loader(shop: Shop) -> None:
    web = shop.add(load_many=load_many)
    shop.add()
    shop.agree(web)


def test_a_group_without_any_loader_belongs_to_all(shop: Shop) -> None:
    first, second = shop.add(), shop.add()
    shop.agree(first, second)
    assert users(first).get("nothing") is None
    assert users(first).set_many(dict.fromkeys(KEYS, b"v")) is True
    assert users(second).get_many(KEYS) == dict.fromkeys(KEYS, b"v")


def test_what_was_set_before_the_first_loader_came_is_not_lost(shop: Shop) -> None:
    first, second = shop.add(), shop.add()
    shop.agree(first, second)
    assert users(first).set_many(dict.fromkeys(KEYS, b"set")) is True
    web = shop.add(load)
    shop.agree(web)
    assert users(second).get_many(KEYS) == dict.fromkeys(KEYS, b"set")
    assert users(web).stats().loads == 0


def test_a_member_whose_loaders_have_gone_does_not_say_that_keys_do_not_exist(shop: Shop) -> None:
    web, task = shop.add(load), shop.add()
    shop.agree(web)
    assert users(task).get("1") == load("1")
    web.close()
    shop.agree(task)
    with pytest.raises(NoLoader, match="no loader on this node") as caught:
        users(task).get("2")
    assert isinstance(caught.value, LoadError)
    assert caught.value.key == "2"
    assert users(task).set("3", b"set") is True
    assert users(task).get("3") == b"set"
    with pytest.raises(NoLoader) as caught:
        users(task).get_many(["3", "4"])
    assert caught.value.loaded == {"3": b"set"}
    web = shop.add(load)
    shop.agree(web)
    assert users(task).get_many(["2", "3"]) == {"2": load("2"), "3": b"set"}


def test_a_value_that_is_too_large_to_be_sent(shop: Shop) -> None:
    shop.add(lambda key: bytes(int(key)), max_bytes=80_000)
    group = users(shop.add(max_bytes=80_000))
    wait_until(lambda: group.get("10") == bytes(10))
    for get in (lambda: group.get("10000"), lambda: group.get_many(["10", "10000"])):
        with pytest.raises(NoLoader, match="too large to be kept and sent: raise max_value") as caught:
            get()
        assert caught.value.key == "10000"
    assert group.get_or_load("10000", lambda _: b"mine") == b"mine"


def test_a_peer_that_takes_it_for_an_owner_is_sent_on(shop: Shop) -> None:
    """Refuse a load for a stranger whose view is old, rather than answer that there is no such key."""
    web, task = shop.add(load), shop.add()
    shop.agree(web)
    with pytest.raises(UnknownGroup, match="no loader"):
        ask_directly(shop.network, task.address, ["1"])


def test_an_owner_that_has_lost_its_loader_is_passed_over(shop: Shop) -> None:
    """Go on to the next in line while the news of a change of announcements is under way.

    1. A and B load. B makes its group again, without a loader; its hellos are held, and the list keeps its old record.
    2. A asks B to load: B refuses, A says hello to it, and the answer is held.
    3. A loads the key itself, as the next in line.
    """
    a, b = shop.add(load), shop.add(load)
    shop.agree(a, b)
    theirs = [key for key in KEYS if a.owner("users", key).id == b.id]
    hellos = shop.network.gate(Hello, source=b.address)
    answers = shop.network.gate(Hello, stage="reply", source=a.address)
    b._registry.register = lambda *_: None  # type: ignore[union-attr,method-assign]
    users(b).close()
    b.group("users")
    assert [users(a).get(key) for key in theirs] == [load(key) for key in theirs]
    answers.wait()
    hellos.open()
    answers.open()


@pytest.mark.parametrize("decorated", [True, False])
def test_a_loader_that_is_set_later(shop: Shop, *, decorated: bool) -> None:
    """Have the routes follow when a group that was made without a loader gets one."""
    first, second = shop.add(), shop.add()
    shop.agree(first, second)
    assert users(first).set("set", b"set") is True
    group = users(second)
    if decorated:
        assert second.loader("users")(load) is group
    else:
        assert second.group("users", load) is group
    shop.agree(second)
    assert users(first).get("key") == load("key")
    assert users(first).get("set") == b"set"
    assert group.loader is load
    with pytest.raises(GroupExists):
        second.group("users", load_other)
    with pytest.raises(GroupExists):
        second.group("users")


def test_a_group_that_is_made_later(shop: Shop) -> None:
    first, second = shop.add(), shop.add(load)
    assert second.group("more", load).get("1") == load("1")
    more = first.group("more")
    wait_until(lambda: first.owner("more", "1").address == second.address)
    assert more.get("1") == load("1")
