"""A process with a resolver of its own: asks peers by name in every way, and prints how long each took."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kamacache import Node
from kamacache._engine import Transport
from kamacache.errors import PeerError
from kamacache.net.messages import TellReply, TellRequest
from tests.unit.wire import answering, connected, make_users, outcome

SLOW = Path(os.environ["SLOW"])


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    try:
        result = call()
    except PeerError as error:
        result = error
    return time.monotonic() - began, result


def every_address() -> dict[str, Any]:
    """Reach a name whose first address refuses, or swallows everything, and whose second answers."""
    server, client = Transport(max_message=1 << 20), Transport(max_message=1 << 20)
    server.serve(make_users())
    port = server.listen("127.0.0.1:0").rpartition(":")[2]
    found: dict[str, Any] = {}
    answering(server, lambda _: TellReply([]))
    with socket.create_server(("127.0.0.2", int(port)), backlog=0), contextlib.ExitStack() as full:
        for _ in range(4):  # later connections get no answer at all
            one = full.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", int(port)))
        for name in ("both", "dark"):
            at = [f"{name}{n}.test:{port}" for n in range(4)]
            asks: list[Callable[[], Any]] = [
                lambda at=at: client.peek(at[0], "users", "k", False, 0.25)[0] == b"value",  # type: ignore[misc,index]
                lambda at=at: len(client.peek_many([(at[1], ["k"])], "users", False, 0.25)[0]) == 1,  # type: ignore[misc,arg-type]
                lambda at=at: connected(client, at[2]).fileno() > 0,  # type: ignore[misc]
                lambda at=at: outcome(client, at[3], TellRequest("g", []), 1.0) == TellReply([]),  # type: ignore[misc]
            ]
            found[name] = [timed(ask) for ask in asks]
    client.close()
    server.close()
    return found


def slow_resolver() -> dict[str, float]:
    server, client = Transport(max_message=1 << 20), Transport(max_message=1 << 20)
    server.serve(make_users())
    port = server.listen("127.0.0.1:0").rpartition(":")[2]
    known = f"known.test:{port}"
    pipeline = connected(client, known)
    client.ping(known, 1.0)
    time.sleep(1.1)  # by now the addresses of a name are looked up again
    SLOW.touch()
    took: dict[str, Any] = {}
    took["established"] = timed(lambda: client.ping(known, 1.0))
    took["another"] = timed(lambda: connected(client, known).fileno())
    took["answers"] = timed(lambda: pipeline.ask("t", "users", ["k"], False))
    took["unknown"] = timed(lambda: client.ping(f"unknown.test:{port}", 0.25))
    asks = [(f"others{n}.test:{port}", ["k"]) for n in range(10)] + [(known, ["k"])]
    took["many"] = timed(lambda: client.peek_many(asks, "users", False, 0.25))
    assert isinstance(took["many"][1][-1], list)
    took["link"] = timed(lambda: connected(client, f"unknown.test:{port}"))
    took["listen"] = timed(lambda: _refused(client))
    client.close()
    server.close()
    ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    numbers = [one.getsockname()[1] for one in ports]
    for one in ports:
        one.close()
    names = [f"127.0.0.1:{numbers[0]}", f"away.test:{numbers[1]}"]
    node = Node(names[0], registry=f"static://{','.join(names)}")
    group = node.group("g", str.encode)
    for n in range(3):
        took[f"get{n}"] = timed(lambda n=n: group.get(f"a{n}"))  # type: ignore[misc]
        took[f"aget{n}"] = timed(lambda n=n: asyncio.run(group.aget(f"b{n}")))  # type: ignore[misc]
    took["start"] = timed(node.start)
    for n in range(20):
        took[f"later get{n}"] = timed(lambda n=n: group.get(f"c{n}"))  # type: ignore[misc]
    took["close"] = timed(lambda: node.close(drain=0))
    return {name: seconds for name, (seconds, _) in took.items()}


def _refused(client: Transport) -> None:
    with contextlib.suppress(OSError):
        client.listen("mine.test:0", 0.3)


if __name__ == "__main__":
    print(json.dumps({"every_address": every_address, "slow_resolver": slow_resolver}[sys.argv[1]]()), flush=True)  # noqa: T201
    os._exit(0)  # the resolver of the system cannot be interrupted
