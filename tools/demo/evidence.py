"""Keep the records of the processes of the demonstration, from which its promises are checked afterwards.

The journal: each process appends every load and every write, begin and end, with the machine's monotonic time. These
records survive kill -9. The confirmed versions: one number for each row, shared by all processes.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOAD, LOADED = b"L", b"l"
DELETE, SET = b"D", b"S"
CONFIRMED, UNCONFIRMED = b"+", b"-"
_RECORD = struct.Struct("<cxxxIQQ")  # kind, key, number of the load or write in this process, nanoseconds


class Journal:
    """The journal of this process. Its threads may share it: one record is one append."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, what: bytes, key: int, number: int) -> None:
        os.write(self._fd, _RECORD.pack(what, key, number, time.monotonic_ns()))


@dataclass(slots=True, frozen=True)
class Load:
    """One call of a loader."""

    key: int
    node: str
    begin: float
    end: float


@dataclass(slots=True, frozen=True)
class Write:
    """One call of delete or set; `confirmed` is its result, None if the process died in it."""

    key: int
    node: str
    begin: float
    end: float
    delete: bool
    confirmed: bool | None


def read_journal(path: Path, node: str, died: float) -> tuple[list[Load], list[Write]]:
    """Return the records of one process. Calls that it did not finish ended when it `died`."""
    loads: list[Load] = []
    writes: list[Write] = []
    began: dict[tuple[bool, int], tuple[bytes, int, float]] = {}
    for what, key, number, at in _records(path):
        if what in (LOAD, DELETE, SET):
            began[what == LOAD, number] = what, key, at
            continue
        kind, _, begin = began.pop((what == LOADED, number))
        if what == LOADED:
            loads.append(Load(key, node, begin, at))
        else:
            writes.append(Write(key, node, begin, at, kind == DELETE, what == CONFIRMED))
    for kind, key, begin in began.values():
        if kind == LOAD:
            loads.append(Load(key, node, begin, max(begin, died)))
        else:
            writes.append(Write(key, node, begin, max(begin, died), kind == DELETE, None))
    return loads, writes


def _records(path: Path) -> Iterator[tuple[bytes, int, int, float]]:
    data = path.read_bytes()
    whole = len(data) - len(data) % _RECORD.size
    for what, key, number, at in _RECORD.iter_unpack(data[:whole]):
        yield what, key, number, at / 1e9


class Versions:
    """The version of the last confirmed write of each row, in memory that all processes share."""

    def __init__(self, path: Path, rows: int) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(rows * 4)
            self.confirmed = memoryview(mmap.mmap(file.fileno(), rows * 4)).cast("I")
