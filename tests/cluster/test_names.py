"""Names of peers: a slow resolver delays no other peer, and every address of a name is tried."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="a resolver of our own is made by a C compiler"
)


@pytest.fixture(scope="module")
def resolver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("resolver") / "resolver.so"
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(HERE / "resolver.c"), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


def run(resolver: Path, what: str, directory: Path) -> Any:
    environment = os.environ | {"LD_PRELOAD": str(resolver), "SLOW": str(directory / "slow")}
    command = [sys.executable, "-m", "tests.cluster.names", what]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, cwd=HERE.parents[1], check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_address_of_a_name_is_tried(resolver: Path, tmp_path: Path) -> None:
    found = run(resolver, "every_address", tmp_path)
    for name in ("both", "dark"):
        assert [answer for _, answer in found[name]] == [True, True, True, True]
        assert max(seconds for seconds, _ in found[name]) < 0.25


def test_nothing_waits_for_a_slow_resolver(resolver: Path, tmp_path: Path) -> None:
    took = run(resolver, "slow_resolver", tmp_path)
    known = {name: took.pop(name) for name in ("established", "another", "answers")}
    assert max(known.values()) < 0.1, known
    assert took.pop("start") < 5.5
    assert max(took.values()) < 1.1, took
