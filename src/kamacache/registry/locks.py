"""Lock files that tell whether their process lives.

The system releases POSIX record locks when the process ends, however it ends, and a forked child does not have them.
But a process that closes *any* descriptor of a file loses its lock on it. So this process must never open a lock file
that it holds itself; it knows these by device and inode.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from dataclasses import dataclass

# The lock files that this process holds. Invariant, under _guard: a lock file of this process that has its name is in
# _own. Both taking one and opening one to watch hold _guard throughout, so a file that is being taken is not opened.
_own: set[tuple[int, int]] = set()
_guard = threading.Lock()


def _reset_in_child() -> None:
    global _guard  # noqa: PLW0603 - a thread of the parent may hold the old one
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
        """Make {member}.lock in the directory `at`: lock it first, then name it."""
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
        """Return whether its name in this directory still means this file."""
        try:
            return _identity(os.stat(f"{self.member}.lock", dir_fd=at, follow_symlinks=False)) == self.identity
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the lock. The caller has removed the file."""
        with _guard:
            _own.discard(self.identity)
            os.close(self.descriptor)

    def forget(self) -> None:
        """Close the descriptor inherited from the parent, which keeps its lock."""
        os.close(self.descriptor)


def watch(at: int, member: str) -> int | None:
    """Open {member}.lock to test it; None if this process holds it itself. FileNotFoundError if it is gone."""
    name = f"{member}.lock"
    with _guard:
        if _identity(os.stat(name, dir_fd=at, follow_symlinks=False)) in _own:
            return None
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=at)


def seize(descriptor: int) -> bool:
    """Take the lock of a watched file, if its process is dead. Closing the descriptor releases it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


def is_named(descriptor: int, at: int, member: str) -> bool:
    """Return whether a watched file is still {member}.lock.

    A live member whose lock file was deleted names a new one before it unlocks the old. So an unlocked file that lost
    its name does not prove that the member is dead.
    """
    try:
        named = os.stat(f"{member}.lock", dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return _identity(named) == _identity(os.fstat(descriptor))
