"""redis-cli, if it is installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.clients.nodes import PATIENCE, Trio, where

CLI = shutil.which("redis-cli")
pytestmark = pytest.mark.skipif(CLI is None, reason="redis-cli is not installed (Debian: redis-tools)")


@pytest.mark.parametrize("version", ["-2", "-3"])
def test_as_typed(trio: Trio, version: str) -> None:
    place = where(trio.nodes[0])
    path = place.get("unix_socket_path")
    to = ["-s", path] if path else ["-h", place["host"], "-p", str(place["port"])]

    def cli(*arguments: str, typed: str | None = None) -> str:
        assert CLI is not None
        done = subprocess.run(
            [CLI, version, *to, *arguments], input=typed, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert not done.stderr
        return done.stdout.rstrip("\n")

    assert cli("ping") == "PONG"
    assert cli("get", "users:k") == "value of k"
    assert cli("set", "plain:x", "1", "EX", "1000") == "OK"
    assert 990 < int(cli("ttl", "plain:x")) <= 1000
    typed = "get plain:x\nmget plain:x users:none\ndel plain:x\nexists plain:x\nget users:bad\nfly\n"
    said = [line for line in cli(typed=typed).split("\n") if line]  # nil and ends of errors are empty
    assert said == ["1", "1", "1", "0", "LOADERR SecretError", "ERR unknown command 'fly'"]
    assert cli("command", "count") == "53"
    assert '"registry":' in cli("kc.info")
