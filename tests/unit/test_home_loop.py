"""A home loop that is closed leaves no coroutine that nobody awaits."""

from __future__ import annotations

import gc
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
