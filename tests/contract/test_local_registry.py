"""The promises of local:// beyond the contract of all registries: crashes, forks, lost files, unsafe directories."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kamacache.errors import ConfigError, RegistryError
from kamacache.net.messages import Member
from kamacache.registry import Registry, parse
from kamacache.registry.local import LocalRegistry
from tests.contract.actor import Actor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def nothing() -> None:
    pass


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[], Actor]]:
    started: list[Actor] = []

    def start() -> Actor:
        started.append(Actor(f"local://{tmp_path}/meet"))
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
        self, spawn: Callable[[], Actor], local: LocalRegistry, tmp_path: Path
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

    def test_a_living_member_stays_on_the_list_while_its_files_are_lost(
        self, spawn: Callable[[], Actor], local: LocalRegistry, tmp_path: Path
    ) -> None:
        def lose() -> None:
            for path in (tmp_path / "meet" / "app").iterdir():
                path.unlink()

        other = spawn()
        other.do("register app other")
        join(local, "one")
        assert ids(local) == ["one", "other"]
        lose()
        assert ids(local) == ["one", "other"]
        assert other.do("members app") == ["one", "other"]
        assert files(tmp_path) == ["one.json", "one.lock", "other.json", "other.lock"]
        assert ids(local) == ["one", "other"]
        lose()
        other.kill()
        assert ids(local) == ["one"]

    def test_the_end_of_a_process_is_reported(self, spawn: Callable[[], Actor], local: LocalRegistry) -> None:
        """Report it within the second after which others notice it, though it changes no file."""
        other, changed = spawn(), threading.Event()
        other.do("register app other")
        local.register("app", Member("one", "127.0.0.1:1"), changed.set)
        until = time.monotonic() + 10
        while changed.is_set() or ids(local) != ["one", "other"]:  # registering is a change, too
            assert time.monotonic() < until
            changed.clear()
            time.sleep(0.4)  # longer than between two looks
        other.kill()
        assert changed.wait(5)
        assert ids(local) == ["one"]

    def test_a_crash_between_listen_and_register_leaves_nothing(
        self, spawn: Callable[[], Actor], local: LocalRegistry, tmp_path: Path
    ) -> None:
        dies = spawn()
        Path(dies.do("listen app dies").removeprefix("unix:")).touch()
        join(local, "stays")
        assert ids(local) == ["stays"]
        assert "dies.sock" in files(tmp_path)
        dies.kill()
        assert ids(local) == ["stays"]
        assert files(tmp_path) == ["stays.json", "stays.lock"]

    def test_a_stopped_process_is_not_a_dead_one(self, spawn: Callable[[], Actor], local: LocalRegistry) -> None:
        stopped = spawn()
        stopped.do("register app stopped")
        stopped.freeze()
        assert ids(local) == ["stopped"]
        stopped.thaw()
        assert stopped.do("members app") == ["stopped"]

    def test_ten_at_once_and_none_is_missed(self, spawn: Callable[[], Actor]) -> None:
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

    def test_many_cleaners_of_many_dead(self, spawn: Callable[[], Actor], tmp_path: Path) -> None:
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
        self, spawn: Callable[[], Actor], local: LocalRegistry
    ) -> None:
        parent = spawn()
        parent.do("register app parent")
        child = parent.do("fork app")
        assert ids(local) == ["parent"]
        assert parent.do("members app") == ["parent"]
        os.kill(child, signal.SIGKILL)
        assert ids(local) == ["parent"]

    @pytest.mark.parametrize("fork", ["fork app", "fork"])
    def test_a_dead_parent_is_dead_though_its_child_lives(
        self, spawn: Callable[[], Actor], local: LocalRegistry, fork: str
    ) -> None:
        parent = spawn()
        parent.do("register app parent")
        child = parent.do(fork)
        parent.kill()
        assert ids(local) == []
        os.kill(child, signal.SIGKILL)

    def test_members_of_one_process_keep_their_locks(
        self, spawn: Callable[[], Actor], local: LocalRegistry, tmp_path: Path
    ) -> None:
        # By another path to the same directory, too: a lock file is known by its inode.
        (tmp_path / "link").symlink_to(tmp_path)
        second = LocalRegistry(f"local://{tmp_path}/link/meet")
        join(local, "one")
        join(second, "two")
        for registry in (local, second):
            assert ids(registry) == ["one", "two"]
        assert spawn().do("members app") == ["one", "two"]
        second.close()
        assert spawn().do("members app") == ["one"]

    def test_registering_while_others_of_the_process_look(self, spawn: Callable[[], Actor], tmp_path: Path) -> None:
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
        self, local: LocalRegistry, spawn: Callable[[], Actor], tmp_path: Path, lost: str
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

    def test_a_lock_file_replaced_while_it_is_tested_is_not_a_dead_members(
        self, local: LocalRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        me = join(local, "one")
        other = LocalRegistry(f"local://{tmp_path}/meet")
        directory = tmp_path / "meet" / "app"
        for end in ("json", "lock"):
            (directory / f"two.{end}").touch()
        lock = fcntl.lockf

        def replace_first(descriptor: int, operation: int) -> None:
            (directory / "new").touch()
            (directory / "new").rename(directory / "two.lock")
            lock(descriptor, operation)

        monkeypatch.setattr(fcntl, "lockf", replace_first)
        assert other.members("app") == [me]
        assert files(tmp_path) == ["one.json", "one.lock", "two.json", "two.lock"]
        monkeypatch.undo()
        assert other.members("app") == [me]
        assert files(tmp_path) == ["one.json", "one.lock"]

    def test_watching_leaves_no_descriptors_behind(self, spawn: Callable[[], Actor], local: LocalRegistry) -> None:
        def count() -> int:
            return len(list(Path("/dev/fd").iterdir()))

        process = spawn()
        before = count()
        for _ in range(3):
            process.do("register app one")
            process.do("register other two")
            for service in ("app", "other", "app"):
                ids(local, service)
            process.do("close")
            ids(local)
            join(local, "mine")
            ids(local)
            local.close()
        assert count() == before

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

    def test_strange_files_are_no_members(self, local: LocalRegistry, tmp_path: Path) -> None:
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
        base = Path(f"/tmp/kamacache-test-{os.getpid()}")  # noqa: S108 - as short as the default
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
