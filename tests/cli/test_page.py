"""kamacache page: the web page of nodes that have Unix sockets."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

from tests.cli.conftest import PATIENCE, Program
from tests.http.client import request


def test_the_page_of_nodes_with_unix_sockets(program: Program) -> None:
    node = program.serve("--config", "node.toml")
    command = [sys.executable, "-W", "error", "-m", "kamacache", "page", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, env=program.environment({}), stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        found = re.search(r"http://(\S+)/;", serving.stdout.readline())
        assert found is not None
        assert "<title>KamaCache</title>" in request(found[1], "/").body
        document = json.loads(request(found[1], "/status.json").body)
        states = {member["address"]: (member["state"], member["answers"]) for member in document["members"]}
        assert states == {found[1]: ("client", True), node.address: ("alive", True)}
        assert [group["name"] for group in document["groups"]] == ["bag", "slow", "users"]
        serving.send_signal(signal.SIGINT)
        assert serving.wait(PATIENCE) == 0


def test_it_finds_nodes_by_their_registry(program: Program) -> None:
    assert "--registry" in program.fails(2, "page", "--node", "127.0.0.1:1")


def test_a_port_for_others_needs_a_password(program: Program) -> None:
    said = program.fails(2, "page", "--listen", "0.0.0.0:0")
    assert "--password-file, or listen on 127.0.0.1" in said
    assert "insecure" not in said
