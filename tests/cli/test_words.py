"""The documents name commands, options and metrics that exist."""

from __future__ import annotations

import re
from pathlib import Path

from kamacache import Node
from kamacache.cli.commands import cli
from kamacache.cli.config import read
from kamacache.serve.metrics import render
from tests.docs.test_documents import DOCUMENTS, ROOT, blocks


def test_commands_in_documents_exist() -> None:
    named = set()
    for name in DOCUMENTS:
        shell = "\n".join(block for _, block in blocks((ROOT / name).read_text(), "sh"))
        named |= set(re.findall(r"^kamacache ([a-z]+)", shell, re.MULTILINE))
    assert {"serve", "get", "doctor"} <= named <= set(cli.commands)


def test_the_file_in_the_document_is_one(tmp_path: Path) -> None:
    ((_, text),) = blocks((ROOT / "docs/cli.md").read_text(), "toml")
    path = tmp_path / "node.toml"
    path.write_text(text)
    found = read(str(path))
    assert (found.node["service"], found.groups["users"]["codec"], found.groups["bag"]) == ("shop", "json", {})


def test_the_table_of_metrics_is_whole() -> None:
    table = (ROOT / "docs/operations.md").read_text()
    described = set(re.findall(r"`(kamacache_\w+)`", "\n".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE))))
    with Node() as node:
        text = render(node._groups.cores, node._runtime)
    assert described == set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
