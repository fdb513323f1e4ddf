"""A node that writes only `/services/{service}/{address}` is a client: it is shown as one, and never sent anything."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kamacache import Node
from tests.cli.conftest import Program
from tests.cluster.cluster import wait_until
from tests.etcd.server import Etcd

PATIENCE = 30.0  # seconds


def test_it_is_shown_and_nothing_connects_to_it(
    etcd: Etcd, service: str, node_at: Callable[..., Node], tmp_path: Path
) -> None:
    program = Program(tmp_path)
    program.registry = etcd.url
    with socket.create_server(("127.0.0.1", 0)) as foreign:
        address = f"127.0.0.1:{foreign.getsockname()[1]}"
        etcd.ctl("put", f"/services/{service}/{address}", address)
        nodes = one, other = node_at(etcd.url), node_at(etcd.url)
        began = time.monotonic()
        wait_until(lambda: len(one.members()) == len(other.members()) == 2)
        assert one.groups["g"].set("k", b"v") is True
        assert other.groups["g"].get("k") == b"v"
        assert other.groups["g"].delete("k") is True

        def shown() -> dict[str, str]:
            found = program.json("members", "--service", service)
            return {member["address"]: member["state"] for member in found}

        everyone = {str(node.address): "alive" for node in nodes} | {address: "client"}
        wait_until(lambda: shown() == everyone, PATIENCE)
        rows = program.out("members", "--service", service).splitlines()
        assert rows[3].split() == [address, "client", "no", "0.0", *["-"] * 6]
        for options in ((), ("--node", str(one.address))):
            report = program.json("doctor", "--service", service, *options)
            assert report["ok"]
            (finding,) = (finding for finding in report["findings"] if finding["what"] == "clients")
            assert finding["text"].startswith(f"{address}: ")
        wait_until(
            lambda: all((node._membership._exchange._probed or 0.0) > began + 1.0 for node in nodes), PATIENCE
        )  # twice
        foreign.setblocking(False)
        with pytest.raises(BlockingIOError):
            foreign.accept()
        etcd.ctl("del", f"/services/{service}/{address}")
        wait_until(lambda: address not in shown(), PATIENCE)
