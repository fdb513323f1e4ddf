"""One contract for all registries, and what each kind promises beyond it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from kamacache.errors import ConfigError, RegistryError
from kamacache.messages import Member
from kamacache.registry import Registry, parse
from kamacache.registry.local import LocalRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACTOR = Path(__file__).with_name("registry_process.py")


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
    """How the suite meets one kind of registry: `registry` makes one more, all of them meeting at one place."""

    url: str

    def registry(self) -> Registry:
        return parse(self.url)

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

    def registry(self) -> Registry:
        return parse(BoardRegistry(self.url))

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"10.0.0.{number}:8001")


class BoardByUrl(BoardObject):
    """The same, found through the entry points of an installed package."""

    def registry(self) -> Registry:
        return parse(self.url)


class Static(Kind):
    url = "static://127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003"

    def __init__(self, tmp_path: Path) -> None:
        pass

    def member(self, registry: Registry, number: int, service: str = "app") -> Member:
        return Member(f"id{number}", f"127.0.0.1:800{number}")


CHANGING: list[type[Kind]] = [Local, BoardObject, BoardByUrl]
ALL: list[type[Kind]] = [*CHANGING, Static]


def install_entry_point(monkeypatch: pytest.MonkeyPatch, directory: Path, scheme: str, target: str) -> None:
    """Put the metadata of a package with this entry point on the path, as pip would."""
    info = directory / f"{scheme}_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[kamacache.registries]\n{scheme} = {target}\n")
    monkeypatch.syspath_prepend(str(directory))


@pytest.fixture
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kind:
    install_entry_point(monkeypatch, tmp_path / "site", "board", f"{__name__}:BoardRegistry")
    BoardRegistry.watchers.clear()
    made: Kind = request.param(tmp_path)
    return made


def addresses(registry: Registry, service: str = "app") -> list[str]:
    return sorted(str(member) for member in registry.members(service))


def nothing() -> None:
    pass


@pytest.mark.parametrize("kind", ALL, indirect=True)
class TestAll:
    def test_all_who_registered_are_seen_by_all(self, kind: Kind) -> None:
        registries = [kind.registry() for _ in range(3)]
        members = [kind.member(registry, number) for number, registry in enumerate(registries, 1)]
        for registry, member in zip(registries, members, strict=True):
            registry.register("app", member, nothing)
        expected = sorted(str(member) for member in members)
        assert [addresses(registry) for registry in registries] == [expected] * 3
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
        assert 0 < registry.poll < registry.lease


@pytest.mark.parametrize("kind", CHANGING, indirect=True)
class TestChanging:
    """Where members come and go; a static list does not change."""

    def test_who_leaves_is_gone(self, kind: Kind) -> None:
        stays, leaves = kind.registry(), kind.registry()
        stays.register("app", kind.member(stays, 1), nothing)
        leaves.register("app", kind.member(leaves, 2), nothing)
        leaves.deregister()
        assert [member.id for member in stays.members("app")] == ["id1"]
        leaves.close()
        assert [member.id for member in stays.members("app")] == ["id1"]
        stays.close()

    def test_registration_is_replaced(self, kind: Kind) -> None:
        here, there = kind.registry(), kind.registry()
        me = kind.member(here, 1)
        here.register("app", me, nothing)
        assert there.members("app") == [me]
        more = Member(me.id, me.address, weight=2.5, groups=("users", "orders"))
        here.register("app", more, nothing)
        assert there.members("app") == [more]
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


class Process:
    """An actor in a process of its own."""

    def __init__(self, url: str) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, str(ACTOR), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def send(self, line: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(line + "\n")
        self.popen.stdin.flush()

    def answer(self) -> Any:
        assert self.popen.stdout is not None
        return json.loads(self.popen.stdout.readline())

    def do(self, line: str) -> Any:
        self.send(line)
        return self.answer()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)

    def end(self) -> None:
        self.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        started.append(Process(f"local://{tmp_path}/meet"))
        return started[-1]

    yield start
    for process in started:
        process.end()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRegistry]:
    registry = LocalRegistry(f"local://{tmp_path}/meet")
    yield registry
    registry.close()


def ids(registry: Registry, service: str = "app") -> list[str]:
    return sorted(member.id for member in registry.members(service))


def files(tmp_path: Path, service: str = "app") -> list[str]:
    return sorted(path.name for path in (tmp_path / "meet" / service).iterdir())


def join(registry: Registry, member: str, service: str = "app") -> Member:
    me = Member(member, registry.default_listen(service, member))
    registry.register(service, me, nothing)
    return me


class TestLocalProcesses:
    def test_a_crash_is_seen_at_once_and_cleaned_up(
        self, spawn: Callable[[], Process], local: LocalRegistry, tmp_path: Path
    ) -> None:
        dies = spawn()
        socket_path = dies.do("listen app dies").removeprefix("unix:")
        dies.do("register app dies")
        Path(socket_path).touch()  # a dead process leaves its socket behind
        join(local, "stays")
        assert ids(local) == ["dies", "stays"]
        dies.kill()
        assert ids(local) == ["stays"]
        assert files(tmp_path) == ["stays.json", "stays.lock"]
        assert local.poll <= 0.125  # so that a crash is seen within 250 ms

    def test_a_crash_between_listen_and_register_leaves_nothing(
        self, spawn: Callable[[], Process], local: LocalRegistry, tmp_path: Path
    ) -> None:
        dies = spawn()
        Path(dies.do("listen app dies").removeprefix("unix:")).touch()
        join(local, "stays")
        assert ids(local) == ["stays"]
        assert "dies.sock" in files(tmp_path)
        dies.kill()
        assert ids(local) == ["stays"]
        assert files(tmp_path) == ["stays.json", "stays.lock"]

    def test_a_stopped_process_is_not_a_dead_one(self, spawn: Callable[[], Process], local: LocalRegistry) -> None:
        stopped = spawn()
        stopped.do("register app stopped")
        stopped.popen.send_signal(signal.SIGSTOP)
        assert ids(local) == ["stopped"]
        stopped.popen.send_signal(signal.SIGCONT)
        assert stopped.do("members app") == ["stopped"]

    def test_ten_at_once_and_nobody_is_missed(self, spawn: Callable[[], Process]) -> None:
        processes = {f"p{number}": spawn() for number in range(10)}
        for process in processes.values():
            assert process.do("members app") == []  # imported, at the line
        for name, process in processes.items():
            process.send(f"join app {name}")
        first = {name: process.answer() for name, process in processes.items()}
        for one in processes:
            for other in processes:
                assert one in first[other] or other in first[one]
        for process in processes.values():
            assert process.do("members app") == sorted(processes)

    def test_many_cleaners_of_many_dead(self, spawn: Callable[[], Process], tmp_path: Path) -> None:
        dead = [spawn() for _ in range(4)]
        for number, process in enumerate(dead):
            process.do(f"register app dead{number}")
        cleaners = {f"c{number}": spawn() for number in range(4)}
        for name, process in cleaners.items():
            process.do(f"register app {name}")
        for process in dead:
            process.kill()
        for _ in range(3):
            for process in cleaners.values():
                process.send("members app")
            for process in cleaners.values():
                assert set(process.answer()) >= set(cleaners)
        assert all(process.do("members app") == sorted(cleaners) for process in cleaners.values())
        assert files(tmp_path) == sorted(f"{name}.{end}" for name in cleaners for end in ("json", "lock"))

    def test_a_forked_child_leaves_the_parents_registration(
        self, spawn: Callable[[], Process], local: LocalRegistry
    ) -> None:
        parent = spawn()
        parent.do("register app parent")
        child = parent.do("fork app")
        assert ids(local) == ["parent"]
        assert parent.do("members app") == ["parent"]
        os.kill(child, signal.SIGKILL)
        assert ids(local) == ["parent"]

    def test_a_dead_parent_is_dead_though_its_child_lives(
        self, spawn: Callable[[], Process], local: LocalRegistry
    ) -> None:
        parent = spawn()
        parent.do("register app parent")
        child = parent.do("fork app")
        parent.kill()
        assert ids(local) == []
        os.kill(child, signal.SIGKILL)

    def test_members_of_one_process_keep_their_locks(
        self, spawn: Callable[[], Process], local: LocalRegistry, tmp_path: Path
    ) -> None:
        # By another path to the same directory, too: a lock file is known by what it is.
        (tmp_path / "link").symlink_to(tmp_path)
        second = LocalRegistry(f"local://{tmp_path}/link/meet")
        join(local, "one")
        join(second, "two")
        for registry in (local, second):
            assert ids(registry) == ["one", "two"]
        assert spawn().do("members app") == ["one", "two"]
        second.close()
        assert spawn().do("members app") == ["one"]

    def test_registering_while_others_of_the_process_look(
        self, spawn: Callable[[], Process], tmp_path: Path
    ) -> None:
        url = f"local://{tmp_path}/meet"
        registries = [LocalRegistry(url) for _ in range(6)]
        failures: list[BaseException] = []
        names = [f"t{number}" for number in range(len(registries))]

        def work(registry: LocalRegistry, name: str) -> None:
            try:
                for _ in range(20):
                    join(registry, name)
                    assert name in ids(registry)
                    registry.close()
                join(registry, name)
            except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=pair) for pair in zip(registries, names, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failures
        assert spawn().do("members app") == names
        for registry in registries:
            registry.close()
        assert files(tmp_path) == []


class TestLocalFiles:
    @pytest.mark.parametrize("lost", ["one.json", "one.lock", "everything", "the whole directory"])
    def test_lost_files_are_written_again(
        self, local: LocalRegistry, spawn: Callable[[], Process], tmp_path: Path, lost: str
    ) -> None:
        me = join(local, "one")
        if lost == "everything":
            shutil.rmtree(tmp_path / "meet" / "app")
        elif lost == "the whole directory":
            shutil.rmtree(tmp_path / "meet")
        else:
            (tmp_path / "meet" / "app" / lost).unlink()
        assert local.members("app") == [me]
        assert spawn().do("members app") == ["one"]
        assert files(tmp_path) == ["one.json", "one.lock"]

    def test_directories_are_private(self, local: LocalRegistry, tmp_path: Path) -> None:
        join(local, "one")
        for directory in (tmp_path / "meet", tmp_path / "meet" / "app"):
            assert directory.stat().st_mode & 0o777 == 0o700
        for name in files(tmp_path):
            assert (tmp_path / "meet" / "app" / name).stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("place", ["meet", "meet/app"])
    @pytest.mark.parametrize("danger", ["mode", "link", "file", "dangling link", "owner"])
    def test_unsafe_directories_are_refused(
        self, local: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, danger: str
    ) -> None:
        path = tmp_path / place
        path.parent.mkdir(mode=0o700, exist_ok=True)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        if danger == "mode":
            path.mkdir()
            path.chmod(0o750)
        elif danger == "link":
            path.symlink_to(elsewhere)
        elif danger == "file":
            path.touch(0o700)
        elif danger == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        elif os.geteuid() == 0:
            path.mkdir(mode=0o700)
            os.chown(path, 12345, -1)
        else:
            path.mkdir(mode=0o700)
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        calls: list[Callable[[], object]] = [
            lambda: local.default_listen("app", "one"),
            lambda: local.register("app", Member("one", "127.0.0.1:1"), nothing),
            lambda: local.members("app"),
        ]
        for call in calls:
            with pytest.raises(RegistryError, match=str(tmp_path / "meet")):
                call()
        assert list(elsewhere.iterdir()) == []
        assert not (tmp_path / "nowhere").exists()

    def test_the_parent_of_the_directory_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryError, match="parent"):
            LocalRegistry(f"local://{tmp_path}/a/b").default_listen("app", "one")

    def test_strange_files_are_nobodys(self, local: LocalRegistry, tmp_path: Path) -> None:
        join(local, "one")
        directory = tmp_path / "meet" / "app"
        (directory / "note.txt").write_text("hello")
        (directory / "two.json").write_text('{"id": "two"}')
        assert ids(local) == ["one"]
        (directory / "one.json").write_text("{}")
        assert ids(local) == []

    def test_old_temporary_files_are_removed_and_new_ones_left(self, local: LocalRegistry, tmp_path: Path) -> None:
        join(local, "one")
        directory = tmp_path / "meet" / "app"
        for name, age in (("old.lock.tmp", 120), ("new.lock.tmp", 0)):
            (directory / name).touch()
            moment = time.time() - age
            os.utime(directory / name, (moment, moment))
        assert ids(local) == ["one"]
        assert files(tmp_path) == ["new.lock.tmp", "one.json", "one.lock"]

    def test_sockets_are_in_the_directory_and_their_paths_fit(self, tmp_path: Path) -> None:
        base = Path("/tmp") / f"kamacache-test-{os.getpid()}"
        registry = LocalRegistry(f"local://{base}")
        try:
            for service in ("app", "s" * 64, ".", ".."):
                address = registry.default_listen(service, "f" * 32)
                assert address is not None
                path = Path(address.removeprefix("unix:"))
                assert path.parent.resolve() != base.parent
                assert path.parent.parent == base
                assert len(bytes(path)) <= 107
                join(registry, "f" * 32, service)
                path.touch()
                registry.close()
                assert not path.exists()
            deep = LocalRegistry(f"local://{base}/{'d' * 100}")
            with pytest.raises(ConfigError, match="shorter"):
                deep.default_listen("app", "f" * 32)
        finally:
            shutil.rmtree(base)

    @pytest.mark.parametrize("address", ["127.0.0.1:8001", "[::1]:8001", "unix:/run/app.sock"])
    def test_other_addresses_may_be_registered(self, local: LocalRegistry, address: str) -> None:
        assert local.advertise(address) == address
        local.register("app", Member("one", address), nothing)
        assert [str(member) for member in local.members("app")] == [address]

    def test_every_address_of_the_machine_becomes_its_loopback(self, local: LocalRegistry) -> None:
        assert local.advertise("0.0.0.0:8001") == "127.0.0.1:8001"
        assert local.advertise("[::]:8001") == "[::1]:8001"

    def test_the_directory_is_a_whole_path(self) -> None:
        with pytest.raises(ConfigError, match="local:///run"):
            parse("local://run/myapp")


class TestStatic:
    def test_all_are_there_before_anybody_registered(self) -> None:
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
        with pytest.raises(ConfigError, match=r"consul://.*board://, local://, static://") as caught:
            parse("consul://user:secret@host")
        assert "secret" not in str(caught.value)

    def test_etcd_is_for_later(self) -> None:
        with pytest.raises(ConfigError, match="later version"):
            parse("etcd://127.0.0.1:2379")

    @pytest.mark.parametrize("bad", ["", "local", "127.0.0.1:8001", 5, LocalRegistry])
    def test_what_is_no_registry(self, bad: Any) -> None:
        with pytest.raises(ConfigError, match="registry"):
            parse(bad)

    @pytest.mark.parametrize("target", ["no.such.module:X", f"{__name__}:nobody", "builtins:str"])
    def test_broken_entry_points(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
        install_entry_point(monkeypatch, tmp_path, "broken", target)
        with pytest.raises(ConfigError, match="broken://"):
            parse("broken://")

    def test_importing_registries_is_light(self) -> None:
        code = "import sys, kamacache.registry; print(*sys.modules)"
        modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert not {"asyncio", "grpc", "importlib.metadata", "kamacache.registry.local"} & set(modules)
