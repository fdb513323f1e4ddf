"""A home loop that is closed leaves no coroutine that nobody awaits; a thread may call while asyncio is imported."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import warnings

import pytest

from kamacache import NodeClosed
from kamacache.load.loop import HomeLoop


async def nothing() -> None:
    pass


def test_a_task_that_is_cancelled_before_its_first_step() -> None:
    home = HomeLoop()
    go_on = threading.Event()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        home.running().call_soon_threadsafe(go_on.wait, 5)  # the loop stands still until it has all of this to do
        home.spawn(nothing)
        closing = threading.Thread(target=home.close)
        closing.start()
        closing.join(0.1)
        go_on.set()
        closing.join(5)
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_a_coroutine_for_a_loop_that_is_closed() -> None:
    home = HomeLoop()
    home.running()
    home.close()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(NodeClosed):
            home.spawn(nothing)
        gc.collect()
    assert [str(each.message) for each in warned] == []


def test_calls_of_a_thread_while_another_one_imports_asyncio() -> None:
    """Take a part of the module for no loop, as none can run before all of it is there."""
    code = """
    import sys, threading
    from contextlib import closing
    from kamacache import Node

    arrived, go = threading.Event(), threading.Event()

    class Slow:
        def find_spec(self, name, path=None, target=None):
            if name == "asyncio.base_events":
                arrived.set()
                go.wait(20)

    with closing(Node()) as first, closing(Node()) as second:
        groups = [node.group("g", lambda key: b"v") for node in (first, second)]
        assert groups[0].get_many(["c", "d"]) and "asyncio" not in sys.modules
        sys.meta_path.insert(0, Slow())
        importing = threading.Thread(target=__import__, args=("asyncio",))
        importing.start()
        assert arrived.wait(20)
        for group in groups:  # the second one starts its node
            assert group.get_many(["a", "b"]) == {"a": b"v", "b": b"v"}
            assert group.get("e") == b"v"
            assert group.set("a", b"w")
        go.set()
        importing.join()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
