"""A file uses only files on its own floor or below, and none grows too long, in Python and in the engine."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import kamacache

SOURCE = Path(kamacache.__file__).parent
ENGINE = Path(__file__).parents[2] / "crates/engine/src"
LONGEST = 330  # lines; the stub of the native module is exempt: it mirrors one module, name by name
FLOORS = (  # from the ground up
    ("_engine", "errors", "log", "member", "deadline", "entry"),
    ("steps", "thread", "bell", "origin", "notkey", "callrun", "process", "carried", "telemetry"),
    ("net.messages", "start"),
    ("load.outcome", "load.failures"),
    ("net.addresses", "codecs", "units"),
    ("net.security", "net.systemd", "rules", "tags"),
    ("registry.base", "registry.locks", "registry.record", "packed"),
    (
        "options",
        "load.pool",
        "load.loop",
        "net.lane",
        "cluster.contact",
        "cluster.differences",
        "cluster.troubles",
        "history",
        "stats",
    ),
    ("cluster.peer", "net.link"),
    ("cluster.forgotten",),
    ("cluster.peers",),
    ("value", "load.loader", "load.flight", "cluster.routes"),
    ("load.call", "load.fills", "load.freshness", "load.window", "typedcodecs", "keys", "annotation"),
    ("typed",),
    ("load.given", "load.grant", "load.lease", "load.turns", "callkey", "keycodec"),
    ("calltags",),
    (
        "registry",
        "registry.directory",
        "registry.dns",
        "registry.etcd",
        "registry.kubernetes",
        "registry.srv",
        "registry.static",
        "registry.local",
        "registry.given",
    ),
    ("runtime", "net.native"),
    ("load.peek", "load.unread", "cluster.exchange", "cluster.handover"),
    ("cluster.membership",),
    ("load.loaded",),
    ("load.local",),
    ("load.remote", "load.values"),
    ("load.miss",),
    ("write.cut",),
    ("write.write",),
    ("write.decision", "write.drops"),
    ("write.primitives",),
    ("write.behind",),
    ("core",),
    ("group.base",),
    ("group.reads",),
    ("group.loads",),
    ("group.writes",),
    ("group.lock",),
    ("group.primitives",),
    ("group.tags",),
    ("group",),
    ("group.keyed",),
    ("group.nones",),
    ("loadertypes",),
    ("serve.loads", "serve.meters", "serve.metrics", "serve.scrape", "serve.writes", "shares", "sweeper", "fork"),
    ("serve.scripts", "serve.status"),
    ("serve.statuses",),
    ("serve.admin",),
    ("serve.clients",),
    ("serve.peers",),
    ("groups",),
    ("function", "signatures"),
    ("loaderdecorator",),
    ("decorator",),
    ("everywhere",),
    ("node",),
    ("testing.fakes", "testing.lane", "testing.network", "testing.registry"),
    ("testing.cluster",),
    ("testing", "__init__", "load", "write", "cluster", "net", "serve"),
    ("integrations", "integrations.place"),
    (
        "integrations.aiocache",
        "integrations.asgi",
        "integrations.response",
        "integrations.run",
        "integrations.cachelib",
        "integrations.cashews",
        "integrations.django",
        "integrations.dogpile",
    ),
    ("integrations.flask_caching",),
    ("cli.client", "cli.completion", "cli.output", "cli.config"),
    ("cli.app", "cli.finding"),
    ("cli.counters", "cli.doctor", "cli.processes", "cli.serve", "cli.top"),
    ("cli.page",),
    ("cli.commands",),
    ("cli",),
    ("__main__",),
)
ENGINE_FLOORS = (  # the same for the engine, without generated code
    ("proto", "outcome", "sync", "clock", "fork", "hash", "histogram", "arrivals", "resp.codec"),
    (
        "chunks",
        "tracked",
        "version",
        "contacts",
        "marked",
        "memory",
        "placement",
        "resp.reply",
        "security.password",
        "security.guesses",
        "security.tls",
    ),
    ("table",),
    ("policy", "policy.ghost", "policy.list", "policy.lru", "policy.s3fifo", "policy.sequence", "policy.two_level"),
    ("store.counts", "store.hot", "store.key", "store.log", "store.watch"),
    ("store.cells", "store.writes"),
    ("store.entry",),
    ("store.wheel",),
    ("store.shard",),
    ("store.slices",),
    ("store", "store.age", "store.attic", "store.budget", "store.decide", "store.keys", "store.lock", "store.missed"),
    ("store.grow", "store.order", "store.room"),
    ("store.handover", "store.read", "store.served", "store.shut", "store.sweep", "store.tags", "store.write"),
    ("security", "socket", "resp", "call", "runtime"),
    ("port.unix",),
    ("port.page", "port.places", "port.stream", "names", "watch"),
    ("port.tls", "port.http2", "port.room"),
    ("etcd.connection",),
    ("etcd.state",),
    ("etcd", "etcd.keeper"),
    ("peer", "peer.tls", "peer.times"),
    ("peer.link", "peer.dial", "peer.probe"),
    ("peer.blocking", "peer.channel", "peer.reactor"),
    ("peer.many",),
    ("peer.write",),
    ("events", "orders"),
    ("peer.contact", "peer.handover"),
    ("resp.output", "resp.guard"),
    ("resp.session",),
    ("resp.command",),
    ("resp.commands.admin", "resp.commands.connection", "resp.commands.keys", "resp.commands.keyspace"),
    (
        "resp.commands.writes",
        "resp.commands.peers",
        "resp.commands.scripts",
        "resp.commands.transaction",
        "resp.commands",
        "resp.queue",
    ),
    ("resp.table",),
    ("port.auth", "port.http", "port.whole"),
    ("port.foreign",),
    ("port.grpc", "port.server", "port.resp", "port"),
    ("transport",),
)


def by_module(floors: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    return {module: number for number, modules in enumerate(floors) for module in modules}


FLOOR, ENGINE_FLOOR = by_module(FLOORS), by_module(ENGINE_FLOORS)


def modules() -> dict[str, Path]:
    """Return every file of the package by its dotted name in it."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)] = path
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every import that a file makes at run time, also inside functions."""
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
    """Return the modules of the package that a file imports."""
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


def engine_modules() -> dict[str, Path]:
    """Return every file of the engine by its dotted name in it."""
    found = {}
    for path in sorted(ENGINE.rglob("*.rs")):
        parts = path.relative_to(ENGINE).with_suffix("").parts
        if parts != ("lib",) and parts[-1] != "tests" and path.parent != ENGINE / "proto":
            found[".".join(parts[:-1] if parts[-1] == "mod" else parts)] = path
    return found


def expanded(tree: str) -> Iterator[str]:
    """Yield each path of a `use`: a::{b, c::{d}} is a::b and a::c::d."""
    outer, word = [""], ""
    for char in f"{tree},":
        if char == "{":
            outer.append(outer[-1] + word)
        elif char in ",}":
            if word:
                yield re.sub(r"::self$", "", outer[-1] + word.split(" as ", maxsplit=1)[0])
            if char == "}":
                outer.pop()
        else:
            word = (word + char).lstrip()
            continue
        word = ""


def engine_used(module: str, path: Path) -> set[str]:
    """Return the modules that a file of the engine names, in a `use` or elsewhere."""
    text = re.sub(r"//.*", "", path.read_text().partition("#[cfg(test)]")[0])
    names = [name for use in re.findall(r"(?m)^ *(?:pub )?use ([^;]+);", text) for name in expanded(use)]
    names += re.findall(r"\b\w+(?:::\w+)+", re.sub(r"(?m)^ *(?:pub )?use [^;]+;", "", text))
    found = set()
    for name in names:
        first, *rest = name.split("::")
        at = module.split(".")
        if first == "crate":
            at = rest
        elif first == "super":
            at = [*at[:-1], *rest]
        elif f"{module}.{first}" in ENGINE_FLOOR:
            at = [*at, first, *rest]
        else:
            continue  # of another crate, or of the same file
        while at and ".".join(at) not in ENGINE_FLOOR:
            at.pop()
        found.add(".".join(at))
    return found - {module, ""}


def test_every_file_has_a_floor() -> None:
    assert set(FLOOR) == {"_engine", *modules()}
    assert len(FLOOR) == sum(map(len, FLOORS))
    assert set(ENGINE_FLOOR) == set(engine_modules())
    assert len(ENGINE_FLOOR) == sum(map(len, ENGINE_FLOORS))


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_no_file_uses_a_higher_floor(module: str, path: Path) -> None:
    assert {name for name in used(path) if FLOOR[name] > FLOOR[module]} == set()


@pytest.mark.parametrize(("module", "path"), engine_modules().items(), ids=engine_modules())
def test_no_file_of_the_engine_uses_a_higher_floor(module: str, path: Path) -> None:
    assert {name for name in engine_used(module, path) if ENGINE_FLOOR[name] > ENGINE_FLOOR[module]} == set()


def test_uses_are_read() -> None:
    assert list(expanded("crate::{a, b::{self, c as d}}")) == ["crate::a", "crate::b", "crate::b::c"]
    assert engine_used("peer.many", ENGINE / "peer/many.rs") == {"peer", "peer.blocking", "peer.link", "resp"}
    assert "etcd.keeper" in engine_used("etcd", ENGINE / "etcd/mod.rs")


@pytest.mark.parametrize(("module", "path"), modules().items(), ids=modules())
def test_no_file_grows_out_of_hand(module: str, path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST
    assert ast.get_docstring(ast.parse(text)), f"{module} does not say what it is for"


RUST = [path for path in sorted(ENGINE.parents[1].glob("*/src/**/*.rs")) if path.parent != ENGINE / "proto"]


@pytest.mark.parametrize("path", RUST, ids=[str(path.relative_to(ENGINE.parents[1])) for path in RUST])
def test_no_file_in_rust_grows_out_of_hand(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= LONGEST
    assert path.name == "tests.rs" or text.startswith("//! "), f"{path} does not say what it is for"
    # rust-version is 1.85, which clippy checks for the standard library alone: chains of let are of 1.88.
    assert not re.search(r"&& let |\b(?:if|while) let [^;{]*\n\s*&& ", text)
