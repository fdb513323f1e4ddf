"""`kamacache serve`: the sources of its options, its start and its end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kamacache import ConfigError, Node
from kamacache.cli.app import node_at
from kamacache.cli.client import Client
from kamacache.cli.config import make_groups, read
from tests.cli.conftest import PATIENCE, Program
from tests.cluster.cluster import in_thread, wait_until


def test_it_prints_its_address(program: Program) -> None:
    node = program.serve("--config", "node.toml", "--service", "shop", "--group", "more")
    assert node.said["service"] == "shop"
    assert node.said["groups"] == ["bag", "more", "slow", "users"]
    info = program.json("members", "--service", "shop")[0]
    assert (info["address"], info["id"]) == (node.address, node.said["id"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_a_goodbye(program: Program, number: int) -> None:
    stays, leaves = program.pair()
    leaves.signal(number)
    assert leaves.end() == 0
    assert [member["address"] for member in program.json("members", "--node", stays.address)] == [stays.address]
    registered = program.directory / "reg" / "kamacache"
    assert list(registered.iterdir())
    stays.signal(number)
    assert stays.end() == 0
    assert not list(registered.iterdir())


def loading(program: Program) -> bool:
    return (program.directory / "entered").exists()


def test_it_finishes_running_requests(program: Program) -> None:
    node = program.serve("--config", "node.toml", "--drain", "60s")
    getting = in_thread(program.out, "get", "slow", "k", "--node", node.address)
    wait_until(lambda: loading(program), PATIENCE)
    node.signal(signal.SIGTERM)
    wait_until(lambda: program.run("members").returncode == 3, PATIENCE)  # it has left
    assert node.popen.poll() is None
    (program.directory / "go-on").touch()
    assert getting.result(PATIENCE) == "slow"
    assert node.end() == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM)],
)
def test_a_second_signal_ends_it_at_once(program: Program, first: int, second: int) -> None:
    node = program.serve("--config", "node.toml", "--drain", "1h")
    getting = in_thread(program.run, "get", "slow", "k", "--node", node.address)
    wait_until(lambda: loading(program), PATIENCE)
    node.signal(first)
    wait_until(lambda: program.run("members").returncode == 3, PATIENCE)
    node.signal(second)
    assert node.end() == -second
    assert any("a second signal" in line for line in node.log)
    assert getting.result(PATIENCE).returncode == 3


def test_flags_come_before_the_environment_and_the_file_last(program: Program) -> None:
    (program.directory / "all.toml").write_text('service = "file"\nweight = 3.5\nlisten = "127.0.0.1:0"\n')
    weight = {"KAMACACHE_WEIGHT": "2.0"}
    node = program.serve("--config", "all.toml", "--service", "flag", environment=weight)
    member = program.json("members", "--node", node.address)[0]
    assert node.said["service"] == "flag"
    assert member["weight"] == 2.0
    assert node.address.startswith("127.0.0.1:")
    again = program.serve(environment={"KAMACACHE_CONFIG": "all.toml", "KAMACACHE_SERVICE": "environment"})
    assert again.said["service"] == "environment"
    assert program.json("members", "--node", again.address)[0]["weight"] == 3.5


def test_a_groups_loader_by_flag_comes_before_the_files(program: Program) -> None:
    (program.directory / "app.py").write_text(APP)
    node = program.serve("--config", "node.toml", "--group", "users=app:own", "--group", "bag")
    assert program.out("get", "users", "7", "--node", node.address) == "own 7"
    stats = program.json("stats", "users", "--node", node.address)
    assert stats["users"]["max_bytes"] == 8 << 20  # the other options of the file hold


def test_alone_it_needs_an_address(program: Program) -> None:
    assert "--listen" in program.fails(2, "serve", "--registry", "none")
    node = program.serve("--registry", "none", "--listen", "127.0.0.1:0", "--group", "users=loaders:load")
    assert program.out("get", "users", "7", "--node", node.address) == "value of 7"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("listen = ", "wrong.toml"),
        ('lisen = "127.0.0.1:0"', "'lisen' is not an option; there are advertise"),
        ("weight = true", "weight = True: must be text or a number"),
        ('listen = ["127.0.0.1:0"]', "must be text or a number"),
        ('insecure = "no"', "insecure = 'no': must be true or false"),
        ("[tls]\nmutual = 1", "[tls]: mutual = 1: must be true or false"),
        ("[tls]\ncert = true", "[tls]: cert = True: must be text or a number"),
        ('password = "secret"', "'password' is not an option"),
        ("groups = 1", "groups: each is a table"),
        ("[groups]\nusers = 1", "groups: each is a table"),
        ("tls = 1", "[tls]"),
        ("[tls]\ncertificate = 1", "'certificate' is not an option"),
        ("[groups.users]\nlodaer = 1", "[groups.users]: 'lodaer' is not an option"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, config: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(config)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(str(path))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("users", {"loader": "json"}, "group 'users': loader='json': must be module:function"),
        ("users", {"loader": 7}, "group 'users': loader=7: must be module:function"),
        ("users", {"loader": "nowhere_at_all:load"}, "cannot be imported: ModuleNotFoundError"),
        ("users", {"load_many": "json:gone"}, "cannot be imported: AttributeError"),
        ("users", {"loader": "json:__name__"}, "group 'users': loader must be callable, not str"),
        ("users", {"codec": "json:gone"}, "codec='json:gone': cannot be imported"),
        ("users", {"max_bytes": "some"}, "group 'users': max_bytes='some'"),
        ("a b", {}, "group 'a b'"),
    ],
)
def test_mistakes_in_a_group_are_named(
    monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    with Node() as node, pytest.raises(ConfigError, match=re.escape(said)):
        make_groups(node, {name: options})


def test_mistakes_are_named_before_it_serves(program: Program) -> None:
    (program.directory / "wrong.toml").write_text('weight = "heavy"\n')
    assert "weight" in program.fails(2, "serve", "--config", "wrong.toml")
    assert "password" in program.fails(2, "serve", "--listen", "0.0.0.0:0")
    assert "drain" in program.fails(2, "serve", "--drain", "never")
    assert "loaders:gone" in program.fails(2, "serve", "--group", "users=loaders:gone")


def test_a_file_that_is_missing_and_a_port_in_use(program: Program) -> None:
    assert "No such file" in program.fails(2, "serve", "--config", "none.toml")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "cannot listen" in program.fails(2, "serve", "--listen", address)


APP = """
import kamacache

node = kamacache.Node()

@node.loader("own")
def own(key):
    return b"own " + key.encode()
"""


def test_a_module_with_groups_of_its_own(program: Program) -> None:
    (program.directory / "app.py").write_text(APP)
    node = program.serve("--group", "users=app:own")
    assert program.out("get", "users", "7", "--node", node.address) == "own 7"


MANY = """
import kamacache

node = kamacache.Node()

def many(keys):
    return {key: {"many": key} for key in keys}

users = node.group("users", load_many=many, codec="json", ttl="1h", max_bytes="1 MiB")

@node.loader("plain")
def plain(key):
    return b"plain"
"""


def test_a_group_of_a_module_brings_all_of_its_own(program: Program) -> None:
    """Take load_many and the options of a Group; what the file says itself wins."""
    (program.directory / "many.py").write_text(MANY)
    (program.directory / "many.toml").write_text('[groups.users]\nloader = "many:users"\nttl = "2h"\n')
    node = program.serve("--config", "many.toml", "--group", "flag=many:users")
    for group in ("users", "flag"):
        assert json.loads(program.out("get", group, "7", "--node", node.address)) == {"many": "7"}
    with Client(node.address) as client:
        groups = client.ask_json("KC.INFO")["groups"]
    assert [groups[name]["ttl"] for name in ("users", "flag")] == [7200.0, 3600.0]
    expected = {"codec": "json", "max_bytes": 1 << 20, "loader": "none", "load_many": "many.many", "loads": True}
    for name in ("users", "flag"):
        assert groups[name].items() >= expected.items()


def test_load_many_of_a_group_that_has_none(program: Program) -> None:
    (program.directory / "many.py").write_text(MANY)
    (program.directory / "many.toml").write_text('[groups.users]\nload_many = "many:plain"\n')
    said = program.fails(2, "serve", "--config", "many.toml")
    assert "group 'users': load_many='many:plain': that Group has none" in said


def test_without_click_it_names_the_extra_to_install(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['click'] = None; import kamacache.cli; kamacache.cli.main()"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert b"pip install 'kamacache[cli]'" in done.stderr


def test_output_for_people(program: Program) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "kamacache", "serve", "--group", "bag"],
        cwd=program.directory,
        env=program.environment({}),
        stdout=subprocess.PIPE,
        text=True,
    ) as popen:
        killer = threading.Timer(PATIENCE, popen.kill)
        killer.start()
        try:
            assert popen.stdout is not None
            line = popen.stdout.readline()
            popen.terminate()
            assert popen.wait(PATIENCE) == 0
        finally:
            killer.cancel()
            popen.kill()
    assert line.startswith("kamacache: serving bag at unix:")


def test_json_is_one_line(program: Program) -> None:
    node = program.serve()
    assert json.dumps(node.said)
    assert node.said["groups"] == []


CACHING = """
from kamacache import Node
from loaders import load

node = Node(registry="local://{directory}/reg", service="shop", max_value="1 KiB")
users = node.group("users", load, ttl="1h", codec="bytes", max_bytes="8 MiB")
number = 7
closed = Node()
closed.close()
alone = Node()
client = Node(registry="local://{directory}/reg", client=True)

@node.cached(ttl="1m")
def report(year: int) -> dict[str, int]:
    return {{"year": year}}

def make():
    return Node(registry="local://{directory}/reg", service="made")

def fails():
    raise RuntimeError("no database")

async def later():
    return node
"""


@pytest.fixture
def app(program: Program) -> Program:
    (program.directory / "caching.py").write_text(CACHING.format(directory=program.directory))
    (program.directory / "started.py").write_text("from kamacache import Node\nnode = Node()\nnode.start()\n")
    return program


def test_the_node_of_an_application_is_served_with_its_groups_and_options(app: Program) -> None:
    node = app.serve("--app", "caching:node")
    assert node.said["service"] == "shop"
    assert node.said["groups"] == ["caching.report", "users"]
    assert app.out("get", "users", "k", "--node", node.address) == "value of k"
    made = app.serve("--app", "caching:make", "--drain", "1s")
    assert made.said["service"] == "made"
    for one in (node, made):
        one.signal(signal.SIGTERM)
        assert one.end() == 0


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("caching", "must be module:attribute"),
        ("nowhere:node", "No module named 'nowhere'"),
        ("caching:missing", "has no attribute 'missing'"),
        ("caching:number", "must be a Node or a function that makes one, not int"),
        ("caching:users", "name the node that it belongs to"),
        ("caching:later", "an async function"),
        ("caching:fails", "it raised RuntimeError: no database"),
        ("caching:closed", "this node is closed"),
        ("caching:alone", "this node is alone"),
        ("caching:client", "a client node owns no keys"),
        ("started:node", "has started this node at its import"),
    ],
)
def test_an_application_that_cannot_be_served(
    app: Program, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    monkeypatch.syspath_prepend(str(app.directory))
    before = set(sys.modules)
    try:
        with pytest.raises(ConfigError, match=re.escape(said)):
            node_at(place)
    finally:
        for name in {"caching", "started", "loaders"} & (set(sys.modules) - before):
            module = sys.modules.pop(name)
            for node in vars(module).values():
                if isinstance(node, Node):
                    node.close()


def test_options_beside_an_application(app: Program) -> None:
    said = app.fails(2, "serve", "--app", "caching:node", "--config", "node.toml", "--group", "bag", "--weight", "2")
    assert "--app caching:node: the node of the application has its own options and groups" in said
    assert "leave out --config, --weight, --group" in said
