"""Directories that only this user can touch, opened so that they cannot be exchanged afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from kamacache.errors import RegistryError

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_private(base: str, name: str, *, make: bool) -> int:
    """Open `base`/`name`, both real directories of this user with mode 0700, and return the descriptor.

    Everything inside is reached through it, whatever happens to the path. With `make`, a missing directory is made,
    else it raises FileNotFoundError. RegistryError names the path that is not safe and what to do.
    """
    outer = _open(base, None, base, make=make)
    try:
        return _open(name, outer, f"{base}/{name}", make=make)
    finally:
        os.close(outer)


def _open(name: str, within: int | None, shown: str, *, make: bool) -> int:
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=within)
        descriptor = os.open(name, _FLAGS, dir_fd=within)
    except FileNotFoundError as error:
        if not make:
            raise
        raise RegistryError(f"registry directory {shown}: cannot be made, its parent does not exist") from error
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise RegistryError(
                f"registry directory {shown}: is a link or no directory, which is not safe; remove it, or choose "
                "another directory: local:///path"
            ) from error
        raise RegistryError(
            f"registry directory {shown}: {error.strerror}; choose another directory: local:///path"
        ) from error
    status = os.fstat(descriptor)
    problem = None
    if status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to {os.geteuid()}: choose another directory, local:///path"
    elif stat.S_IMODE(status.st_mode) & 0o777 != 0o700:  # noqa: PLR2004 - what mkdir above asks for
        problem = f"has mode {stat.S_IMODE(status.st_mode):04o}, others may get in: chmod 700 {shown}"
    if problem is not None:
        os.close(descriptor)
        raise RegistryError(f"registry directory {shown}: {problem}")
    return descriptor
