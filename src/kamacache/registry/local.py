"""local:// — the processes of one user on one machine find each other in a directory.

Each member has {id}.json (its registration), {id}.lock (a POSIX record lock, held as long as its process lives) and, by
default, {id}.sock to listen on. A lock that can be taken belongs to a dead member, whose files any member removes. A
lock file is locked before it gets its name, so a starting member never looks dead. It is removed last, so that the next
member finishes a cleaning that was cut short. A lock that cannot be taken, though others have removed its file, belongs
to a living member, which makes its files anew.

Every change of a registration changes the times of the directory. So the directory is read only if these have changed,
or a lock has become free.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache._engine import Clock, Watch
from kamacache.errors import ConfigError, RegistryError, encodable
from kamacache.member import Member
from kamacache.net.addresses import UNIX_PATH_MAX, Address, parse_address
from kamacache.registry import locks, record
from kamacache.registry.base import Registry
from kamacache.registry.directory import open_private
from kamacache.units import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEAD = 1_000  # dead members that are remembered
_ORPHAN_AGE = 60.0  # seconds after which no registration can still be writing a temporary file
_LOOK = 0.25  # seconds between looks at the directory and the locks
_JOIN = 0.5
_AGAIN = 10.0  # seconds after which the directory is read whatever its times say: temporary files grow old


class LocalRegistry(Registry):
    """Members are the living processes that hold a lock in the directory of the service."""

    lease = 1.0
    beyond_machine = False

    def __init__(self, url: str = "local://") -> None:
        """Take the directory from the URL, by default one in /tmp for each user. Touch nothing yet."""
        path = url.partition("://")[2]
        if path and not path.startswith("/"):
            raise ConfigError(f"registry={url!r}: the directory is a whole path, as in local:///run/myapp")
        if encodable(path) != path:  # members get paths in it as text
            raise ConfigError(f"registry={url!r}: the directory has a name that UTF-8 can write")
        # The name is well known, but the directory is refused unless it belongs to this user alone.
        self._base = os.path.normpath(path) if path else f"/tmp/kamacache-{os.geteuid()}"  # noqa: S108
        self._mutex = threading.Lock()  # guards all below; taken before the lock of locks.py, never after
        self._service = ""
        self._me: Member | None = None
        self._held: locks.Held | None = None
        # For the service looked at last: open lock files of members in other processes (so that a test is one system
        # call), and registrations as they were read.
        self._looked_at = ""
        self._watched: dict[str, int] = {}
        self._read: dict[str, tuple[tuple[int, int, int], Member | None]] = {}
        self._dead: dict[str, None] = {}  # the members that were seen to be dead, the last of them at the end
        self._found: list[Member] = []  # what the last reading returned
        self._watch = Watch()
        self._watcher: threading.Thread | None = None

    def default_listen(self, service: str, node_id: str) -> str | None:
        """Return a Unix socket in the directory, which is made; RegistryError if that is not safe to use."""
        directory = self._path(check_name(service, what="service"))
        for name in _socket_names(check_name(node_id, what="member")):
            path = f"{directory}/{name}"
            if len(os.fsencode(path)) <= UNIX_PATH_MAX:
                break
        else:
            raise ConfigError(
                f"registry local://{self._base}: {path} is longer than the {UNIX_PATH_MAX} bytes of a Unix socket's "
                "path; choose a shorter directory, or give listen='127.0.0.1:0'"
            )
        with self._mutex, self._open(service) as at:
            self._hold(service, node_id, at)  # from now on other members notice the death of this process
        return f"unix:{path}"

    def advertise(self, address: str) -> str:
        """Return the address, with loopback for 0.0.0.0: all members are on this machine."""
        bound = parse_address(address, name="listen")
        if bound.is_unspecified:
            return str(Address("::1" if ":" in bound.host else "127.0.0.1", bound.port))
        return address

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        """Write or replace the registration in one step; RegistryError if the directory is not safe to use."""
        check_name(service, what="service")
        with self._mutex:
            with self._open(service) as at:
                self._hold(service, me.id, at)
                self._me = me
                _write(me, at)
            if self._watcher is None:
                self._watcher = thread.start("kamacache-registry", self._watching, self._watch, changed)

    def members(self, service: str) -> list[Member]:
        """Return the living members, remove the files of dead ones, and write our own again if they were removed."""
        with self._mutex:
            if service == self._looked_at and not self._watch.differs():
                return list(self._found)
            own = self._me if service == self._service else None
            self._watch.begin(self._path(service))
            try:
                with self._open(service, make=own is not None) as at:
                    if own is not None:
                        self._hold(service, own.id, at)
                    names = os.listdir(at)  # noqa: PTH208 - a descriptor has no path
                    if own is not None and f"{own.id}.json" not in names:
                        _write(own, at)
                    self._found = self._scan(service, at, names)
            except FileNotFoundError:
                return []
            self._watch.watch(list(self._watched.values()), _AGAIN)
            return list(self._found)

    def _watching(self, watch: Watch, changed: Callable[[], None]) -> None:
        while watch.wait(_LOOK):
            changed()

    def is_dead(self, member: str) -> bool:
        """Return whether the lock of a member was found free."""
        return member in self._dead

    def deregister(self) -> None:
        """Remove the registration; the lock and the socket stay until close. Without a registration, remove those."""
        with self._mutex:
            me, self._me = self._me, None
            if me is None:
                self._release()
                return
            with contextlib.suppress(OSError, RegistryError), self._open(self._service, make=False) as at:
                _remove(at, f"{me.id}.json")

    def close(self) -> None:
        """Remove all our files, and release the lock."""
        self.deregister()
        watcher, self._watcher = self._watcher, None
        self._watch.end()
        self._watch = Watch()
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(_JOIN)
        with self._mutex:
            self._forget(set())
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is None:
            return
        try:
            with contextlib.suppress(OSError, RegistryError), self._open(self._service, make=False) as at:
                if held.is_at(at):
                    _remove_all(at, held.member)
        finally:
            held.release()

    def after_fork_in_child(self) -> None:
        """Forget the lock of the parent. Record locks are not inherited, and closing our descriptor keeps it."""
        self._mutex = threading.Lock()
        held, self._held = self._held, None
        self._me = self._watcher = None
        self._watch = Watch()
        self._forget(set())
        if held is not None:
            held.forget()

    def _path(self, service: str) -> str:
        return f"{self._base}/{_directory_name(service)}"

    @contextlib.contextmanager
    def _open(self, service: str, *, make: bool = True) -> Iterator[int]:
        """Open the directory of a service, checked; FileNotFoundError if there is none and `make` is False."""
        descriptor = open_private(self._base, _directory_name(service), make=make)
        try:
            yield descriptor
        except OSError as error:
            raise RegistryError(f"registry directory {self._path(service)}: {error}") from error
        finally:
            os.close(descriptor)

    def _hold(self, service: str, member: str, at: int) -> None:
        """Hold the lock file of this member in this directory, as a new file if the old one was removed."""
        held = self._held
        if held is not None and held.member == member and self._service == service and held.is_at(at):
            return
        self._held = locks.Held.take(at, check_name(member, what="member"))
        self._service = service
        if held is not None:
            held.release()  # after the new one has its name, so that a test of the old one sees that

    def _scan(self, service: str, at: int, names: list[str]) -> list[Member]:
        for name in names:
            if name.endswith(".tmp"):
                _remove_orphan(at, name)
        here = {name.removesuffix(".lock") for name in names if name.endswith(".lock")}
        known = self._watched.keys() if service == self._looked_at else set()
        # The files of these members were removed, and they make them anew within a second.
        lost = {member for member in known - here if member in self._read and not locks.seize(self._watched[member])}
        self._forget(lost | (here if service == self._looked_at else set()))
        self._looked_at = service
        living = [self._load(at, member) for member in sorted(here) if self._is_alive(at, member)]
        living += [self._read[member][1] for member in sorted(lost)]
        return [member for member in living if member is not None]

    def _is_alive(self, at: int, member: str) -> bool:
        """Return whether the process of a member lives, and remove its files if not."""
        descriptor = self._watched.get(member)
        if descriptor is None:
            try:
                descriptor = locks.watch(at, member)
            except FileNotFoundError:
                return False
            if descriptor is None:
                return True
            self._watched[member] = descriptor
        if not locks.seize(descriptor):
            return True
        try:
            if locks.is_named(descriptor, at, member):
                self._died(member)
                _remove_all(at, member)  # under its lock, so that no other process does it too
                return False
        finally:
            os.close(self._watched.pop(member))
        with contextlib.suppress(FileNotFoundError):
            if (replaced := locks.watch(at, member)) is not None:
                self._watched[member] = replaced
        return True

    def _died(self, member: str) -> None:
        self._dead[member] = None
        if len(self._dead) > _DEAD:
            del self._dead[next(iter(self._dead))]

    def _load(self, at: int, member: str) -> Member | None:
        """Return a registration, read again only if its file has changed; None if there is none that we understand."""
        name = f"{member}.json"
        try:
            status = os.stat(name, dir_fd=at, follow_symlinks=False)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            read = self._read.get(member)
            if read is None or read[0] != stamp:
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
                with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
                    found = record.read(file.read())
                read = self._read[member] = (stamp, found if found is not None and found.id == member else None)
        except FileNotFoundError:
            self._read.pop(member, None)
            return None
        return read[1]

    def _forget(self, here: set[str]) -> None:
        """Drop what is kept of members that are not `here`."""
        for member in self._watched.keys() - here:
            descriptor = self._watched.pop(member)
            if locks.seize(descriptor):  # else something removed the files of a member that lives
                self._died(member)
            os.close(descriptor)
        for member in self._read.keys() - here:
            del self._read[member]


def _directory_name(service: str) -> str:
    # "." and ".." are valid names of services.
    return service.replace(".", "%2E") if set(service) == {"."} else service


def _socket_names(member: str) -> tuple[str, str]:
    """Return the usual name, and a shorter one for directories with long paths."""
    return f"{member}.sock", f"{zlib.crc32(member.encode()):08x}.sock"


def _write(me: Member, at: int) -> None:
    temporary = f"{me.id}.json.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=at)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
        file.write(record.written(me, address=True))
    os.rename(temporary, f"{me.id}.json", src_dir_fd=at, dst_dir_fd=at)


def _remove(at: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=at)


def _remove_all(at: int, member: str) -> None:
    """Remove the files of a member: its registration first, its lock last."""
    for name in (f"{member}.json", f"{member}.json.tmp", *_socket_names(member), f"{member}.lock"):
        _remove(at, name)


def _remove_orphan(at: int, name: str) -> None:
    """Remove a temporary file that no process writes any more."""
    with contextlib.suppress(FileNotFoundError):
        if Clock().unix() - os.stat(name, dir_fd=at, follow_symlinks=False).st_mtime > _ORPHAN_AGE:
            os.unlink(name, dir_fd=at)
