"""Lock files that tell whether their process lives.

POSIX record locks: the system lets go of them when the process ends, however it ends, and a forked child does not
have them. Their trap: a process that closes *any* descriptor of a file loses its lock on it. So this process must
never open a lock file that it holds itself; it knows those by device and inode.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass

# The lock files this process holds. Invariant: under _guard, a lock file of this process that has its name is in
# _own; taking one and opening one to watch each hold _guard throughout, so none is opened that is just being taken.
_own: set[tuple[int, int]] = set()
_guard = threading.Lock()


def _reset_in_child() -> None:
    global _guard  # noqa: PLW0603 - another thread of the parent may hold the old one for ever
    _guard = threading.Lock()
    _own.clear()


os.register_at_fork(after_in_child=_reset_in_child)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class Held:
    """A lock file of this process."""

    member: str
    descriptor: int
    identity: tuple[int, int]

    @classmethod
    def take(cls, at: int, member: str) -> Held:
        """Make {member}.lock in the directory `at`: locked first, named then."""
        temporary = f"{member}.lock.tmp"
        with _guard:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=at)
            descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=at)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(temporary, f"{member}.lock", src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                os.close(descriptor)
                raise
            identity = _identity(os.fstat(descriptor))
            _own.add(identity)
        return cls(member, descriptor, identity)

    def is_at(self, at: int) -> bool:
        """Whether the file is still what its name in this directory means."""
        try:
            return _identity(os.stat(f"{self.member}.lock", dir_fd=at, follow_symlinks=False)) == self.identity
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let the lock go; removing the file before is the caller's part."""
        with _guard:
            _own.discard(self.identity)
            os.close(self.descriptor)

    def forget(self) -> None:
        """Close the descriptor inherited from the parent, whose lock this does not touch."""
        os.close(self.descriptor)


def watch(at: int, member: str) -> int | None:
    """Open {member}.lock to test it; None where this process holds it itself. FileNotFoundError where it is gone."""
    name = f"{member}.lock"
    with _guard:
        if _identity(os.stat(name, dir_fd=at, follow_symlinks=False)) in _own:
            return None
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)


def seize(descriptor: int) -> bool:
    """Take the lock of a watched file, which works if its process is dead; closing the descriptor lets it go."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def is_named(descriptor: int, at: int, member: str) -> bool:
    """Whether a watched file is still {member}.lock.

    A living member whose file was removed by somebody makes a new one before it lets the old one go: one that was
    seized and is not named says nothing.
    """
    try:
        named = os.stat(f"{member}.lock", dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _identity(named) == _identity(os.fstat(descriptor))
