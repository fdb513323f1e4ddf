"""ARCHITECTURE.md is short, and the files and names that it mentions exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
PLACES = [
    ROOT,
    ROOT / "src/kamacache",
    ROOT / "tests/unit",
    *(ROOT / "crates").glob("*/src"),
    *(ROOT / "crates").glob("*/src/*/"),
]
SOURCES = "\n".join(
    path.read_text() for pattern in ("src/**/*.py", "crates/*/src/**/*.rs") for path in sorted(ROOT.glob(pattern))
)


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) < 200


def test_the_files_exist() -> None:
    for name in sorted(set(re.findall(r"`([\w/.-]+\.(?:py|rs|md|proto))`", TEXT))):
        assert any((place / name).is_file() for place in PLACES), name


def test_the_names_exist() -> None:
    for owner, name in sorted(set(re.findall(r"`([A-Z][a-z]\w+)(?:\.|::)(\w+)(?:\(\))?`", TEXT))):
        assert re.search(rf"\b(class|struct|enum) {owner}\b", SOURCES), owner
        assert re.search(rf"\b(def|fn) {name}\b|\b{name}\s*[:=]|self\.{name}\b", SOURCES), f"{owner}.{name}"
