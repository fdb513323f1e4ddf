"""A get on a node alone passes through little code of the package if it is a miss, and through none if it is a hit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import kamacache
from kamacache import Node

PACKAGE = f"{Path(kamacache.__file__).parent}/"
FUNCTIONS = 20
FILES = 5


def passed_through(call: Callable[[], Any]) -> list[str]:
    """Return the functions of the package, as file:name, that this thread runs during `call`."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return sorted(
        f"{code.co_filename.removeprefix(PACKAGE)}:{code.co_qualname}"
        for code in seen
        if code.co_filename.startswith(PACKAGE)
    )


def test_a_miss_passes_through_few_functions_in_few_files(node: Node) -> None:
    group = node.group("g", str.encode)
    assert group.get("first") == b"first"  # starts the node
    passed = passed_through(lambda: group.get("second"))
    assert group.stats().loads == 2
    files = {function.partition(":")[0] for function in passed}
    assert files, "a miss runs the package's code: nothing was counted"
    assert (len(passed) <= FUNCTIONS, len(files) <= FILES) == (True, True), "\n".join(
        [f"{len(passed)} functions in {len(files)} files:", *passed]
    )


def test_a_hit_passes_through_no_function(node: Node) -> None:
    group = node.group("g", str.encode)
    assert group.get("k") == b"k"
    assert passed_through(lambda: group.get("k")) == []
    assert group.stats().hits == 1
