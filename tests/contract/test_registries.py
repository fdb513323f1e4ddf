"""One contract for all registries; the promises of static:// beyond it; and how a URL finds its registry."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kamacache.errors import ConfigError
from kamacache.net.messages import Member
from kamacache.registry import Registry, parse
from kamacache.registry.local import LocalRegistry
from tests.cluster.cluster import wait_until
from tests.cluster.dns_server import Server
from tests.cluster.kubernetes_api import Api
from tests.etcd.server import Etcd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class BoardRegistry(Registry):
    """A user's own registry: a board in this process, one for each URL."""

    boards: ClassVar[dict[str, dict[str, dict[str, Member]]]] = {}
    watchers: ClassVar[list[Callable[[], None]]] = []

    def __init__(self, url: str) -> None:
        self.board = self.boards.setdefault(url, {})
        self.mine: tuple[str, str] | None = None

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        self.mine = (service, me.id)
        self.board.setdefault(service, {})[me.id] = me
        self.watchers.append(changed)
        for watcher in self.watchers:
            watcher()

    def members(self, service: str) -> list[Member]:
        return list(self.board.get(service, {}).values())

    def deregister(self) -> None:
        if self.mine is not None:
            del self.board[self.mine[0]][self.mine[1]]
            self.mine = None

    def close(self) -> None:
        self.deregister()


class Kind:
    """A kind of registry: `registry` makes one more, and all of them share one list of members."""

    url: str

    def registry(self) -> Registry:
        made = self.make()
        self.made.append(made)
        return made

    def make(self) -> Registry:
        return parse(self.url)

    def close(self) -> None:
        """End what the kind has started."""

    @cached_property
    def made(self) -> list[Registry]:
        """Return all registries made, for the suite to close."""
        return []

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        address = registry.default_listen(service, f"id{number}")
        assert address is not None
        return Member(f"id{number}", address)


class Local(Kind):
    def __init__(self, tmp_path: Path) -> None:
        self.url = f"local://{tmp_path}/meet"


class BoardObject(Kind):
    """A registry given as an object."""

    def __init__(self, tmp_path: Path) -> None:
        self.url = f"board://{tmp_path}"

    def make(self) -> Registry:
        return parse(BoardRegistry(self.url))

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"10.0.0.{number}:8001")


class BoardByUrl(BoardObject):
    """A registry found through the entry points of an installed package."""

    def make(self) -> Registry:
        return parse(self.url)


class Static(Kind):
    url = "static://127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003"

    def __init__(self, tmp_path: Path) -> None:
        pass

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"127.0.0.1:800{number}")


class Srv(Kind):
    """A name with three SRV records, from a DNS server of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.server = Server()
        self.server.targets = [f"localhost:800{number}" for number in (1, 2, 3)]
        self.url = self.server.url

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"localhost:800{number}")

    def close(self) -> None:
        self.server.close()


class Kubernetes(Kind):
    """A service with three pods, from an API of its own."""

    url = "kubernetes://cache:8001"

    def __init__(self, tmp_path: Path) -> None:
        self.api = Api(tmp_path / "account")
        self.api.pods = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"127.0.0.{number}:8001")

    def close(self) -> None:
        self.api.close()


class EtcdByUrl(Kind):
    """A real etcd, started by the first test that needs it and emptied by each."""

    server: ClassVar[Etcd | None] = None

    def __init__(self, tmp_path: Path) -> None:
        if EtcdByUrl.server is None:
            EtcdByUrl.server = Etcd(tmp_path.parent)
            EtcdByUrl.server.start()
        EtcdByUrl.server.empty()
        self.url = EtcdByUrl.server.url

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"10.0.0.{number}:8001")


CHANGING: list[type[Kind]] = [Local, BoardObject, BoardByUrl, EtcdByUrl]
ALL: list[type[Kind]] = [*CHANGING, Static, Srv, Kubernetes]


def install_entry_point(monkeypatch: pytest.MonkeyPatch, directory: Path, scheme: str, target: str) -> None:
    """Put the metadata of a package with this entry point on the path, as pip would."""
    info = directory / f"{scheme}_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kamacache.registries]\n{scheme} = {target}\n")
    monkeypatch.syspath_prepend(str(directory))


@pytest.fixture(scope="module", autouse=True)
def _etcd_ends() -> Iterator[None]:
    yield
    if EtcdByUrl.server is not None:
        EtcdByUrl.server.kill()
        EtcdByUrl.server = None


@pytest.fixture
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kind]:
    install_entry_point(monkeypatch, tmp_path / "site", "board", f"{__name__}:BoardRegistry")
    BoardRegistry.watchers.clear()
    made: Kind = request.param(tmp_path)
    yield made
    for registry in made.made:
        registry.close()
    made.close()


def addresses(registry: Registry, service: str = "app") -> list[str]:
    return sorted(str(member) for member in registry.members(service))


def nothing() -> None:
    pass


@pytest.mark.parametrize("kind", ALL, indirect=True)
class TestAll:
    def test_every_member_sees_every_member(self, kind: Kind) -> None:
        registries = [kind.registry() for _ in range(3)]
        members = [kind.member(registry, number) for number, registry in enumerate(registries, 1)]
        for registry, member in zip(registries, members, strict=True):
            registry.register("app", member, nothing)
        expected = sorted(str(member) for member in members)
        wait_until(lambda: [addresses(registry) for registry in registries] == [expected] * 3)
        assert [registry.clients("app") for registry in registries] == [[]] * 3  # they are no mere clients
        for registry in registries:
            registry.close()

    def test_everything_may_be_done_twice(self, kind: Kind) -> None:
        registry = kind.registry()
        me = kind.member(registry, 1)
        registry.register("app", me, nothing)
        registry.register("app", me, nothing)
        assert addresses(registry).count(str(me)) == 1
        for _ in range(2):
            registry.deregister()
        for _ in range(2):
            registry.close()

    def test_closes_without_a_registration(self, kind: Kind) -> None:
        kind.registry().deregister()
        kind.registry().close()

    def test_times_make_sense(self, kind: Kind) -> None:
        registry = kind.registry()
        assert 0 < registry.poll <= registry.lease


@pytest.mark.parametrize("kind", CHANGING, indirect=True)
class TestChanging:
    """Registries whose members come and go; a static list does not change."""

    def test_a_member_that_leaves_is_gone(self, kind: Kind) -> None:
        stays, leaves = kind.registry(), kind.registry()
        stays.register("app", kind.member(stays, 1), nothing)
        leaves.register("app", kind.member(leaves, 2), nothing)
        leaves.deregister()
        wait_until(lambda: [member.id for member in stays.members("app")] == ["id1"])
        leaves.close()
        assert [member.id for member in stays.members("app")] == ["id1"]
        stays.close()

    def test_registration_is_replaced(self, kind: Kind) -> None:
        here, there = kind.registry(), kind.registry()
        me = kind.member(here, 1)
        here.register("app", me, nothing)
        assert there.members("app") == [me]
        more = Member(me.id, me.address, weight=2.5, groups=("users", "orders"), loads=("users",), client=True)
        here.register("app", more, nothing)
        wait_until(lambda: there.members("app") == [more])
        here.close()

    def test_a_member_comes_back(self, kind: Kind) -> None:
        registry = kind.registry()
        me = kind.member(registry, 1)
        for _ in range(2):
            registry.register("app", me, nothing)
            assert registry.members("app") == [me]
            registry.deregister()
            assert registry.members("app") == []
        registry.close()

    @pytest.mark.parametrize("other", ["app-other", "ap", "app.", "App"])
    def test_services_do_not_mix(self, kind: Kind, other: str) -> None:
        one, two = kind.registry(), kind.registry()
        one.register("app", kind.member(one, 1, "app"), nothing)
        two.register(other, kind.member(two, 2, other), nothing)
        assert [member.id for member in one.members("app")] == ["id1"]
        assert [member.id for member in one.members(other)] == ["id2"]
        one.close()
        two.close()

    def test_a_service_without_members(self, kind: Kind) -> None:
        assert kind.registry().members("nobody") == []


class TestStatic:
    def test_all_are_there_before_any_has_registered(self) -> None:
        registry = parse("static://10.0.0.1:8001, 10.0.0.2:8001")
        assert registry.members("app") == [
            Member("10.0.0.1:8001", "10.0.0.1:8001", protocol=0),
            Member("10.0.0.2:8001", "10.0.0.2:8001", protocol=0),
        ]
        assert not registry.beyond_machine

    def test_the_own_address_must_be_in_it(self) -> None:
        registry = parse("static://10.0.0.1:8001,10.0.0.2:8001")
        with pytest.raises(ConfigError, match=r"10\.0\.0\.3:8001.*10\.0\.0\.1:8001, 10\.0\.0\.2:8001"):
            registry.register("app", Member("x", "10.0.0.3:8001"), nothing)
        with pytest.raises(ConfigError, match="listen="):
            registry.default_listen("app", "x")

    def test_a_node_on_every_address_finds_its_own(self) -> None:
        registry = parse("static://127.0.0.1:8001,192.0.2.1:8001,127.0.0.1:8002")
        assert registry.advertise("0.0.0.0:8001") == "127.0.0.1:8001"
        assert registry.advertise("192.0.2.1:8001") == "192.0.2.1:8001"
        with pytest.raises(ConfigError, match="advertise="):
            registry.advertise("0.0.0.0:8003")
        with pytest.raises(ConfigError, match="advertise="):
            parse("static://127.0.0.1:8001,127.0.0.2:8001").advertise("0.0.0.0:8001")

    def test_passwords_are_not_shown(self) -> None:
        with pytest.raises(ConfigError, match="password=") as caught:
            parse("static://a:1,user:hidden@b:1")
        assert "hidden" not in str(caught.value)

    @pytest.mark.parametrize(
        "rest",
        ["", "a:1,a:1", "a:1,", "a", "a:0", "0.0.0.0:1", "a:1,[::1]", "a:1 b:2", "a:99999"],
    )
    def test_bad_lists_are_refused(self, rest: str) -> None:
        with pytest.raises(ConfigError, match="static://"):
            parse(f"static://{rest}")


class TestParse:
    def test_an_unknown_scheme_lists_the_known(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        install_entry_point(monkeypatch, tmp_path, "board", f"{__name__}:BoardRegistry")
        with pytest.raises(
            ConfigError, match=r"consul://.*board://, dns://, dns\+srv://, etcd://, kubernetes://, local://, static://"
        ) as caught:
            parse("consul://user:secret@host")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize("bad", ["", "local", "127.0.0.1:8001", 5, LocalRegistry])
    def test_objects_that_are_no_registry(self, bad: Any) -> None:
        with pytest.raises(ConfigError, match="registry"):
            parse(bad)

    @pytest.mark.parametrize("target", ["no.such.module:X", f"{__name__}:nobody", "builtins:str"])
    def test_broken_entry_points(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        install_entry_point(monkeypatch, tmp_path, "broken", target)
        with pytest.raises(ConfigError, match="broken://"):
            parse("broken://")

    def test_importing_registries_is_light(self) -> None:
        code = "import sys, kamacache.registry; print(*sys.modules)"
        modules = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        assert not {"asyncio", "grpc", "importlib.metadata", "kamacache.registry.local"} & set(modules)
