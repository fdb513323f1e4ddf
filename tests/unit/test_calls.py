"""Calls over gRPC between two transports: messages, refusals, frozen and busy peers, closing."""

from __future__ import annotations

import os
import threading
import time

import pytest

from kamacache._engine import Incoming, Transport
from kamacache.errors import Overloaded, PeerError, UnknownGroup
from kamacache.net.messages import (
    Answer,
    ClientRequest,
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
from tests.unit.wire import VERSION, answering, called, ended, outcome, silent

TELL = TellRequest("g", [])
MESSAGES: list[tuple[Request, Reply]] = [
    (
        Hello(Member("i", "1.2.3.4:5", 1.5, ("a", "b")), VERSION, [GroupState("a", "json", 4, [("k", 1)])]),
        Hello(Member("other", None), 0, [], leaving=True),
    ),
    (
        LoadRequest("users", ["1", "2"], ["dead"], 3, VERSION),
        LoadReply(
            [Answer(b"", VERSION, 1.5, hot=True), Answer(), Answer(too_large=True), Answer(error_type="E")],
            7,
        ),
    ),
    (
        WriteRequest("users", [WriteItem("k", b"v", 0.001, 9), WriteItem("d", None)], skipped=[], clock=1),
        WriteReply([VERSION, 0], refused=True, members=[Member("id", "unix:/x")]),
    ),
    (TellRequest("users", [("k", VERSION)], 3, 5), TellReply([0, VERSION], 2, 1)),
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


def test_a_short_time_is_not_rounded_to_nothing(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, WriteRequest("g", [WriteItem("k", b"v", 0.0001), WriteItem("k", b"v", 1.2349)]), None)
    message = called(server).message
    assert isinstance(message, WriteRequest)
    assert [item.ttl for item in message.items] == [0.001, 1.234]


@pytest.mark.parametrize(
    ("status", "error"),
    [("overloaded", Overloaded), ("unknown_group", UnknownGroup), ("closed", PeerError), ("internal", PeerError)],
)
@pytest.mark.parametrize("message", [LoadRequest("g", ["k"]), TELL], ids=["load", "tell"])
def test_refusals(
    client: Transport, server: Transport, address: str, status: str, error: type[Exception], message: Request
) -> None:
    client.call("t", address, message, None)
    called(server).fail(status, "because")
    _, failed = ended(client)
    assert type(failed) is error
    assert "because" in str(failed)


@pytest.mark.parametrize("message", [LoadRequest("g", ["k"]), TELL], ids=["load", "tell"])
def test_a_dropped_call_fails(client: Transport, server: Transport, address: str, message: Request) -> None:
    client.call("t", address, message, None)
    called(server)
    assert isinstance(ended(client)[1], PeerError)


def test_no_peer_at_the_address(client: Transport) -> None:
    failed = outcome(client, "127.0.0.1:1", TELL)
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
    client.call("t", address, TELL, None)
    incoming = called(server)
    with pytest.raises(RuntimeError, match="another question"):
        incoming.reply(LoadReply([]))
    with pytest.raises(ValueError, match="not a status"):
        incoming.fail("tired")
    incoming.reply(TellReply([]))
    assert ended(client) == ("t", TellReply([]))


def test_a_write_of_nothing_is_refused(client: Transport, server: Transport, address: str) -> None:
    """Refuse it, as an empty request asks for nothing that a node knows and would be answered as done."""
    error = outcome(client, address, WriteRequest("g", []))
    assert isinstance(error, PeerError)
    assert "a write has at least one item" in str(error)
    assert server.next_event(0) is None


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
            client.call(token, frozen, TELL, None)
        failed = [ended(client) for _ in range(3)]
        assert 0.5 < time.monotonic() - begun < 1.2
    assert sorted(token for token, _ in failed) == [0, 1, 2]
    assert all(isinstance(error, PeerError) for _, error in failed)


def test_a_busy_peer_is_not_a_frozen_one(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, TELL, None)
    assert client.next_event(1.5) is None
    called(server).reply(TellReply([]))
    assert ended(client) == ("t", TellReply([]))


def test_a_peer_that_ends_fails_its_calls_and_may_come_back(client: Transport, server: Transport, address: str) -> None:
    client.call("t", address, TELL, None)
    incoming = called(server)
    server.close()
    begun = time.monotonic()
    assert isinstance(ended(client)[1], PeerError)
    assert time.monotonic() - begun < 0.5
    incoming.reply(TellReply([]))  # to no peer
    again = Transport(max_message=1 << 20)
    assert again.listen(address) == address
    client.call("t", address, TELL, None)
    called(again).reply(TellReply([]))
    assert ended(client) == ("t", TellReply([]))
    again.close()


def test_timeout_forget_and_close(client: Transport, server: Transport, address: str) -> None:
    begun = time.monotonic()
    assert "did not answer within 100 ms" in str(outcome(client, address, TELL, 0.1))
    assert time.monotonic() - begun < 0.5
    calls = [called(server)]
    client.call("forgotten", address, TELL, None)
    calls.append(called(server))
    client.forget(address)
    token, error = ended(client)
    assert token == "forgotten"  # noqa: S105 - a call's name
    assert isinstance(error, PeerError)
    client.call("closed", address, TELL, None)
    calls.append(called(server))
    closing = threading.Timer(0.1, client.close)
    closing.start()
    token, error = ended(client)
    assert token == "closed"  # noqa: S105
    assert isinstance(error, PeerError)
    assert client.next_event(5.0) is None
    closing.join()
    with pytest.raises(PeerError, match="closed"):
        client.call("t", address, TELL, None)
