"""The gets of clients in what a node shows: the keys that they ask for most."""

from __future__ import annotations

import json

from kamacache import Node
from tests.clients.nodes import bulk, command, connect, expect
from tests.http.client import request

GETS = 20_000
AT_ONCE = 500


def test_hits_and_misses_count_alike_for_hot_keys() -> None:
    """Ask for the same key every second time, and for a new one in between: of 156 samples half are of that key."""
    with Node("127.0.0.1:0") as node, connect(node) as client:
        group = node.group("users", lambda key: key.encode(), max_bytes="64 MiB")
        for first in range(0, GETS // 2, AT_ONCE):
            keys = [key for number in range(first, first + AT_ONCE) for key in (b"hot", b"%d" % number)]
            client.sendall(b"".join(command(b"GET", b"users:" + key) for key in keys))
            expect(client, b"".join(map(bulk, keys)))
        assert group.stats().gets == GETS
        (key,) = json.loads(request(str(node.address), "/status.json").body)["hot"]
        assert key["key"] == "hot"
        assert 0.3 < key["share"] < 0.7
