"""kamacache top: one picture without a terminal, and many at one, until q."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

from kamacache.cli import output
from kamacache.cli.top import Document, Line, frame, spark
from tests.cli.conftest import PATIENCE, Program

COMMAND = [sys.executable, "-W", "error", "-m", "kamacache", "top"]
STRANGE = "red \x1b[31m"


def test_one_picture_without_a_terminal(running: Program) -> None:
    lines = running.out("top").splitlines()
    assert lines[0].startswith("KamaCache  kamacache  2 of 2 members answer  registry local")
    for node in running.served:
        (row,) = (line for line in lines if line.startswith(node.address))
        assert f"{node.popen.pid}@" in row
    groups = [line.split()[0] for line in lines[lines.index("") + 1 :] if line.startswith(("users ", "bag ", "slow "))]
    assert sorted(groups) == ["bag", "slow", "users"]
    assert "\x1b" not in "".join(lines)


def test_json(running: Program) -> None:
    document = running.json("top", "--node", running.served[0].address)
    assert [member["answers"] for member in document["members"]] == [True, True]
    assert {group["name"] for group in document["groups"]} == {"users", "bag", "slow"}


def test_at_a_terminal_until_q(running: Program) -> None:
    ours, its = pty.openpty()
    command = [*COMMAND, "--every", "0.1s", "--node", running.served[0].address]
    with subprocess.Popen(command, env=running.environment({}), stdin=its, stdout=its, stderr=its) as watching:
        os.close(its)
        seen, deadline = b"", time.monotonic() + PATIENCE
        while seen.count(b"\x1b[H") < 3:
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
        os.write(ours, b"q")
        try:
            while chunk := os.read(ours, 65536):
                seen += chunk
        except OSError:  # it has ended
            pass
        assert watching.wait(PATIENCE) == 0
    os.close(ours)
    assert seen.endswith(b"\x1b[?25h\x1b[?1049l")
    assert "HIT RATIO" in seen.decode()


def test_a_node_in_reach_is_needed(running: Program) -> None:
    assert "nothing listens there" in running.fails(3, "top", "--node", "127.0.0.1:1")
    assert "--every" in running.fails(2, "top", "--every", "0s")


def test_pictures_of_numbers() -> None:
    assert spark([0, 1, 4, 8]) == " ▂▅█"
    assert spark([0.5, 1.0], 1.0) == "▅█"
    assert spark([0, 0]) == "  "


def test_a_terminal_obeys_no_key(running: Program) -> None:
    document = running.json("top")
    document["hot"] = [{"key": STRANGE, "group": "users", "share": 0.5, "rate": 10.0}]
    lines = frame(document, 100)
    (row,) = (line.text for line in lines if line.text.startswith("red"))
    assert row.split() == ["red", "\ufffd[31m", "users", "50.0%", "10"]
    assert Line("a" * 50).cut(10, styled=True) == "a" * 9 + "…"


def crowded(document: Document, **counts: int) -> Document:
    """Return a document with so many members, groups and hot keys."""
    key = {"key": "key", "group": "users", "share": 0.5, "rate": 10.0}
    few = {"groups": document["groups"][:1], "members": document["members"][:1], "hot": [key]}
    return document | {name: few[name] * count for name, count in counts.items()}


def shown(lines: list[Line], head: str) -> int:
    """Return how many rows stand below a head."""
    texts = [line.text for line in lines]
    at = next(place for place, text in enumerate(texts) if text.startswith(head))
    return [*texts[at + 1 :], ""].index("")


def test_every_section_has_its_share_of_a_small_terminal(running: Program) -> None:
    document = running.json("top")
    lines = frame(crowded(document, groups=30, hot=10, members=2), 100, 23)
    assert len(lines) == 23
    assert [shown(lines, head) for head in ("GROUP", "HOT KEY", "MEMBER")] == [5, 4, 2]
    assert [line.text for line in lines if line.text.startswith("…")] == ["… and 26 more", "… and 7 more"]
    lines = frame(crowded(document, groups=30, hot=10, members=50), 100, 23)
    assert [shown(lines, head) for head in ("GROUP", "HOT KEY", "MEMBER")] == [4, 3, 4]
    lines = frame(crowded(document, groups=3, hot=10, members=2), 100, 60)
    assert [shown(lines, head) for head in ("GROUP", "HOT KEY", "MEMBER")] == [3, 10, 2]
    assert not [line for line in lines if "more" in line.text]
    assert shown(frame(crowded(document, groups=30, hot=10, members=50), 100), "MEMBER") == 50


def test_many_troubles_leave_room_for_the_rest(running: Program) -> None:
    document = crowded(running.json("top"), groups=5, hot=5, members=3)
    document["members"] = [member | {"troubles": ["etcd is away"] * 9} for member in document["members"]]
    lines = frame(document, 100, 23)
    assert len(lines) == 23
    assert all(shown(lines, head) >= 2 for head in ("GROUP", "HOT KEY", "MEMBER"))


def test_columns_of_wide_and_combining_characters() -> None:
    assert [output.width(text) for text in ("abc", "用户", "e\u0301", "\uff57", "é")] == [3, 4, 1, 2, 1]
    assert [output.clip("用户:123", most) for most in (8, 7, 5, 4, 3)] == ["用户:123", "用户:1…", "用户…", "用…", "用…"]
    assert output.clip("e\u0301e\u0301e\u0301", 2) == "e\u0301…"
    lines = output.columns(["KEY", "N"], [["用户", 1], ["e\u0301", 2], ["plain", 3]])
    assert {output.width(line) for line in lines} == {8}
    assert output.width(Line("用" * 40).cut(20, styled=False)) <= 20
