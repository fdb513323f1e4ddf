"""Requests to measure hit ratios with: recorded traces from the folder $KAMACACHE_TRACES, and a seeded Zipf one."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard

VARIABLE = "KAMACACHE_TRACES"
RECORDED = {
    "cache2k/orm-busy": "cache2k/orm-busy.trace.xz",
    "cache2k/web12": "cache2k/web12.trace.xz",
    "arc/OLTP": "arc/OLTP.lis.zst",
}


def folder() -> Path | None:
    """Return the folder of the recorded traces, if there is one."""
    path = os.environ.get(VARIABLE)
    return Path(path) if path else None


def recorded(folder: Path, name: str) -> list[int]:
    """Return the keys of a recorded trace in the order asked. Raises FileNotFoundError if it is missing."""
    data = (folder / RECORDED[name]).read_bytes()
    if RECORDED[name].endswith(".xz"):
        return cache2k(lzma.decompress(data))
    return arc(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read())


def cache2k(data: bytes) -> list[int]:
    """Read a big-endian 32-bit integer for each request."""
    return dense(np.frombuffer(data, dtype=">i4"))


def arc(data: bytes) -> list[int]:
    """Read lines of `start count ignored number`, each a request for every block from start to start + count - 1."""
    keys: list[int] = []
    for line in data.splitlines():
        start, count = map(int, line.split()[:2])
        keys.extend(range(start, start + count))
    return dense(np.array(keys))


def zipf(seed: int, requests: int, unique: int, exponent: float = 0.9) -> list[int]:
    """Draw keys independently, key k as probable as 1 / (k + 1) ** exponent."""
    odds = np.arange(1, unique + 1, dtype=np.float64) ** -exponent
    return dense(np.random.default_rng(seed).choice(unique, size=requests, p=odds / odds.sum()))


def dense(keys: npt.NDArray[np.integer]) -> list[int]:
    numbers = np.unique(keys, return_inverse=True)[1]
    return [int(number) for number in numbers.reshape(-1)]
