"""Clusters of real nodes with TLS and a password: all protocols, other threads and loops, forks, new certificates."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from kamacache import TLS, Node
from kamacache._engine import Security
from kamacache.errors import PeerError
from tests.cluster.cluster import wait_until
from tests.conftest import MakeTransport
from tests.security.certificates import Files, issue
from tests.security.cluster import drive, nodes, owned_by, start_all
from tests.security.test_tls import connect
from tests.unit.wire import connected, make_users

SECRET = "correct-horse"  # noqa: S105 - for tests


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "no trust" in record.getMessage()]


def load(key: str) -> bytes:
    return b"value of " + key.encode()


@pytest.mark.parametrize("password", [None, SECRET])
def test_a_cluster_on_every_protocol(tmp_path: Path, authority: trustme.CA, password: str | None) -> None:
    options = [{"tls": issue(tmp_path / name, authority).tls, "password": password} for name in ("a", "b")]
    with nodes(*options) as (a, b):
        here, there = (node.group("g", load, max_bytes="64 MiB") for node in (a, b))
        start_all(a, b)
        mine = [key for n in range(200) if a.owner("g", key := f"key{n}").address == b.address]
        assert len(mine) > 20
        assert here.get(mine[0]) == load(mine[0])  # by gRPC
        assert here.stats().peer_loads == 1
        for key in mine[:9]:
            there.get(key)
        assert [here.get(key) for key in mine[1:5]] == [load(key) for key in mine[1:5]]  # by RESP, on this thread
        assert here.stats().peer_hits == 4
        assert here.get_many(mine[5:7]) == {key: load(key) for key in mine[5:7]}
        assert here.stats().peer_hits == 6

        async def by_a_loop() -> None:  # by RESP, through the loop's own connection
            assert [await here.aget(key) for key in mine[7:9]] == [load(key) for key in mine[7:9]]
            assert here.stats().peer_hits == 8
            assert await here.aget_many(mine[9:15]) == {key: load(key) for key in mine[9:15]}
            assert await here.aset(mine[0], b"written")
            assert await here.aget(mine[0]) == b"written"

        asyncio.run(by_a_loop())
        assert there.get(mine[0]) == b"written"
        big = os.urandom(3 << 20)
        wait_until(lambda: here.set(mine[0], big))  # False if it took a second
        assert there.get(mine[0]) == here.get(mine[0]) == big
        wait_until(lambda: there.delete(mine[0]))
        assert here.get(mine[0]) == load(mine[0])
        assert here.stats().loads == 0


def test_strangers_have_no_part_in_it(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kamacache")
    options: list[dict[str, Any]] = [
        {"tls": issue(tmp_path / "a", authority).tls},
        {"tls": issue(tmp_path / "b", stranger).tls},
        {},
    ]
    with nodes(*options) as members:
        groups = [node.group("g", load) for node in members]
        for node in members:
            node.start()
        wait_until(lambda: len(warned(caplog)) == 6)  # each of each other
        wait_until(lambda: all(len(node.members()) == 1 for node in members))
        for group in groups:
            assert [group.get(f"key{n}") for n in range(20)] == [load(f"key{n}") for n in range(20)]
            assert group.stats().peer_hits + group.stats().peer_loads == 0
    assert len(warned(caplog)) == 6  # once


def test_a_stranger_that_has_gone_for_good_is_no_trouble(tmp_path: Path) -> None:
    """Forget it, as `kamacache doctor` shows troubles, and one of an unused address would never end."""
    registry = f"local://{tmp_path}/nodes"
    with Node(registry=registry, password=SECRET) as node, Node(registry=registry, password="another") as stranger:  # noqa: S106 - for tests
        membership = node._membership
        wait_until(lambda: any(str(stranger.address) in trouble for trouble in membership.troubles.all()))
        stranger.close()
        wait_until(lambda: not membership.peers.known())
        wait_until(lambda: not membership.troubles.all())


def test_a_forked_child_has_the_same(tmp_path: Path, authority: trustme.CA) -> None:
    files = issue(tmp_path / "a", authority)
    options = {"tls": files.tls, "password": SECRET}
    with nodes(options, options) as (a, b):
        here = a.group("g", load)
        there = b.group("g", load)
        start_all(a, b)
        key = owned_by(a, "g", b)
        there.set(key, b"written")
        assert here.get(key) == b"written"
        reading, writing = os.pipe()
        at = str(b.address)
        child = os.fork()
        if child == 0:
            os.close(reading)
            try:
                with os.fdopen(writing, "wb") as out:
                    found = a._runtime.lane.peek(at, "g", key)
                    out.write(repr(found and found[0]).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            assert answer.read() == repr(b"written").encode()
        os.waitpid(child, 0)
        assert here.get(key) == b"written"


class TestNewCertificates:
    def presented(self, at: str, files: Files) -> bytes | None:
        context = ssl.create_default_context(cafile=str(files.ca))
        with connect(at, context) as connection:
            return connection.getpeercert(binary_form=True)

    def put(self, new: Files, old: Files) -> None:
        """Replace one file after the other, as people do."""
        for source, target in zip(new.all, old.all, strict=True):
            shutil.copy(source, target)

    def test_they_are_taken_in_by_both_sides(
        self, transports: MakeTransport, tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
    ) -> None:
        files = issue(tmp_path / "now", authority)
        security = files.security()
        server, client = transports(security), transports(security)
        server.serve(make_users())
        at = server.listen("127.0.0.1:0")
        client.ping(at, 5.0)
        assert not security.reload()
        self.put(issue(tmp_path / "later", stranger), files)
        assert not security.reload()  # first seen: perhaps not all of them are written
        assert security.reload()
        assert not security.reload()
        client.ping(at, 5.0)  # on the old connection
        fresh = transports(issue(tmp_path / "other", stranger).security())
        fresh.ping(at, 5.0)
        with pytest.raises(PeerError, match="UnknownIssuer"):
            transports(issue(tmp_path / "old", authority).security()).ping(at, 5.0)
        pipeline = connected(client, at)
        pipeline.ask("token", "users", ["k"], False)
        assert drive(pipeline)[0][1][0][0] == b"value"
        pipeline.close()

    def test_broken_ones_leave_the_old_in_use(self, transports: MakeTransport, files: Files) -> None:
        security = files.security()
        server = transports(security)
        at = server.listen("127.0.0.1:0")
        good = files.cert.read_bytes()
        files.cert.write_bytes(b"broken")
        assert not security.reload()
        with pytest.raises(ValueError, match=r"node\.pem: "):
            security.reload()
        assert not security.reload()  # said once
        transports(security).ping(at, 5.0)
        files.cert.unlink()
        assert not security.reload()
        with pytest.raises(ValueError, match=r"node\.pem: "):
            security.reload()
        transports(security.renewed()).ping(at, 5.0)  # a child falls back on the first ones
        files.cert.write_bytes(good)
        assert not security.reload()
        assert security.reload()
        transports(security).ping(at, 5.0)

    @pytest.mark.usefixtures("looks_often")
    def test_a_node_looks_by_itself(
        self, tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "kamacache")
        files = issue(tmp_path / "now", authority)

        def said(text: str) -> int:
            return sum(text in record.getMessage() for record in caplog.records)

        with Node("127.0.0.1:0", tls=TLS(*files.all, mutual=False)) as node:
            at = str(node.address)
            first = self.presented(at, files)
            files.key.write_text("broken")
            wait_until(lambda: said("cannot be used, those before stay in use"))
            assert self.presented(at, files) == first
            self.put(issue(tmp_path / "later", authority), files)
            wait_until(lambda: said("new certificates are in use"))
            assert self.presented(at, files) not in (None, first)
            assert said("cannot be used") == 1


def test_nothing_but_paths_is_shown(files: Files) -> None:
    security = files.security(password=SECRET)
    key = files.key.read_text().splitlines()[1]
    shown = f"{security!r} {files.tls!r}"
    assert key not in shown
    assert SECRET not in shown
    assert isinstance(security, Security)
