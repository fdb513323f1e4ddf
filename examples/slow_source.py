"""A slow source behind a cache: run this in two terminals, and each value is loaded in one of them only."""

from __future__ import annotations

import time

import kamacache

node = kamacache.Node(registry="local://", service="example")


@node.loader("squares", ttl="30s", codec="json")
def squares(key: str) -> int:
    """Take half a second, as slow sources do."""
    time.sleep(0.5)
    print(f"loaded {key} here")
    return int(key) ** 2


if __name__ == "__main__":
    with node:
        for number in range(10):
            begun = time.perf_counter()
            value = squares.get(str(number))
            print(f"{number} squared is {value}, after {(time.perf_counter() - begun) * 1000:.1f} ms")
        print(squares.stats())
