"""A file uses only files on its own floor or below, and none grows out of hand."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kamacache

SOURCE = Path(kamacache.__file__).parent
LONGEST = 330  # lines
FLOORS = (  # from the ground up
    ("_engine", "errors", "log", "member", "deadline"),
    ("steps", "thread", "bell"),
    ("net.messages", "net.link", "start"),
    ("load.outcome",),
    ("net.addresses", "codecs", "units"),
    ("net.security",),
    ("registry.base", "registry.locks", "registry.record"),
    ("options", "load.pool", "load.loop", "net.lane", "cluster.peers", "stats"),
    ("value", "load.loader", "load.flight", "cluster.routes"),
    ("load.call",),
    ("registry", "registry.directory", "registry.etcd", "registry.static", "registry.local"),
    ("runtime", "net.native"),
    ("load.peek", "cluster.membership"),
    ("load.local",),
    ("load.remote",),
    ("load.miss",),
    ("write.write",),
    ("write.behind",),
    ("core",),
    ("group",),
    ("serve.admin", "sweeper", "fork", "serve.metrics"),
    ("serve.clients",),
    ("serve.peers",),
    ("groups",),
    ("node",),
    ("testing", "__init__", "load", "write", "cluster", "net", "serve"),
    ("cli.client", "cli.output", "cli.config"),
    ("cli.finding",),
    ("cli.doctor", "cli.serve"),
    ("cli.commands",),
    ("cli",),
    ("__main__",),
)
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}


def modules() -> dict[str, Path]:
    """Every file of the package by its dotted name in it."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """What a file imports at run time, wherever in it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "the package imports by full names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node)


def used(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    known = set(FLOOR)
    found = set()
    for name in imports(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] != "kamacache":
            continue
        inside = parts[1:]
        while inside and ".".join(inside) not in known:
            inside.pop()
        found.add(".".join(inside) or "__init__")
    return found


def test_every_file_has_a_floor() -> None:
    assert set(FLOOR) == {"_engine", *modules()}
    assert len(FLOOR) == sum(map(len, FLOORS))


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_nothing_uses_what_is_above_it(module: str, path: Path) -> None:
    assert {name for name in used(path) if FLOOR[name] > FLOOR[module]} == set()


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_no_file_grows_out_of_hand(module: str, path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)), f"{module} does not say what it is for"
