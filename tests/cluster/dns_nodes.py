"""Nodes that find each other by a name, whose addresses are in the file $LISTED: run by test_dns.py."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tools.demo.etcd import free_port

from kamacache import Node
from tests.cluster.cluster import wait_until

LISTED = Path(os.environ["LISTED"])
PORT = free_port()
loads: Counter[str] = Counter()


def listed(*hosts: str) -> None:
    new = LISTED.with_suffix(".new")
    new.write_text("".join(f"{host}\n" for host in hosts))
    new.rename(LISTED)


def load(key: str) -> bytes:
    loads[key] += 1
    return key.encode()


def make(host: str, **options: Any) -> tuple[Node, Any]:
    node = Node(
        registry=f"dns://list.test:{PORT}", service="dns", listen=f"{host}:{options.pop('port', PORT)}", **options
    )
    group = node.group("g", None if options.get("client") else load)
    node.start()
    return node, group


def agree(nodes: list[Node], owners: int) -> bool:
    views = {tuple(node.owner("g", f"k{number}").address for number in range(60)) for node in nodes}
    return len(views) == 1 and len(set(next(iter(views)))) == owners


def members_come_and_go() -> dict[str, Any]:
    listed("127.0.0.1", "127.0.0.2")
    nodes = [make(f"127.0.0.{number}") for number in (1, 2)]
    wait_until(lambda: agree([node for node, _ in nodes], 2))
    keys = [f"k{number}" for number in range(60)]
    for _, group in nodes:
        assert group.get_many(keys) == {key: key.encode() for key in keys}
    found: dict[str, Any] = {"loaded once": max(loads.values()), "confirmed": nodes[0][1].set("k1", b"new")}
    third = make("127.0.0.3")  # the name does not have it yet
    found["confirmed before it is listed"] = third[1].set("k2", b"early")
    listed("127.0.0.1", "127.0.0.2", "127.0.0.3")
    nodes.append(third)
    wait_until(lambda: agree([node for node, _ in nodes], 3))
    wait_until(lambda: third[1].set("k1", b"newer"))
    found["after joining"] = [group.get("k1").decode() for _, group in nodes]
    client, group = make("127.0.0.1", port=0, client=True)
    wait_until(lambda: group.get("k1") == b"newer")
    wait_until(lambda: group.set("k1", b"of a client"))
    found["after a client's write"] = [one.get("k1").decode() for _, one in nodes]
    client.close()
    nodes[0][0].close()
    listed("127.0.0.2", "127.0.0.3")
    wait_until(lambda: agree([node for node, _ in nodes[1:]], 2))
    wait_until(lambda: nodes[1][1].set("k1", b"last"))
    found["after one has left"] = [group.get("k1").decode() for _, group in nodes[1:]]
    LISTED.unlink()  # the name cannot be resolved: the members stay
    time.sleep(2.5)
    found["without an answer"] = [agree([node for node, _ in nodes[1:]], 2), nodes[1][1].set("k1", b"really last")]
    for node, _ in nodes[1:]:
        node.close(drain=0)
    return found


if __name__ == "__main__":
    print(json.dumps(members_come_and_go()), flush=True)  # noqa: T201
