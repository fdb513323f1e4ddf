"""dns://: nodes that find each other by the addresses of a name. The resolver is one that reads a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kamacache.errors import ConfigError
from kamacache.registry import parse
from tests.cluster.test_names import HERE, pytestmark, resolver

__all__ = ["pytestmark", "resolver"]


def test_members_come_and_go(resolver: Path, tmp_path: Path) -> None:
    files = {"SLOW": str(tmp_path / "slow"), "LISTED": str(tmp_path / "listed"), "LD_PRELOAD": str(resolver)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster.dns_nodes"],
        env=os.environ | files,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=HERE.parents[1],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "loaded once": 1,
        "confirmed": True,
        "confirmed before it is listed": False,
        "after joining": ["newer"] * 3,
        "after a client's write": ["of a client"] * 3,
        "after one has left": ["last"] * 2,
        "without an answer": [True, True],
    }


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "name",
        ":8001",
        "name:0",
        "name:99999",
        "0.0.0.0:8001",
        "unix:/run/app.sock",
        "user:hidden@name:8001",
        "name:8001?family=5",
        "name:8001?ttl=1",
    ],
)
def test_invalid_urls(rest: str) -> None:
    with pytest.raises(ConfigError, match="registry dns://") as caught:
        parse(f"dns://{rest}")
    assert "hidden" not in str(caught.value)


def test_what_it_listens_on_and_advertises() -> None:
    registry = parse("dns://127.0.0.1:8001")
    assert registry.default_listen("app", "id") == "0.0.0.0:8001"
    assert registry.advertise("0.0.0.0:8001") == "127.0.0.1:8001"
    assert registry.advertise("127.0.0.2:8001") == "127.0.0.2:8001"
    assert [str(member) for member in registry.members("app")]
    six = parse("dns://[::1]:8001?family=6")
    assert six.default_listen("app", "id") == "[::]:8001"
    assert [member.address for member in six.members("app")] == ["[::1]:8001"]
    registry.client = True
    assert registry.default_listen("app", "id") == "0.0.0.0:0"
