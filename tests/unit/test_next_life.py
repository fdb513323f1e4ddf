"""Threads that get while their node is closed and begins its next life, which binds their group to another store."""

from __future__ import annotations

import contextlib
import threading

from kamacache import Node, NodeClosed

LIVES = 12
THREADS = 4


def test_gets_while_a_node_is_closed_and_started_again() -> None:
    """Answer each get from the old life or the new one, or with NodeClosed."""
    node = Node()
    group = node.group("g", str.encode)
    ended = threading.Event()
    wrong: list[object] = []
    answered = [0] * THREADS

    def get(place: int) -> None:
        keys = [f"{place} {number}" for number in range(50)]
        while not ended.is_set():
            for key in keys:
                with contextlib.suppress(NodeClosed):
                    value = group.get(key)
                    answered[place] += 1
                    if value != key.encode():
                        wrong.append((key, value))

    threads = [threading.Thread(target=get, args=(place,)) for place in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(LIVES):
            node.close(drain=0)
            node.start()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(answered) > 0
    assert group.get("last") == b"last"
    node.close()
