"""The password: every protocol asks for it, every way to a peer sends it, and none shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
import pytest
import redis

from kamacache import ConfigError, Node
from kamacache._engine import Security
from kamacache.errors import PeerError
from kamacache.options import NodeOptions
from tests.cluster.cluster import wait_until
from tests.conftest import MakeTransport
from tests.security.certificates import Files
from tests.security.cluster import HELLO, all_ways, drive, hello_from, nodes, owned_by, start_all
from tests.unit.wire import BIG, VERSION, connected, ended, make_users

WRONG = "wrong password: `authorization: Bearer <password>` has that of the nodes"
SECRET = "correct-horse/battery+staple=42"  # noqa: S105 - for tests
FOUND = (b"value", VERSION)
AUTHORITY = (("grpc.default_authority", "localhost"),)  # of a Unix socket it would be a path, which is none


def resp(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """Return a frame of HTTP/2."""
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")


def call(path: str, *more: tuple[str, str]) -> bytes:
    """Return the head of a gRPC call."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
    coded = (b"\0%c%s%c%s" % (len(name), name.encode(), len(value), value.encode()) for name, value in fields)
    return frame(1, 4, 1, b"".join(coded))


class Stranger:
    """A Redis client by hand."""

    def __init__(self, address: str) -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self.socket = socket.create_connection((host, int(port)))
        self.socket.settimeout(10)
        self.file = self.socket.makefile("rb")

    def says(self, *words: bytes) -> bytes:
        """Return the first line of the reply; b"" if the connection was closed."""
        self.socket.sendall(resp(*words))
        return self.file.readline().rstrip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def address(transports: MakeTransport, listen_at: str) -> str:
    server = transports(Security(password=SECRET))
    server.serve(make_users())
    return server.listen(listen_at)


class TestRedisClients:
    @pytest.mark.parametrize(
        "command", ["PING", "KC.PING", "KC.GET users k", "KC.MGET users k", "GET users:k", "X", "INFO"]
    )
    def test_nothing_is_answered_before_the_password(self, address: str, command: str) -> None:
        with Stranger(address) as stranger:
            assert stranger.says(*command.encode().split()) == b"-NOAUTH Authentication required."
            assert stranger.says(b"HELLO", b"3").startswith(b"-NOAUTH HELLO must be called")
            assert stranger.says(b"AUTH", b"") == b"-WRONGPASS invalid username-password pair or user is disabled."
            assert stranger.says(*command.encode().split()) == b"-NOAUTH Authentication required."
            assert stranger.says(b"QUIT") == b"+OK"
            assert stranger.file.read() == b""

    @pytest.mark.parametrize("words", [(SECRET,), ("default", SECRET)])
    def test_the_password_opens(self, address: str, words: tuple[str, ...]) -> None:
        with Stranger(address) as stranger:
            assert stranger.says(b"auth", *(word.encode() for word in words)) == b"+OK"
            assert stranger.says(b"KC.PING") == b"+PONG"
            assert stranger.says(b"KC.GET", b"users", b"k") == b"*4"

    @pytest.mark.parametrize(
        "words",
        [
            *((SECRET[:-1],), (SECRET + "x",), (SECRET.upper(),), ("x" * 1000,), ("someone", SECRET)),
            *(("default", "wrong"), (SECRET, "default")),
        ],
    )
    def test_no_other_does(self, address: str, words: tuple[str, ...]) -> None:
        with Stranger(address) as stranger:
            assert stranger.says(b"AUTH", *(word.encode() for word in words)).startswith(b"-WRONGPASS ")
            assert stranger.says(b"PING").startswith(b"-NOAUTH ")
            assert stranger.says(b"HELLO", b"3", b"AUTH", b"default", b"wrong").startswith(b"-WRONGPASS ")
            assert stranger.says(b"AUTH", b"a", b"b", b"c") == b"-ERR wrong number of arguments for 'auth' command"
            assert stranger.says(b"AUTH", SECRET.encode()) == b"+OK"

    def test_hello_can_say_it(self, address: str) -> None:
        with Stranger(address) as stranger:
            reply = stranger.says(b"HELLO", b"3", b"AUTH", b"default", SECRET.encode(), b"SETNAME", b"me")
            assert not reply.startswith((b"-NOAUTH", b"-WRONGPASS"))
        with Stranger(address) as stranger:
            stranger.socket.sendall(resp(b"HELLO", b"3", b"AUTH", b"default", SECRET.encode()) + resp(b"KC.PING"))
            while (line := stranger.file.readline()) != b"+PONG\r\n":
                assert line

    @pytest.mark.parametrize("claim", [b"*11\r\n", b"*2\r\n$4\r\nAUTH\r\n$1025\r\n", b"*1\r\n$99999999\r\n"])
    def test_strangers_may_claim_little(self, address: str, claim: bytes) -> None:
        with Stranger(address) as stranger:
            stranger.socket.sendall(claim)
            assert stranger.file.readline().startswith(b"-ERR Protocol error: too ")
            assert stranger.file.read() == b""
        with Stranger(address) as friend:  # in one go with the password: the limits are a friend's from there on
            keys = [b"x" * 60_000] * 20
            friend.socket.sendall(resp(b"AUTH", SECRET.encode()) + resp(b"KC.MGET", b"users", *keys))
            assert friend.file.readline() == b"+OK\r\n"
            assert friend.file.readline() == b"$20\r\n"

    def test_strangers_may_not_stay(self, listen_at: str, transports: MakeTransport, files: Files) -> None:
        patience = 1.0
        address = transports(Security(password=SECRET), patience).listen(listen_at)
        encrypted = transports(files.security(), patience).listen("127.0.0.1:0")
        beginnings = (
            (address, b""),
            (address, b"*1"),
            (address, b"PR"),
            (address, resp(b"PING")),
            (address, HTTP2),
            (address, HTTP2 + call("/grpc.health.v1.Health/Watch")),
            (address, HTTP2 + call("/kamacache.v1.Peer/Hello", ("authorization", f"Bearer {SECRET}x"))),
            (encrypted, b"\x16"),
        )
        begun = time.monotonic()
        with contextlib.ExitStack() as stack:
            caller = stack.enter_context(Stranger(address))
            caller.socket.sendall(HTTP2 + call("/kamacache.v1.Peer/Hello", ("authorization", f"Bearer {SECRET}")))
            strangers = [(stack.enter_context(Stranger(at)), said) for at, said in beginnings]
            for stranger, said in strangers:
                stranger.socket.sendall(said)
                stranger.socket.settimeout(60)
            friend = stack.enter_context(Stranger(address))
            assert friend.says(b"AUTH", SECRET.encode()) == b"+OK"
            for stranger, _ in strangers:
                with contextlib.suppress(ConnectionResetError):
                    stranger.file.read()  # to the end of the connection
            assert time.monotonic() - begun > 0.9 * patience
            assert friend.says(b"PING") == b"+PONG"
            caller.socket.sendall(frame(6, 0, 0, b"question"))
            received = b""
            while frame(6, 1, 0, b"question") not in received:
                chunk = caller.socket.recv(1000)
                assert chunk, received
                received += chunk

    def test_without_a_password_none_is_taken(self, transports: MakeTransport, listen_at: str) -> None:
        at = transports(None).listen(listen_at)
        with Stranger(at) as stranger:
            assert stranger.says(b"AUTH", SECRET.encode()).startswith(b"-ERR AUTH <password> called without any")
            assert stranger.says(b"PING") == b"+PONG"


class TestPeers:
    def test_every_way_says_it(self, transports: MakeTransport, listen_at: str) -> None:
        security = Security(password=SECRET)
        server, client = transports(security), transports(security)
        server.serve(make_users())
        at = server.listen(listen_at)
        for _ in range(2):  # on a fresh connection and on a pooled one
            client.ping(at, 5.0)
            found = client.peek(at, "users", "k", False, 5.0)
            assert found is not None
            assert found[:2] == FOUND
        fresh = transports(security)
        for _ in range(2):
            answers: Any = fresh.peek_many([(at, ["k", "big", "nothing"]), (at, ["k"])], "users", False, 5.0)
            assert [[one and len(one[0]) for one in answer] for answer in answers] == [[5, len(BIG), None], [5]]
        pipeline = connected(client, at)
        pipeline.ask("one", "users", ["k"], False)
        pipeline.ask("two", "users", ["big", "nothing"], False)
        assert [(token, [one and len(one[0]) for one in found]) for token, found in drive(pipeline, 2)] == [
            ("one", [5]),
            ("two", [len(BIG), None]),
        ]
        pipeline.ask("three", "users", ["k"], False)
        assert drive(pipeline)[0][1][0][:2] == FOUND
        pipeline.close()
        assert hello_from(server, client, at).member.id == "stranger"

    def test_the_answer_that_comes_with_the_passwords_is_not_waited_for(
        self, transports: MakeTransport, listen_at: str
    ) -> None:
        security = Security(password=SECRET)
        server = transports(security)
        server.serve(make_users())
        at = server.listen(listen_at)
        begun = time.monotonic()
        for _ in range(5):
            client = transports(security)
            client.ping(at, 60.0)
            client.forget(at)
            assert client.peek(at, "users", "k", False, 60.0) is not None
            client.forget(at)
            assert isinstance(client.peek_many([(at, ["k"])], "users", False, 60.0)[0], list)
        assert time.monotonic() - begun < 30

    @pytest.mark.parametrize(("here", "there"), [("other", SECRET), (None, SECRET), (SECRET, None)])
    def test_a_wrong_one_is_refused_on_every_way(
        self, transports: MakeTransport, listen_at: str, here: str | None, there: str | None
    ) -> None:
        mine = None if here is None else Security(password=here)
        server, client = transports(None if there is None else Security(password=there)), transports(mine)
        server.serve(make_users())
        at = server.listen(listen_at)
        errors = all_ways(server, client, at)
        for error in errors:
            assert error.denied, error
            assert "password" in str(error)
            assert SECRET not in str(error)
            assert "other" not in str(error)

    def test_calls_that_wait_are_probed_with_it(self, transports: MakeTransport, listen_at: str) -> None:
        security = Security(password=SECRET)
        server, client = transports(security), transports(security)
        at = server.listen(listen_at)
        held = threading.Event()
        done = threading.Timer(1.5, held.set)  # six probes, the last of which would have failed it
        done.start()
        client.call("slow", at, HELLO, None)
        call: Any = server.next_event(10.0)
        assert held.wait(10)
        call.reply(call.message)
        assert ended(client)[1] == HELLO


class TestForeignGrpc:
    @pytest.mark.parametrize(
        ("metadata", "said"),
        [
            ((), "a password is required: send `authorization: Bearer <password>`"),
            ((("authorization", f"Bearer {SECRET}x"),), WRONG),
            ((("authorization", SECRET),), WRONG),
            ((("authorization", "Bearer"),), WRONG),
        ],
    )
    def test_calls_without_it_are_refused(self, address: str, metadata: tuple[tuple[str, str], ...], said: str) -> None:
        with grpc.insecure_channel(address, AUTHORITY) as channel:
            call = channel.unary_unary("/kamacache.v1.Peer/Hello")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", metadata=metadata, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert caught.value.details() == said

    def test_a_call_with_it_comes_through(self, transports: MakeTransport, listen_at: str) -> None:
        server = transports(Security(password=SECRET))
        at = server.listen(listen_at)
        with grpc.insecure_channel(at, AUTHORITY) as channel:
            call = channel.unary_unary("/kamacache.v1.Peer/Hello")
            future = call.future(b"", metadata=(("authorization", f"bearer {SECRET}"),), timeout=10)
            server.next_event(10.0).fail("closed", "later")  # type: ignore[union-attr]
            with pytest.raises(grpc.RpcError) as caught:
                future.result()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "later")


class TestNodes:
    def test_a_cluster_with_a_password(self) -> None:
        with nodes({"password": SECRET}, {"password": SECRET}) as (a, b):
            groups = [node.group("g", lambda key: b"value of " + key.encode()) for node in (a, b)]
            start_all(a, b)
            key = owned_by(a, "g", b)
            assert groups[0].set(key, b"written")
            assert groups[0].get(key) == groups[1].get(key) == b"written"
            assert groups[1].delete(key)
            assert groups[0].get(key) == b"value of " + key.encode()
            assert asyncio.run(groups[0].aget(key)) == b"value of " + key.encode()
            stats = groups[0].stats()
            assert stats.peer_hits + stats.peer_loads >= 2
            assert stats.loads == 0

    def test_a_member_with_another_is_warned_of_once_and_works_alone(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "kamacache")
        with nodes({"password": SECRET}, {"password": "another"}) as (a, b):
            group = b.group("g", lambda key: b"loaded")
            a.group("g", lambda key: b"loaded by a")
            a.start()
            b.start()
            wait_until(lambda: len(a.members()) == len(b.members()) == 1)
            key = owned_by(b, "g", b)
            assert [group.get(f"{key}{n}") for n in range(50)] == [b"loaded"] * 50
            probed = threading.Event()
            assert not probed.wait(2.5)  # two more rounds of probes
        warnings = [record.getMessage() for record in caplog.records if "no trust" in record.getMessage()]
        assert len(warnings) == 2, warnings  # one on each node
        assert all("password" in warning and SECRET not in warning and "another" not in warning for warning in warnings)
        assert len(caplog.records) < 20


class TestTheOption:
    @pytest.mark.parametrize("bad", ["", " ", "a b", "pässword", "x" * 513, "a\n", "\0", b"bytes", 5.25, True])
    def test_invalid_passwords(self, bad: object) -> None:
        with pytest.raises(ConfigError, match=r"password: must be text of 1 to 512 visible ASCII") as caught:
            NodeOptions.make(password=bad)  # type: ignore[arg-type]
        assert repr(bad) not in str(caught.value)

    def test_it_allows_addresses_beyond_this_machine(self) -> None:
        assert NodeOptions.make("0.0.0.0:0", password=SECRET).protected
        with pytest.raises(ConfigError, match="password="):
            NodeOptions.make("0.0.0.0:0")

    def test_without_tls_beyond_this_machine_is_warned_of_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with Node("0.0.0.0:0", password=SECRET) as node:
            node.start()  # once more: no second warning
        with Node("127.0.0.1:0", password=SECRET):
            pass
        with Node("0.0.0.0:0", insecure=True, password=SECRET):
            pass
        assert len([record for record in caplog.records if "without TLS" in record.getMessage()]) == 2

    def test_nothing_shows_it(self, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
        caplog.set_level(logging.DEBUG)
        options = NodeOptions.from_env({"KAMACACHE_PASSWORD": SECRET, "KAMACACHE_LISTEN": f"unix:{tmp_path}/s"})
        assert options.protection.password == SECRET
        security = Security(password=SECRET)
        with Node(f"unix:{tmp_path}/n", password=SECRET) as node:
            shown = [
                repr(options),
                str(options),
                repr(security),
                str(security),
                repr(node),
                str(vars(node)),
                caplog.text,
            ]
        with pytest.raises(ConfigError) as caught:
            NodeOptions.from_env({"KAMACACHE_PASSWORD": SECRET, "KAMACACHE_LISTEN": "nowhere"})
        shown.append(str(caught.value))
        with pytest.raises(ValueError, match="not a password") as bad:
            Security(password=SECRET + "\t")
        shown.append(str(bad.value))
        assert not [text for text in shown if SECRET in text]


class TestGuesses:
    def guess(self, address: str) -> None:
        """Send a wrong password on every protocol, four times in all."""
        with Stranger(address) as stranger:
            assert stranger.says(b"AUTH", b"guess").startswith(b"-WRONGPASS")
            assert stranger.says(b"HELLO", b"3", b"AUTH", b"default", b"guess").startswith(b"-WRONGPASS")
        with grpc.insecure_channel(address, options=AUTHORITY) as channel:
            call = channel.unary_unary("/pb.KamaCache/Get")
            with pytest.raises(grpc.RpcError, match="wrong password"):
                call(b"", metadata=(("authorization", "Bearer guess"),), timeout=10)
        with Stranger(address) as stranger:
            stranger.socket.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\n\r\n")
            assert b"401" in stranger.file.readline()

    def test_they_are_counted_by_address_and_logged_once_a_minute(
        self, transports: MakeTransport, listen_at: str
    ) -> None:
        security = Security(password=SECRET)
        address = transports(security).listen(listen_at)
        assert security.guesses() == []
        self.guess(address)
        origin = "a process of this machine" if address.startswith("unix:") else "127.0.0.1"
        assert security.guesses() == [(origin, 4)]
        self.guess(address)
        assert security.guesses() == []

    def test_each_has_the_next_one_wait(self, transports: MakeTransport, listen_at: str) -> None:
        """Let 10 ms more go by for each wrong one, 50 at most, on every protocol; a right one is taken after that."""
        address = transports(Security(password=SECRET)).listen(listen_at)
        begun = time.monotonic()
        with Stranger(address) as stranger:
            for _ in range(12):
                assert stranger.says(b"AUTH", b"guess").startswith(b"-WRONGPASS")
        assert time.monotonic() - begun > sum(min(number, 5) for number in range(12)) / 100
        begun = time.monotonic()
        self.guess(address)
        assert time.monotonic() - begun > 4 * 5 / 100
        with Stranger(address) as friend:
            assert friend.says(b"AUTH", SECRET.encode()) == b"+OK"
        transports(Security(password=SECRET)).ping(address, 0.25)  # a member that has just come is no longer silent

    def test_through_tls(self, transports: MakeTransport, files: Files) -> None:
        security = files.security(password=SECRET)
        address = transports(security).listen("127.0.0.1:0")
        other = transports(files.security(password="guess"))  # noqa: S106 - for tests
        with pytest.raises(PeerError, match="WRONGPASS"):
            other.ping(address, 10.0)
        assert security.guesses() == [("127.0.0.1", 1)]

    def test_a_client_that_sends_none_or_the_right_one_is_no_guesser(
        self, transports: MakeTransport, listen_at: str
    ) -> None:
        security = Security(password=SECRET)
        address = transports(security).listen(listen_at)
        with Stranger(address) as stranger:
            assert stranger.says(b"PING").startswith(b"-NOAUTH")
            assert stranger.says(b"AUTH", SECRET.encode()) == b"+OK"
        assert security.guesses() == []

    @pytest.mark.usefixtures("looks_often")
    def test_the_log_tells_of_them(self, caplog: pytest.LogCaptureFixture) -> None:
        with Node("127.0.0.1:0", password=SECRET) as node, Stranger(str(node.address)) as stranger:
            assert stranger.says(b"AUTH", b"guess").startswith(b"-WRONGPASS")
            said = "wrong passwords came from 127.0.0.1: 1"
            wait_until(lambda: said in [record.getMessage() for record in caplog.records])
        assert "guess" not in caplog.text

    @pytest.mark.usefixtures("looks_often")
    def test_the_log_tells_of_calls_without_one(self, caplog: pytest.LogCaptureFixture) -> None:
        """Warn of a node of KamaCache-Go, which calls by gRPC and knows no password."""
        said = "gRPC calls without the password came from 127.0.0.1: 2; they were refused. "
        with Node("127.0.0.1:0", password=SECRET) as node, grpc.insecure_channel(str(node.address)) as channel:
            for _ in range(2):
                with pytest.raises(grpc.RpcError, match="a password is required"):
                    channel.unary_unary("/pb.KamaCache/Get")(b"\n\x01g\x12\x01k", timeout=10)
            wait_until(lambda: any(record.getMessage().startswith(said[:60]) for record in caplog.records))
        (first, *_) = (text for record in caplog.records if "without the password" in (text := record.getMessage()))
        assert first.startswith((said, said.replace("2;", "1;")))  # the log may look between the two


OLD, NEW = "the-old-one", "the-new-one"


@pytest.mark.parametrize(
    ("one", "other"), [(OLD, [OLD, NEW]), ([OLD, NEW], [NEW, OLD]), ([NEW, OLD], NEW), ((OLD, NEW), [OLD, NEW])]
)
def test_a_password_and_its_successor(one: Any, other: Any) -> None:
    """At each step of a roll, from OLD to NEW, the members on both sides of it are one cluster."""
    with nodes({"password": one}, {"password": other}) as (a, b):
        groups = [node.group("g", str.encode) for node in (a, b)]
        start_all(a, b)
        for group, node in zip(groups, (b, a), strict=True):
            assert group.get(owned_by(a, "g", node)) is not None
        assert groups[0].set("k", b"v") is True
        for given, node in ((one, a), (other, b)):
            for password in {OLD, NEW}:
                taken = password == given or (not isinstance(given, str) and password in given)
                host, port = (node.address or "").rsplit(":", 1)
                with redis.Redis(host, int(port), password=password) as client:
                    if taken:
                        assert client.get("g:k") == b"v"
                    else:
                        with pytest.raises(redis.AuthenticationError):
                            client.get("g:k")
        assert OLD not in repr(a) + repr(b)


def test_a_roll_that_skips_a_step_parts_the_cluster() -> None:
    with nodes({"password": OLD}, {"password": NEW}) as (a, b):
        a.start()
        b.start()
        assert [str(peer.address) for peer in a._membership.peers.all() if peer.greeted] == []


@pytest.mark.parametrize("bad", [[], [""], [OLD, ""], [OLD, "a b"], [OLD, 5], {OLD: 1}, [[OLD]]])
def test_bad_lists_of_passwords(bad: Any) -> None:
    with pytest.raises(ConfigError, match="password") as caught:
        Node("127.0.0.1:0", password=bad)
    assert OLD not in str(caught.value)


def test_passwords_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{NEW}\n{OLD}\n")
    protection = NodeOptions.from_env({"KAMACACHE_PASSWORD_FILE": str(file)}).protection
    assert (protection.sent, protection) == (
        NEW,
        NodeOptions.from_env({"KAMACACHE_PASSWORD": f"{NEW}\n{OLD}"}).protection,
    )
