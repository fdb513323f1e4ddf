"""The recipes of CONTRIBUTING.md list the files that must be touched: all of them, and no others."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from kamacache._engine import POLICIES, Store
from kamacache.load import outcome
from kamacache.options import GroupOptions, PolicyName
from kamacache.registry import _BUILT_IN
from tests.docs.test_documents import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
FOLDERS = ("src", "crates", "tests", "bench", "docs/guide")
KINDS = {".py", ".rs", ".pyi", ".md"}
COMMANDS = ROOT / "crates/engine/src/resp/commands"


def recipe(title: str) -> str:
    """Return the text of one recipe."""
    (text,) = re.findall(rf"^### {title}\n(.*?)(?=^###? |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    return str(text)


def files(text: str) -> set[str]:
    """Return the paths that a text names, but for those of new files."""
    return {path for path in re.findall(r"`([\w./-]+/[\w.-]+\.\w+|pyproject\.toml)`", text) if "NAME" not in path}


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in KINDS)


def holders(names: Iterable[str], folders: tuple[str, ...] = FOLDERS) -> set[str]:
    """Return the files that hold every one of these names as a word."""
    words = [re.compile(rf"\b{re.escape(name)}\b") for name in names]
    paths = ((path.relative_to(ROOT).as_posix(), path.read_text()) for path in sources())
    return {name for name, text in paths if name.startswith(folders) and all(word.search(text) for word in words)}


def check(title: str, names: Iterable[str], folders: tuple[str, ...] = FOLDERS) -> None:
    """Check that every file with all of the names is listed, and that every listed file has one, or is an example."""
    names = list(names)
    steps = re.findall(r"^\d+\. (.*(?:\n   .*)*)", recipe(title), re.MULTILINE)
    must = {path for step in steps if "for example" not in step for path in files(step)}
    assert holders(names, folders) - must == set(), "not in the recipe"
    word = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b", re.IGNORECASE)  # constants are in capitals
    assert [path for path in sorted(must) if not word.search((ROOT / path).read_text())] == [], "named without need"


def test_files_and_folders_exist() -> None:
    named = files(TEXT)
    assert len(named) > 25
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    folders = {f"tests/{path.parent.name}" for path in ROOT.glob("tests/*/__init__.py")}
    assert set(re.findall(r"^\| `(tests/\w+)` \|", TEXT, re.MULTILINE)) == folders


def test_policies() -> None:
    check("Add an eviction policy", POLICIES)
    assert get_args(PolicyName) == POLICIES


def test_registries() -> None:
    check("Add a registry", [*_BUILT_IN, "Registry"], ("src/kamacache/registry", "tests/contract"))
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["kamacache.registries"]
    assert entries.keys() == _BUILT_IN.keys()


def test_options_of_groups() -> None:
    check("Add an option of groups", GroupOptions._fields)


def test_counters() -> None:
    check("Add a counter", Store.OUTCOMES)
    assert [getattr(outcome, name.upper()) for name in Store.OUTCOMES] == [*range(len(Store.OUTCOMES))]


def test_resp_commands() -> None:
    """Check that each command has one entry, in the file of a family that the recipe names, and is documented."""
    entries = [
        (path.name, name)
        for path in sorted(COMMANDS.glob("*.rs"))
        for name in re.findall(r'\bcommand\("([a-z.]+)"', path.read_text())
    ]
    names = [name for _, name in entries]
    assert len(names) == len(set(names)) > 20
    named = recipe("Add a RESP command")
    assert [family for family in sorted({family for family, _ in entries}) if family not in named] == []
    table = (ROOT / "proto/RESP.md").read_text()
    documented = {name for family, name in entries if family != "transaction.rs"}  # one row tells of all of these
    assert [name for name in sorted(documented) if name.upper() not in table] == []


@pytest.mark.parametrize(("module", "names"), [("kamacache.testing", 3), ("tests.cluster.cluster", 3)])
def test_names_that_force_a_race_exist(module: str, names: int) -> None:
    there = importlib.import_module(module)
    owned = re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", recipe("Force a race in a test"))
    mine = [(owner, member) for owner, member in owned if hasattr(there, owner)]
    assert len(mine) >= names
    missing = [each for each in mine if each[1] and not hasattr(getattr(there, each[0]), each[1])]
    assert missing == []
