"""redis.asyncio with its default settings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.clients.nodes import PATIENCE, Trio, where
from tests.cluster.cluster import in_thread


@pytest.mark.parametrize("protocol", [{}, {"protocol": 2}, {"protocol": 3}], ids=["default", "resp2", "resp3"])
def test_everything_at_once(trio: Trio, protocol: dict[str, Any]) -> None:
    async def talk() -> None:
        clients: list[Any] = [redis.asyncio.Redis(**where(node), **protocol) for node in trio.nodes]
        try:
            names = [f"users:k{number}" for number in range(60)]
            gets = (client.get(name) for name in names for client in clients)
            values = await asyncio.gather(*gets)
            assert values == [f"value of {name[6:]}".encode() for name in names for _ in clients]
            assert await clients[0].mget(names) == values[::3]
            assert await clients[1].set("plain:x", b"1", ex=100) is True
            assert 90 < await clients[2].ttl("plain:x") <= 100
            assert await clients[0].delete("plain:x", "plain:y") == 1
            assert await clients[1].exists("plain:x") == 0
            assert await clients[1].get("users:none") is None
            with pytest.raises(redis.ResponseError, match=r"^LOADERR SecretError$"):
                await clients[2].get("users:bad")
            pipeline = clients[0].pipeline(transaction=False)
            pipeline.get("users:a").set("plain:b", "2").get("plain:b").get("strangers:c").ping()
            replies = await pipeline.execute(raise_on_error=False)
            assert replies[:3] == [b"value of a", True, b"2"]
            assert str(replies[3]) == "NOGROUP no group 'strangers' here"
            assert replies[4] is True
            with pytest.raises(redis.ResponseError, match="transactions are not supported here"):
                await clients[0].pipeline().set("plain:b", "3").get("users:t").execute()
            assert await clients[0].get("plain:b") == b"2"
        finally:
            for client in clients:
                await client.aclose()

    asyncio.run(talk())
    assert all(count == 1 for key, count in trio.source.loads.items() if key != "bad")
    assert "t" not in trio.source.loads


def test_many_wait_for_slow_loads_and_others_do_not(trio: Trio) -> None:
    """Let more clients wait than there are threads for loaders."""

    async def talk() -> None:
        waiting: Any = redis.asyncio.Redis(**where(trio.nodes[0]), max_connections=200)
        other: Any = redis.asyncio.Redis(**where(trio.nodes[0]))
        try:
            gets = [asyncio.ensure_future(waiting.get("users:slow")) for _ in range(100)]
            assert await asyncio.to_thread(trio.source.slow.acquire, timeout=PATIENCE)
            assert await other.get("users:k") == b"value of k"
            assert not any(get.done() for get in gets)
            trio.source.go_on.set()
            assert await asyncio.gather(*gets) == [b"value of slow"] * 100
        finally:
            await waiting.aclose()
            await other.aclose()

    in_thread(asyncio.run, talk()).result(4 * PATIENCE)
    assert trio.source.loads == {"slow": 1, "k": 1}
