"""The records of the logger `kamacache` have what they speak of as fields, for a log in JSON."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kamacache
from kamacache import Node, PeerError
from kamacache.log import log

SOURCE = Path(kamacache.__file__).parent
OF_LOGGING = {*vars(logging.makeLogRecord({})), "message", "asctime"}


class JsonFormatter(logging.Formatter):
    """What those of python-json-logger and the like do: the message, and each attribute that logging does not make."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in OF_LOGGING}
        return json.dumps({"message": record.getMessage(), **fields})


def in_json(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    return [json.loads(JsonFormatter().format(record)) for record in records]


def test_lines_have_their_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Read the fields of a line of a node: a count is a number in JSON, and has commas in the text."""
    with Node() as node:
        group = node.group("users", lambda _: b"x" * 5_000_000, max_bytes="1 GiB")
        group.get("key")
    (record,) = caplog.records
    (line,) = in_json([record])
    assert "'users': values too large to be kept: 1 since" in line.pop("message")
    assert "that of 'key': 5,000,000 bytes" in record.getMessage()
    sizes = {"size": 5_000_000, "max_value": 4 * 2**20, "eighth": 2**27}
    assert line == {"group": "users", "key": "key", "count": 1} | sizes
    assert record.filename == "loaded.py"


def test_errors_are_texts_with_their_types(caplog: pytest.LogCaptureFixture) -> None:
    error = PeerError("gone")
    log.warning("%(peer)s: %(error)s", peer="a:1", error=error)
    log.error("it failed", exc_info=error, error=error)
    log.warning("100 % of nothing")
    first, second, third = caplog.records
    assert in_json([first]) == [{"message": "a:1: gone", "peer": "a:1", "error": "gone", "error_type": "PeerError"}]
    assert (second.exc_info or (None, None))[1] is error
    assert in_json([third]) == [{"message": "100 % of nothing"}]
    assert {record.filename for record in caplog.records} == {"test_log.py"}


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Yield the place, the text and the fields of each log line of the package."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = ""
        nodes = sorted((node for node in ast.walk(ast.parse(path.read_text())) if hasattr(node, "lineno")), key=_line)
        for node in nodes:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and _names(node.targets) == ["text"]
            ):
                text = str(node.value.value)
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and _names([node.func.value]) == ["log"]
            ):
                (first,) = node.args
                line = str(first.value) if isinstance(first, ast.Constant) else text
                yield f"{path.name}:{node.lineno}", line, {str(each.arg) for each in node.keywords} - {"exc_info"}


def _line(node: Any) -> int:
    return int(node.lineno)


def _names(nodes: list[ast.expr]) -> list[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


class Odd(Exception):
    def __str__(self) -> str:
        raise IndexError


def test_an_error_without_a_text_is_logged_by_its_type(caplog: pytest.LogCaptureFixture) -> None:
    log.warning("%(error)s", error=Odd())
    assert in_json(caplog.records) == [{"message": "Odd", "error": "Odd", "error_type": "Odd"}]


def test_every_line_names_its_fields() -> None:
    """Check that what a text speaks of is a field, and that no field is one of logging, which would raise."""
    found = list(calls())
    assert len(found) > 30
    for place, text, fields in found:
        named = set(re.findall(r"%\((\w+)\)[srg]", text))
        assert named <= fields, place
        assert len(re.findall(r"%(?!\()", text)) == 0, place
        assert not fields & OF_LOGGING, place
