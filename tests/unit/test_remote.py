"""A hit in the owner's memory needs no Python, but for the cases in which the store asks Python after all."""

from __future__ import annotations

import gc
import itertools
import json
import weakref
from typing import Any

import pytest

from kamacache._engine import Clock, Flag, Hlc, Placement, Remote, Store, Transport
from kamacache.errors import InvalidKey, PeerError, UnknownGroup
from kamacache.net.messages import WriteItem
from tests.unit.wire import VERSION, make_store, silent

THEIRS = ["k", "empty", "gone", "nothing"]  # see make_users
TABLES = (Placement([(f"here{n}", 1.0), (f"there{n}", 1.0)]) for n in itertools.count())
TABLE = next(table for table in TABLES if all(table.owner(key) == 1 for key in THEIRS))
OURS = next(key for key in map(str, range(100)) if TABLE.owner(key) == 0)
PEER = "the peer"


class Asker:
    """A store that asks another by itself, and its questions to Python."""

    def __init__(self, client: Transport, address: str, *, near: bool = True, decode: Any = None) -> None:
        self.down = Flag()
        self.missed: list[tuple[Any, ...]] = []
        self.kept: list[tuple[str, Any]] = []
        self.suspected: list[tuple[Any, Exception]] = []
        self.store = make_store(decode=decode)
        self.store.on_miss = self._miss
        self.store.remote = Remote(
            client,
            TABLE,
            [None, (address, self.down, PEER)],
            timeout=0.25,
            keep=self._keep if near else None,
            suspect=lambda peer, error: self.suspected.append((peer, error)),
        )

    def _miss(self, *arguments: Any) -> str:
        self.missed.append(arguments)
        return "missed"

    def _keep(self, key: str, found: Any, asked: float) -> None:
        assert asked > 0
        self.kept.append((key, found))

    def counted(self, *names: str) -> list[int]:
        return [self.store.stats()[name] for name in names]


def test_hit_in_the_owners_memory(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    assert asker.store.get("k") == b"value"
    assert asker.store.get("empty") == b""
    assert asker.store.get("gone") is None
    assert asker.missed == []
    assert asker.counted("gets", "peer_hits", "absent", "hits") == [3, 2, 1, 0]


def test_nothing_there_is_a_miss_that_was_asked(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    assert asker.store.get("nothing") == "missed"
    assert asker.missed == [("nothing", True)]
    assert asker.counted("gets", "peer_hits") == [1, 0]


def test_own_keys_ask_no_peer(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    assert asker.store.get(OURS) == "missed"
    assert asker.missed == [(OURS,)]


def test_a_peer_considered_dead_is_not_asked(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    asker.down.set(True)
    assert asker.store.get("k") == "missed"
    assert asker.missed == [("k",)]
    asker.down.set(False)
    assert asker.store.get("k") == b"value"


def test_while_writes_are_pending_python_decides(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    asker.store.pending = True
    assert asker.store.get("k") == "missed"
    assert asker.missed == [("k",)]
    asker.store.pending = False
    assert asker.store.get("k") == b"value"


@pytest.mark.parametrize("how", ["write", "clear"])
def test_an_answer_older_than_the_known_version_is_refused(client: Transport, address: str, how: str) -> None:
    asker = Asker(client, address)
    if how == "write":
        asker.store.note("k", VERSION + 1)
    else:
        asker.store.clear(VERSION + 1)
    assert asker.store.get("k") == "missed"
    assert asker.missed == [("k", True)]


def test_as_new_as_known_here_is_taken(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    asker.store.note("k", VERSION)
    assert asker.store.get("k") == b"value"


def test_a_peer_that_does_not_answer_is_suspected(client: Transport) -> None:
    with silent() as frozen:
        for address, refused in (("127.0.0.1:1", True), (frozen, False)):
            asker = Asker(client, address)
            assert asker.store.get("k") == "missed"
            assert asker.missed == [("k", True)]
            (peer, error), *others = asker.suspected
            assert (peer, others) == (PEER, [])
            assert isinstance(error, PeerError)
            assert error.refused == refused


def test_hot_values_are_handed_over_to_be_kept(client: Transport, address: str) -> None:
    asker, plain = Asker(client, address), Asker(client, address, near=False)
    for _ in range(50):  # asked so often within a second, it is worth a near copy
        assert asker.store.get("k") == b"value"
        assert plain.store.get("k") == b"value"
    key, (value, version, remaining, flags) = asker.kept[-1]
    assert (key, value, version, flags) == ("k", b"value", VERSION, Transport.HOT)
    assert 0 < remaining <= 60.0
    assert plain.kept == []


def test_an_answer_is_decoded(client: Transport, address: str) -> None:
    asker = Asker(client, address, decode=lambda raw: raw.decode().upper())
    assert asker.store.get("k") == "VALUE"


def test_an_answer_that_cannot_be_decoded_counts_and_raises(client: Transport, address: str) -> None:
    asker = Asker(client, address, decode=json.loads)
    with pytest.raises(ValueError, match="Expecting value"):
        asker.store.get("k")
    assert asker.counted("gets", "peer_hits") == [1, 1]
    assert asker.missed == []


def test_closed_store_or_transport_asks_no_peer(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    asker.store.close()
    assert asker.store.remote is None
    assert asker.store.get("k") == "missed"
    other = Asker(client, address)
    client.close()
    assert other.store.get("k") == "missed"
    assert other.missed == [("k",)]
    assert other.suspected == []


def test_a_group_without_a_node_is_collected(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    seen = weakref.ref(asker)
    del asker
    gc.collect()
    assert seen() is None


# -- batches and writes ------------------------------------------------------------------------------------------------


def batch(asker: Asker, keys: list[str]) -> tuple[list[str], dict[str, Any], dict[str, Exception]]:
    found: dict[str, Any] = {}
    failed: dict[str, Exception] = {}
    assert asker.store.remote is not None
    return asker.store.remote.get_many(asker.store, keys, found, failed), found, failed


def test_a_batch_is_asked_for_at_once(client: Transport, address: str) -> None:
    asker = Asker(client, address)
    asked = [OURS, *THEIRS]
    assert batch(asker, asked) == ([OURS, "nothing"], {"k": b"value", "empty": b""}, {})
    assert asker.counted("peer_hits", "absent") == [2, 1]
    asker.store.note("k", VERSION + 1)
    assert batch(asker, ["k"]) == (["k"], {}, {})
    asker.down.set(True)
    assert batch(asker, asked) == (asked, {}, {})


def test_a_batch_with_values_that_cannot_be_decoded(client: Transport, address: str) -> None:
    asker = Asker(client, address, decode=json.loads)
    missing, found, failed = batch(asker, ["k", "gone"])
    assert (missing, found, list(failed)) == ([], {}, ["k"])


def test_a_batch_for_a_peer_that_does_not_answer(client: Transport) -> None:
    with silent() as address:
        asker = Asker(client, address)
        assert batch(asker, ["k", "gone"]) == (["k", "gone"], {}, {})
    ((peer, error),) = asker.suspected
    assert peer is PEER
    assert isinstance(error, PeerError)


class Writers:
    """An asker and the owner of THEIRS, which is its only listener."""

    def __init__(self, client: Transport, server: Transport, address: str) -> None:
        clock = Clock(manual=True, unix=1000.0)
        self.asker = Asker(client, address)
        self.owner = make_store()
        self.asker.store.order_by(Hlc(clock, 1))
        self.owner.order_by(Hlc(clock, 2))
        server.serve(self.owner)

    def write(
        self, *items: WriteItem, to: list[str], within: float = 0.3
    ) -> tuple[list[int | None], list[int], list[tuple[str, Exception]]]:
        assert self.asker.store.remote is not None
        return self.asker.store.remote.write(self.asker.store, items, to, within)


def test_a_write_is_ordered_by_its_owner_and_told(client: Transport, server: Transport, address: str) -> None:
    both = Writers(client, server, address)
    here, there = both.asker.store, both.owner
    there.put(OURS, b"old", 1, None, Store.NEAR)
    here.put("k", b"old", 1, None, Store.NEAR)
    items = [WriteItem(OURS, b"mine"), WriteItem("k", b"yours"), WriteItem("empty", None)]
    versions, greater, failed = both.write(*items, to=[address])
    assert (greater, failed) == ([0, 0, 0], [])
    assert [here.find(OURS), there.find("k")] == [
        (b"mine", versions[0], None, Store.MAIN),
        (b"yours", versions[1], None, Store.MAIN),
    ]
    assert [there.known(OURS), here.known("k"), here.known("empty")] == versions
    assert (there.find(OURS), here.find("k")) == (None, None)


def test_a_listener_that_knows_a_greater_version_says_so(client: Transport, server: Transport, address: str) -> None:
    both = Writers(client, server, address)
    far = 5_000_000 << 80
    both.owner.note(OURS, far)
    versions, greater, failed = both.write(WriteItem(OURS, b"mine"), to=[address])
    assert (greater, failed) == ([far], [])
    (again,), greater, failed = both.write(WriteItem(OURS, b"mine", None, far, versions[0] or 0), to=[address])
    assert (again or 0) > far
    assert (greater, failed) == ([0], [])


def test_a_write_that_its_owner_refuses_or_does_not_answer(client: Transport, server: Transport, address: str) -> None:
    both = Writers(client, server, address)
    both.owner.place(None, 1)
    assert both.write(WriteItem("k", b"v"), to=[address]) == ([None], [0], [])
    server.hide("users")
    versions, _, ((where, error),) = both.write(WriteItem("k", b"v"), to=[address])
    assert (versions, where) == ([None], address)
    assert isinstance(error, UnknownGroup)
    with silent() as nowhere:
        asker = both.asker = Asker(client, nowhere)
        asker.store.order_by(Hlc(Clock(), 1))
        versions, _, failed = both.write(WriteItem("k", b"v"), WriteItem(OURS, b"v"), to=[nowhere], within=0.1)
    assert versions[0] is None
    assert asker.store.get(OURS) == b"v"
    assert [where for where, _ in failed] == [nowhere]


def test_bad_items_of_a_write(client: Transport, server: Transport, address: str) -> None:
    both = Writers(client, server, address)
    with pytest.raises(InvalidKey):
        both.write(WriteItem("", b"v"), to=[address])
    with pytest.raises(TypeError):
        both.write(WriteItem("k", "text"), to=[address])  # type: ignore[arg-type]
