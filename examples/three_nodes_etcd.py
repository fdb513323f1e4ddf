"""Run a node that finds others through etcd: start this in three terminals, then end one of the three.

Each requests all keys every second. It prints the members, the owner of a key, and how many keys it loaded itself.
"""

from __future__ import annotations

import signal
import threading
import time

import kamacache

KEYS = [str(number) for number in range(20)]

node = kamacache.Node.from_env(
    listen="127.0.0.1:0",  # on machines of their own: KAMACACHE_LISTEN=0.0.0.0:8001, and KAMACACHE_PASSWORD or TLS
    registry="etcd://127.0.0.1:2379",
    service="three-nodes",
)


@node.loader("squares", codec="json", ttl="10s")
def squares(key: str) -> int:
    """Take a while, as sources do."""
    time.sleep(0.05)
    return int(key) ** 2


def on_signal() -> threading.Event:
    """Return an event that SIGTERM or Ctrl-C sets."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    return ended


if __name__ == "__main__":
    ended = on_signal()
    with node:  # joins here, and says goodbye at the end
        print(f"this is {node.address}", flush=True)
        while not ended.wait(1.0):
            before, begun = squares.stats().loads, time.perf_counter()
            found = squares.get_many(KEYS)
            took, loads = time.perf_counter() - begun, squares.stats().loads - before
            print(
                f"{len(found)} of {len(KEYS)} keys in {took * 1000:.0f} ms, {loads} loaded here;",
                f"members {' '.join(sorted(map(str, node.members())))}; key 7 is {node.owner('squares', '7')}'s",
                flush=True,
            )
    print("said goodbye")
