"""The demonstration, run small as users run it."""

import json
import subprocess
import sys
from typing import Any

LIMIT = 100.0  # seconds


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kamacache.demo", *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_everything_promised_holds() -> None:
    done = demo("--seconds", "4", "--rows", "2000", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["held"]
    assert all(check["held"] for check in result["checks"])
    total, nodes = result["total"], result["nodes"]
    assert set(nodes) == {"A", "B", "C"}
    assert total["stale"] == total["errors"] == 0
    assert total["reads"] == sum(node["reads"] for node in nodes.values()) == result["queries_without_cache"]
    assert 0 < total["loads"] == result["queries_with_cache"] < total["reads"]
    assert total["confirmed"] > 0
    assert result["keys_lost_by_kill"] > 0
    assert 0 < total["p50_ms"] <= total["p99_ms"] <= total["slowest_ms"] * 1.02
    assert "kill -9 A" in done.stderr
    assert "agree that it is back" in done.stderr


def test_the_table_is_plain_where_it_is_no_terminal() -> None:
    done = demo("--seconds", "2", "--rows", "500")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything promised held." in done.stdout
    assert "database queries with it" in done.stdout
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_wrong_arguments() -> None:
    for arguments in (["--rows", "1"], ["--rows", "many"], ["--seconds", "0"], ["--seconds", "nan"]):
        assert demo(*arguments).returncode == 2
