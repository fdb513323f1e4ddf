"""Calls over gRPC between two transports: messages, refusals, frozen and busy peers, closing."""

from __future__ import annotations

import os
import time

import pytest

from kamacache._engine import Clock, Hlc, Incoming, Placement, Promise, Store, Transport
from kamacache.errors import NodeClosed, Overloaded, PeerError, UnknownGroup
from kamacache.net.messages import (
    Answer,
    ClientRequest,
    Contact,
    GroupState,
    Hello,
    LoadReply,
    LoadRequest,
    Member,
    Reply,
    Request,
    TellReply,
    TellRequest,
    WriteItem,
    WriteReply,
    WriteRequest,
)
from tests.unit.wire import VERSION, answering, called, ended, make_store, outcome, silent

ABOVE = 2_000_000 << 80  # a version of 2,000 seconds after 1970
HELLO = Hello(Member("i", None), 0, [])
MESSAGES: list[tuple[Request, Reply]] = [
    (
        Hello(
            Member("i", "1.2.3.4:5", 1.5, ("a", "b"), loads=("b",), client=True),
            VERSION,
            [GroupState("a", "json", 4, ("loader: app.load", "ttl: None"))],
            Contact("i", 7, 5, 3, 8),
            gone=("a", "b"),
            left=(Member("away", "1.2.3.4:6", groups=("a",), leaving=True, revision=2),),
        ),
        Hello(Member("other", None), 0, [], leaving=True),
    ),
    (
        LoadRequest("users", ["1", "2"], ["dead"], 3, VERSION),
        LoadReply(
            [
                Answer(b"", VERSION, 1.5, hot=True),
                Answer(),
                Answer(too_large=True),
                Answer(error_type="E"),
                Answer(later=True),
            ],
            7,
        ),
    ),
]


@pytest.mark.parametrize(("message", "reply"), MESSAGES, ids=lambda m: type(m).__name__)
def test_messages_arrive_as_they_were(
    client: Transport, server: Transport, address: str, message: Request, reply: Reply
) -> None:
    received: list[Request | ClientRequest] = []

    def answer(incoming: Incoming) -> Reply:
        received.append(incoming.message)
        incoming.accept()
        return reply

    thread = answering(server, answer)
    assert outcome(client, address, message) == reply
    assert received == [message]
    server.close()
    thread.join(5)


def test_writes_are_answered_without_python(client: Transport, server: Transport, address: str) -> None:
    clock = Clock(manual=True, unix=1000.0)
    hlc, store = Hlc(clock, 7), make_store(clock=clock)
    server.serve(store)
    write = WriteRequest("users", [WriteItem("k", b"v", 0.0001), WriteItem("d", None, above=ABOVE)], clock=9)
    assert outcome(client, address, write) == WriteReply([], refused=True)  # the node lends no clock yet
    store.order_by(hlc)
    late = write._replace(until_ms=1_999_999)
    assert outcome(client, address, late) == WriteReply([], refused=True, clock=ABOVE, now_ms=2_000_000)
    write = write._replace(until_ms=2_000_000)
    reply = outcome(client, address, write)
    assert isinstance(reply, WriteReply)
    first, second = reply.versions
    assert ABOVE < second == reply.clock == store.known("d")
    assert store.find("k") == (b"v", first, 0.001, Store.MAIN)  # a short time is not rounded to nothing
    assert [store.get("k"), store.get_many(["k", "d"])[0], store.get("k")] == [b"v", {"k": b"v"}, b"v"]
    again = [WriteItem("k", b"w", above=second, ordered=first), WriteItem("d", b"w", ordered=second)]
    third, fourth = outcome(client, address, WriteRequest("users", again)).versions
    assert fourth > third > second
    after = [WriteItem("k", b"x", above=second, ordered=first)]
    assert outcome(client, address, WriteRequest("users", after)).versions == [store.known("k")]
    assert store.get("k") == b"w"

    told = outcome(client, address, TellRequest("users", [("k", fourth + 1), ("d", 1)], floor=first, clock=9))
    assert told == TellReply([0, fourth], 0, hlc.latest())
    assert store.get("k") is None
    assert outcome(client, address, TellRequest("users", [], floor=fourth + 2)).floor == 0
    assert outcome(client, address, TellRequest("users", [], floor=first)).floor == fourth + 2
    for far in (
        TellRequest("users", [("k", VERSION)]),
        TellRequest("users", [], VERSION),
        TellRequest("users", [], 0, VERSION),
    ):
        assert "a day ahead" in str(outcome(client, address, far))
    assert "a day ahead" in str(outcome(client, address, WriteRequest("users", [WriteItem("k", None, above=VERSION)])))
    assert hlc.latest() < VERSION
    assert outcome(client, address, TellRequest("nobody's", [("k", 1)])) == TellReply([0])

    placement = Placement([("me", 1.0), *((str(number), 1.0) for number in range(9))])
    store.place(placement, 0)
    candidate, other = (
        next(key for key in map(str, range(999)) if (0 in placement.candidates(key)) is mine) for mine in (True, False)
    )
    items = [WriteItem(candidate, b"v")]
    assert outcome(client, address, WriteRequest("users", items)).versions
    assert outcome(client, address, WriteRequest("users", [*items, WriteItem(other, b"v")])).refused
    assert store.get(other) is None


@pytest.mark.parametrize(
    "message",
    [
        WriteRequest("users", []),
        WriteRequest("users", [WriteItem("", b"v")]),
        WriteRequest("users", [WriteItem("k" * 65_537, b"v")]),
        TellRequest("users", [("", 1)]),
    ],
    ids=["nothing", "no key", "long key", "tell"],
)
def test_bad_writes_are_refused(client: Transport, server: Transport, address: str, message: Request) -> None:
    server.serve(make_store())
    assert isinstance(outcome(client, address, message), PeerError)


def test_write_of_a_group_that_is_not_there(client: Transport, server: Transport, address: str) -> None:
    assert isinstance(outcome(client, address, WriteRequest("g", [WriteItem("k", None)])), UnknownGroup)


@pytest.mark.parametrize(
    ("status", "error"),
    [("overloaded", Overloaded), ("unknown_group", UnknownGroup), ("closed", PeerError), ("internal", PeerError)],
)
@pytest.mark.parametrize("message", [LoadRequest("g", ["k"]), HELLO], ids=["load", "hello"])
def test_refusals(
    client: Transport, server: Transport, address: str, status: str, error: type[Exception], message: Request
) -> None:
    client.call("t", address, message, None)
    called(server).fail(status, "because")
    _, failed = ended(client)
    assert type(failed) is error
    assert "because" in str(failed)


@pytest.mark.parametrize("message", [LoadRequest("g", ["k"]), HELLO], ids=["load", "hello"])
def test_a_dropped_call_fails(client: Transport, server: Transport, address: str, message: Request) -> None:
    client.call("t", address, message, None)
    called(server)
    assert isinstance(ended(client)[1], PeerError)


def test_no_peer_at_the_address(client: Transport) -> None:
    failed = outcome(client, "127.0.0.1:1", HELLO)
    assert isinstance(failed, PeerError)
    assert failed.refused
    assert str(failed) == "127.0.0.1:1 refused the connection"


def test_a_load_must_be_accepted_soon_and_may_then_take_long(
    client: Transport, server: Transport, address: str
) -> None:
    begun = time.monotonic()
    assert isinstance(outcome(client, address, LoadRequest("g", ["k"])), PeerError)  # no node takes it
    assert 0.45 < time.monotonic() - begun < 1.0
    called(server)
    client.call("slow", address, LoadRequest("g", ["k"]), None)
    incoming = called(server)
    incoming.accept()
    assert client.next_event(1.2) is None
    incoming.reply(LoadReply([Answer(b"v")]))
    assert ended(client) == ("slow", LoadReply([Answer(b"v")]))
    with pytest.raises(RuntimeError, match="answered already"):
        incoming.reply(LoadReply([]))


def test_wrong_answers_are_refused(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, HELLO, None)
    incoming = called(server)
    with pytest.raises(RuntimeError, match="another question"):
        incoming.reply(LoadReply([]))
    with pytest.raises(ValueError, match="not a status"):
        incoming.fail("tired")
    incoming.reply(HELLO)
    assert ended(client) == ("t", HELLO)


def test_large_messages(client: Transport, server: Transport, address: str) -> None:
    value = os.urandom(6 << 20)
    thread = answering(server, lambda _: LoadReply([Answer(value)]))
    assert outcome(client, address, LoadRequest("g", ["k"])).answers[0].value == value
    assert isinstance(outcome(client, address, WriteRequest("g", [WriteItem("k", value * 2)])), PeerError)
    server.close()
    thread.join(5)


def test_a_frozen_peer_fails_all_that_waits_on_it(client: Transport) -> None:
    with silent() as frozen:
        begun = time.monotonic()
        for token in range(3):
            client.call(token, frozen, HELLO, None)
        failed = [ended(client) for _ in range(3)]
        assert 0.5 < time.monotonic() - begun < 1.2
    assert sorted(token for token, _ in failed) == [0, 1, 2]
    assert all(isinstance(error, PeerError) for _, error in failed)


def test_a_busy_peer_is_not_a_frozen_one(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, HELLO, None)
    assert client.next_event(1.5) is None
    called(server).reply(HELLO)
    assert ended(client) == ("t", HELLO)


def test_a_peer_that_ends_fails_its_calls_and_may_come_back(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, HELLO, None)
    incoming = called(server)
    server.close()
    begun = time.monotonic()
    assert isinstance(ended(client)[1], PeerError)
    assert time.monotonic() - begun < 0.5
    incoming.reply(HELLO)  # to no peer
    again = Transport(max_message=1 << 20)
    assert again.listen(address) == address
    client.call("t", address, HELLO, None)
    called(again).reply(HELLO)
    assert ended(client) == ("t", HELLO)
    again.close()


def test_timeout_forget_and_close(client: Transport, server: Transport, address: str) -> None:
    begun = time.monotonic()
    assert "did not answer within 100 ms" in str(outcome(client, address, HELLO, 0.1))
    assert time.monotonic() - begun < 0.5
    calls = [called(server)]
    client.call("forgotten", address, HELLO, None)
    calls.append(called(server))
    client.forget(address)
    token, error = ended(client)
    assert token == "forgotten"  # noqa: S105 - a call's name
    assert isinstance(error, PeerError)
    last = Promise()
    client.call(last, address, HELLO, None)
    calls.append(called(server))
    client.close()
    assert isinstance(last.exception(), NodeClosed)
    assert client.next_event(0.0) is None
    with pytest.raises(NodeClosed):
        client.call("t", address, HELLO, None)
