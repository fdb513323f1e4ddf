"""TLS on the wire: every way to a peer with it, and every refusal, each with a real connection."""

from __future__ import annotations

import pickle
import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
import pytest
import trustme

from kamacache import TLS, ConfigError
from kamacache._engine import Security, Transport
from kamacache.errors import PeerError
from kamacache.net.security import Protection
from kamacache.options import NodeOptions
from tests.conftest import MakeTransport
from tests.security.certificates import Files, issue
from tests.security.cluster import HELLO, all_ways, drive, hello_from
from tests.unit.wire import BIG, VERSION, called, connected, ended, make_users

SECRET = "correct-horse"  # noqa: S105 - for tests
PING = b"*1\r\n$4\r\nPING\r\n"


def serve(transports: MakeTransport, security: Security | None) -> tuple[Transport, str]:
    server = transports(security)
    server.serve(make_users())
    return server, server.listen("127.0.0.1:0")


def connect(at: str, context: ssl.SSLContext, name: str = "127.0.0.1") -> ssl.SSLSocket:
    """Connect a foreign client."""
    host, _, port = at.rpartition(":")
    connection = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=name)
    connection.settimeout(10)
    return connection


@pytest.mark.parametrize("password", [None, SECRET])
@pytest.mark.parametrize("mutual", [True, False])
def test_every_way_works(transports: MakeTransport, files: Files, password: str | None, mutual: bool) -> None:
    security = files.security(password=password, mutual=mutual)
    server, at = serve(transports, security)
    client = transports(security)
    for _ in range(2):  # on a fresh connection and on a pooled one
        client.ping(at, 5.0)
        for key, size in (("k", 5), ("big", len(BIG))):
            found = client.peek(at, "users", key, False, 5.0)
            assert found is not None
            assert found[0] is not None
            assert len(found[0]) == size
    fresh = transports(security)
    keys = [*(f"{n:0>1000}" for n in range(3000)), "k", "big"]  # three megabytes each way
    for _ in range(2):
        one, other = fresh.peek_many([(at, keys), (at, ["k"])], "users", False, 10.0)
        assert isinstance(one, list), one
        assert [found and found[0] for found in one] == [*[None] * 3000, b"value", BIG]
        assert isinstance(other, list)
    pipeline = connected(client, at)
    for n in range(30):
        pipeline.ask(n, "users", keys if n == 3 else ["k", "big"] if n % 2 else ["k"], n % 3 == 0)
    answers = drive(pipeline, 30)
    assert [token for token, _ in answers] == list(range(30))
    assert answers[3][1][-1][0] == BIG
    assert answers[29][1][0][:2] == (b"value", VERSION)
    pipeline.ask("later", "users", ["k"], False)
    assert drive(pipeline)[0][1][0][:2] == (b"value", VERSION)
    pipeline.close()
    assert hello_from(server, client, at) == HELLO


def test_calls_that_wait_are_probed_through_it(transports: MakeTransport, files: Files) -> None:
    security = files.security(password=SECRET)
    server, at = serve(transports, security)
    client = transports(security)
    client.call("slow", at, HELLO, None)
    call: Any = called(server)
    assert client.next_event(1.5) is None  # six probes, two of which would have failed it
    call.reply(call.message)
    assert ended(client)[1] == HELLO


def test_a_closed_server_is_noticed_and_a_restarted_one_found(transports: MakeTransport, files: Files) -> None:
    security = files.security()
    server, at = serve(transports, security)
    client = transports(security)
    client.ping(at, 5.0)
    pipeline = connected(client, at)
    pipeline.ask("one", "users", ["k"], False)
    assert len(drive(pipeline)) == 1
    pipeline.ask("two", "users", ["k"], False)
    server.close()
    with pytest.raises(PeerError, match="closed the connection"):
        drive(pipeline, 2)
    pipeline.close()
    again = transports(security)
    again.serve(make_users())
    again.listen(at)
    client.ping(at, 5.0)


def test_a_unix_socket_has_none(transports: MakeTransport, files: Files, tmp_path: Path) -> None:
    server, client = transports(files.security()), transports(None)
    server.serve(make_users())
    at = server.listen(f"unix:{tmp_path}/node.sock")
    client.ping(at, 5.0)
    transports(files.security()).ping(at, 5.0)


class TestRefused:
    """Refusals: `denied` warns the user; gRPC's own layers may hide why a connection ended."""

    @pytest.mark.parametrize(
        ("server", "client", "said"),
        [
            ("good", "other authority", "that this node does not trust .*UnknownIssuer"),  # the client does not trust
            ("trusting", "other authority", "does not trust this node's certificate .*(?i:unknown.?ca|certificate)"),
            ("good", "expired", "(?i)certificate.?expired"),
            ("expired", "good", "(?i)expired"),
            ("other host", "good", "(?i)not valid for"),
            ("good", "plain", "wants TLS"),
            ("good", "password alone", "wants TLS"),
            ("plain", "good", "has no TLS.*(?i:handshake.?failure)"),
            ("good with password", "good", "NOAUTH"),
            ("good with password", "good with another", "WRONGPASS"),
        ],
    )
    def test_peers(
        self,
        transports: MakeTransport,
        tmp_path: Path,
        authority: trustme.CA,
        stranger: trustme.CA,
        server: str,
        client: str,
        said: str,
    ) -> None:
        good = issue(tmp_path / "good", authority)
        by: dict[str, Callable[[], Security | None]] = {
            "good": good.security,
            "good with password": lambda: good.security(password=SECRET),
            "good with another": lambda: good.security(password="another"),  # noqa: S106 - for tests
            "expired": issue(tmp_path / "expired", authority, expired=True).security,
            "other host": issue(tmp_path / "host", authority, "elsewhere.example").security,
            "other authority": issue(tmp_path / "other", stranger).security,
            "trusting": issue(tmp_path / "trusting", stranger, trust=authority).security,
            "plain": lambda: None,
            "password alone": lambda: Security(password=SECRET),
        }
        protection = by[client]()
        listening, at = serve(transports, by[server]())
        errors = all_ways(listening, transports(protection), at)
        for error in errors[:4]:
            assert error.denied, error
            assert str(error).startswith(at)
            assert re.search(said, str(error)), error

    def test_a_foreign_client_without_a_certificate(self, transports: MakeTransport, files: Files) -> None:
        _, at = serve(transports, files.security())
        context = ssl.create_default_context(cafile=str(files.ca))
        with connect(at, context) as connection, pytest.raises(ssl.SSLError, match=r"(?i)certificate.?required"):
            assert connection.recv(100) == b"nothing"

    def test_a_foreign_client_with_one(self, transports: MakeTransport, files: Files) -> None:
        _, at = serve(transports, files.security())
        context = ssl.create_default_context(cafile=str(files.ca))
        context.load_cert_chain(files.cert, files.key)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            with connect(at, context) as connection:
                connection.sendall(PING)
                assert connection.recv(100) == b"+PONG\r\n"

    def test_a_foreign_client_that_needs_no_certificate(self, transports: MakeTransport, files: Files) -> None:
        _, at = serve(transports, files.security(password=SECRET, mutual=False))
        with connect(at, ssl.create_default_context(cafile=str(files.ca))) as connection:
            connection.sendall(PING)
            assert connection.recv(100).startswith(b"-NOAUTH ")
            connection.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n" % (len(SECRET), SECRET.encode()) + PING)
            received = b""
            while len(received) < 12:
                received += connection.recv(100)
            assert received == b"+OK\r\n+PONG\r\n"

    def test_a_plain_foreign_client(self, transports: MakeTransport, files: Files) -> None:
        _, at = serve(transports, files.security())
        host, _, port = at.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(PING)
            assert connection.recv(100)[:1] == b"\x15"  # a TLS alert
            assert connection.recv(100) == b""


class TestProtocols:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [(["h2"], "h2"), (["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)],
    )
    def test_negotiated_protocols(
        self, transports: MakeTransport, files: Files, offered: list[str], chosen: str | None
    ) -> None:
        _, at = serve(transports, files.security(mutual=False))
        context = ssl.create_default_context(cafile=str(files.ca))
        if offered:
            context.set_alpn_protocols(offered)
        with connect(at, context) as connection:
            assert connection.selected_alpn_protocol() == chosen

    def test_http(self, transports: MakeTransport, files: Files) -> None:
        _, at = serve(transports, files.security(mutual=False))
        with connect(at, ssl.create_default_context(cafile=str(files.ca))) as connection:
            connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 4")

    def test_a_foreign_grpc_client(self, transports: MakeTransport, files: Files) -> None:
        server, at = serve(transports, files.security(password=SECRET))
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.cert.read_bytes()
        )
        with grpc.secure_channel(at, credentials) as channel:
            call = channel.unary_unary("/kamacache.v1.Peer/Hello")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=10)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            future = call.future(b"", metadata=(("authorization", f"Bearer {SECRET}"),), timeout=10)
            called(server).fail("closed", "later")
            with pytest.raises(grpc.RpcError) as caught:
                future.result()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "later")


class TestTheOption:
    @pytest.mark.parametrize("name", ["cert", "key", "ca"])
    @pytest.mark.parametrize("content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nx\n"])
    def test_files_that_are_none_are_named(self, files: Files, name: str, content: bytes | None) -> None:
        path: Path = getattr(files, name)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            Protection.make(None, files.tls).engine()
        assert str(caught.value).startswith(f"tls: {path}: ")

    def test_a_key_of_another_certificate(self, files: Files, tmp_path: Path, authority: trustme.CA) -> None:
        other = issue(tmp_path / "other", authority)
        with pytest.raises(ConfigError, match=r"tls: .*node\.pem: with .*node\.key: .*[Mm]ismatch"):
            Protection.make(None, TLS(files.cert, other.key, files.ca)).engine()

    @pytest.mark.parametrize("bad", ["", None, 5, "a\0b", b"node.pem"])
    def test_invalid_paths(self, bad: Any) -> None:
        with pytest.raises(ConfigError, match=r"tls: key=.*path of a PEM file"):
            TLS("node.pem", bad, "ca.pem")
        with pytest.raises(ConfigError, match="mutual"):
            TLS("node.pem", "node.key", "ca.pem", mutual=bad)

    def test_allowed_options(self) -> None:
        tls = TLS("node.pem", "node.key", "ca.pem")
        assert tls.files[0] == str(Path("node.pem").absolute())
        assert NodeOptions.make("0.0.0.0:0", tls=tls).protected
        open_ = TLS("node.pem", "node.key", "ca.pem", mutual=False)
        with pytest.raises(ConfigError, match="password="):
            NodeOptions.make("0.0.0.0:0", tls=open_)
        assert NodeOptions.make("0.0.0.0:0", tls=open_, password=SECRET).protected

    def test_it_is_a_value(self) -> None:
        tls = TLS("/c", "/k", "/a", mutual=False)
        assert pickle.loads(pickle.dumps(tls)) == tls  # noqa: S301 - our own
        assert len({tls, TLS("/c", "/k", Path("/a"), mutual=False)}) == 1
        assert tls not in (TLS("/c", "/k", "/a"), None, "tls")
        assert repr(tls) == "TLS(cert='/c', key='/k', ca='/a', mutual=False)"
        with pytest.raises(AttributeError):
            tls.cert = "/d"  # type: ignore[misc]
        with pytest.raises(AttributeError):
            del tls.ca

    def test_the_environment(self) -> None:
        variables = {"KAMACACHE_TLS_CERT": "/c", "KAMACACHE_TLS_KEY": "/k", "KAMACACHE_TLS_CA": "/a"}
        assert NodeOptions.from_env(variables).protection.tls == TLS("/c", "/k", "/a")
        for text, mutual in (("0", False), ("false", False), ("1", True)):
            protection = NodeOptions.from_env({**variables, "KAMACACHE_TLS_MUTUAL": text}).protection
            assert protection.tls == TLS("/c", "/k", "/a", mutual=mutual)
        for name in variables:
            with pytest.raises(ConfigError, match=rf"KAMACACHE_\*.*{name} must be set"):
                NodeOptions.from_env({**variables, name: ""})
        with pytest.raises(ConfigError, match="KAMACACHE_TLS_MUTUAL='perhaps'"):
            NodeOptions.from_env({**variables, "KAMACACHE_TLS_MUTUAL": "perhaps"})
