"""The end of a lane: every call that waits for an answer ends with it, and no peer is blamed for that."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from kamacache._engine import Incoming, Promise, Transport
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed
from kamacache.net.messages import Hello, Member
from kamacache.net.native import NativeLane
from kamacache.net.security import Protection
from kamacache.steps import Wait
from tests.unit.wire import called

HELLO = Hello(Member("i", None), 0, [])
PATIENCE = 10.0
EVER = Deadline.after(None)


def unserved() -> NativeLane:
    """Return a lane that has no thread, as if that one were held up: only `close` can end its calls."""
    return NativeLane(max_value=1 << 20, protection=Protection(None, None))


def assert_closed(call: Promise) -> None:
    with pytest.raises(NodeClosed):
        Wait(call, Deadline.after(PATIENCE)).run()


def test_calls_whose_ends_were_not_delivered_end_when_the_lane_closes(server: Transport, address: str) -> None:
    """Close after the answer to the first came, while the second waits for one, and before a third."""
    with closing(unserved()) as lane:
        first = lane.call(address, HELLO, EVER)
        called(server).reply(HELLO)
        second = lane.call(address, HELLO, EVER)
        held = called(server)
        lane.close()
        for call in (first, second, lane.call(address, HELLO, EVER)):
            assert_closed(call)
        held.fail("overloaded")  # nothing waits for it any more


def test_calls_that_begin_while_the_lane_closes_end(server: Transport, address: str) -> None:
    """Call again and again, so that calls come at every point of a close."""
    with closing(unserved()) as lane:
        first = lane.call(address, HELLO, EVER)
        held = called(server)
        calls = [first]
        closer = threading.Thread(target=lane.close)
        closer.start()
        while closer.is_alive():
            calls.append(lane.call(address, HELLO, EVER))
        for call in calls:
            assert_closed(call)
        held.fail("overloaded")


def test_the_thread_of_a_lane_that_closes_drops_no_message(
    lane: NativeLane, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Have a transport report the end of a call that it has refused, before the thread sees that the lane is closed."""
    lane._transport.close()
    assert_closed(lane.call(address, HELLO, EVER))
    assert not isinstance(lane._transport.next_event(0.0), Incoming | tuple)
    lane.close()
    assert not caplog.records
