"""Writes that meet a clear, or the delete of a prefix, of another member: True as soon as nothing older is served."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Group
from kamacache.net.messages import TellRequest
from kamacache.testing import Gate, Parcel
from tests.cluster.cluster import Cluster, in_thread

OLD, NEW = b"old", b"new"

DROPS: dict[str, Callable[[Group[bytes]], bool]] = {
    "clear": lambda group: group.clear(),
    "delete_prefix": lambda group: group.delete_prefix("key"),
}
WRITES: dict[str, Callable[[Group[bytes], str], bool]] = {
    "set": lambda group, key: group.set(key, NEW),
    "set_many": lambda group, key: group.set_many({key: NEW, "another": NEW}),
    "delete": lambda group, key: group.delete(key),
    "remove": lambda group, key: group.remove(key).confirmed,
    "delete_tag": lambda group, key: group.delete_tag(key),
    "clear": lambda group, _: group.clear(),
    "delete_prefix": lambda group, _: group.delete_prefix("key"),
}


def before_each_notice(
    cluster: Cluster, source: str | None, target: str | None, act: Callable[[], Any]
) -> list[Parcel]:
    """Act whenever a notice from one member is about to arrive at another. Return the notices, which grow in number."""
    notices: list[Parcel] = []
    acting = threading.Lock()

    def matches(parcel: Parcel) -> bool:
        ours = parcel.stage == "request" and isinstance(parcel.message, TellRequest)
        if ours and (parcel.source, parcel.target) == (source, target) and acting.acquire(blocking=False):
            notices.append(parcel)
            act()
            acting.release()
        return False

    cluster.network._gates.append(Gate(matches))
    return notices


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("write", WRITES)
def test_a_write_whose_every_notice_meets_a_new_drop(write: str, drop: str) -> None:
    """Confirm a write although others drop keys all the time: they began later, and have superseded it.

    1. A writes; B, the owner, orders it. Before the notice arrives at C, C drops the key everywhere: True.
    2. C knows a greater version. The write is ordered anew; before that notice arrives, C drops the key again.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(b)
        cluster.assert_serves(key, OLD)
        cluster.source.value = NEW
        dropped: list[bool] = []
        group = cluster.group(c)
        notices = before_each_notice(cluster, a.address, c.address, lambda: dropped.append(DROPS[drop](group)))
        assert WRITES[write](cluster.group(a), key) is True
        assert dropped
        assert all(dropped)
        assert len(notices) <= 4, "the number of rounds does not depend on what others do"
        cluster.network._gates.clear()
        cluster.assert_serves(key, NEW)


def test_a_value_is_not_ordered_above_a_clear_that_has_returned_true() -> None:
    """Keep a value that a clear has dropped from coming back.

    1. A sets a key that B owns; its notice to C is held.
    2. The source changes, and C clears the group: True.
    3. C knows a greater version than that of the set. It is ordered anew, without its value: True.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(b)
        notice = cluster.network.gate(TellRequest, source=a.address, target=c.address)
        first = in_thread(cluster.group(a).set, key, OLD)
        notice.wait()
        cluster.source.value = NEW
        assert cluster.group(c).clear() is True
        notice.open()
        assert first.result(5) is True
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_copy_under_a_clear_that_the_owner_learns_of_in_the_middle(*, by_name: bool) -> None:
    """Drop what a listener has loaded since a clear, before a write that the clear does not supersede.

    1. C has cleared its copy by a clock that is ahead, B does not know. C loads a key itself: its copy is that new.
    2. The source changes. A deletes the key: B orders it, and learns of the clear before the notice arrives at C; or
       it is told that there is something later than what it has of the key, as a node does that has asked B for it.
    3. C knows a greater version. The delete is ordered anew above it: C has dropped its copy.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = next(key for key in map(str, range(1000)) if cluster.line(key) == [b, c, a])
        floor = (1_001_000 << 80) + 1  # a second ahead, of another node
        cluster.group(c)._core.store.clear(floor)
        probes = cluster.consider_dead(c, b)
        assert cluster.group(c).get(key) == OLD
        assert cluster.group(c).peek(key) == OLD
        cluster.source.value = NEW
        at_b = cluster.group(b)._core.store
        learns = (lambda: at_b.note(key, floor)) if by_name else (lambda: at_b.clear(floor))
        notices = before_each_notice(cluster, a.address, c.address, learns)
        assert cluster.group(a).delete(key) is True
        assert len(notices) == 2
        assert cluster.group(c).peek(key) is None
        probes.open()
        cluster.assert_serves(key, NEW)


def test_a_write_that_a_later_one_superseded_below_a_clear() -> None:
    """Confirm a write whose owner has ordered a later one, both before it learned of a clear.

    1. A deletes a key that B owns; its notice to C is held. B sets the key; its notice to C is held, too.
    2. C clears; its notices are held. A's notice arrives: C knows a greater version than B has given to either.
    3. All notices pass: all three are confirmed.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(b)
        deleting, setting = (cluster.network.gate(TellRequest, source=n.address, target=c.address) for n in (a, b))
        clearing = cluster.network.gate(TellRequest, source=c.address)
        deletes = in_thread(cluster.group(a).delete, key)
        deleting.wait()
        cluster.source.value = NEW
        sets = in_thread(cluster.group(b).set, key, NEW)
        setting.wait()
        store = cluster.group(c)._core.store
        store.clear(cluster.group(b)._core.store.known(key) + (1_000 << 80))
        clears = in_thread(cluster.group(c).clear)
        clearing.wait()
        deleting.open()
        assert deletes.result(5) is True
        setting.open()
        clearing.open()
        assert sets.result(5) is True
        assert clears.result(5) is True
        cluster.assert_serves(key, NEW)
