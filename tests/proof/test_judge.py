"""The judge finds what is wrong in histories made by hand, and passes those that keep the promises."""

from typing import Any

import pytest

from .history import NEVER, Call, Fault, History, Load, Options
from .judge import judge


class Story:
    """Build a history: each call is over before the next begins, unless it is given places of its own."""

    def __init__(self, **options: Any) -> None:
        self.history = History(groups={"g": Options(**options)})
        self.place = 0.0
        self.now = 0.0

    def _span(self, at: tuple[float, float] | None) -> tuple[float, float]:
        begin, end = at or (self.place + 1, self.place + 2)
        self.place = max(self.place, begin, end if end < NEVER else 0)
        return begin, end

    def call(self, node: str, op: str, *keys: str, at: Any = None, result: Any = None, **more: Any) -> "Story":
        begin, end = self._span(at)
        own = {name: more.pop(name) for name in ("error", "cause", "took") if name in more}
        call = Call(node, op, keys, begin, self.now, more, end=end, ended=self.now, result=result, **own)
        self.history.calls.append(call)
        return self

    def load(self, node: str, key: str, value: Any, *, at: Any = None, failed: bool = False) -> "Story":
        begin, end = self._span(at)
        self.history.loads.append(Load(node, key, begin, self.now, value, failed, end=end, ended=self.now))
        return self

    def get(self, node: str, value: Any, key: str = "k", **more: Any) -> "Story":
        return self.call(node, "get", key, result=value, **more)

    def set(self, node: str, value: Any, key: str = "k", result: Any = True, **more: Any) -> "Story":
        return self.call(node, "set", key, value=value, result=result, **more)

    def delete(self, node: str, key: str = "k", result: Any = True, **more: Any) -> "Story":
        return self.call(node, "delete", key, result=result, **more)

    def fault(self, kind: str, *nodes: str, at: tuple[float, float]) -> "Story":
        self.history.faults.append(Fault(kind, nodes, *at))
        return self

    def later(self, seconds: float) -> "Story":
        self.now += seconds
        return self


def new(**options: Any) -> Story:
    return Story(**options)


def clocks_differ() -> Story:
    story = new()
    story.history.one_clock = False
    return story


FAULT = (0.0, 1000.0)
BAD = {
    "an older value before the fault": (
        clocks_differ()
        .set("a", "1", result=False)
        .set("b", "2", result=None, wait=False)
        .call("b", "peek", "k", result="1")
        .fault("cut", "b", at=(8, 20)),
        "Reads on the node",
    ),
    "an older value after one's own that did not wait, by clocks that differ": (
        clocks_differ().set("a", "1", result=False).set("b", "2", result=None, wait=False).get("b", "1"),
        "Reads on the node",
    ),
    "an older value after set": (new().set("a", "1").set("a", "2").get("b", "1"), "Promise 1"),
    "a peek at what was deleted": (new().set("a", "1").delete("b").call("a", "peek", "k", result="1"), "Promise 1"),
    "an older value in a batch": (
        new()
        .set("a", "1")
        .call("b", "set_many", "k", "m", values={"k": "2", "m": "3"}, result=True)
        .call("c", "get_many", "m", "k", result={"m": "3", "k": "1"}),
        "Promise 1",
    ),
    "an older value after clear": (new().set("a", "1").call("b", "clear", result=True).get("c", "1"), "Promise 1"),
    "an older value under a fault": (
        new().fault("cut", "a", "b", at=FAULT).set("a", "1").set("a", "2").get("b", "1"),
        "Promise 1",
    ),
    "a load that began before the write comes back": (
        new().load("a", "k", "l1", at=(1, 10)).delete("b", at=(2, 3)).get("a", "l1", at=(11, 12)),
        "Promise 1",
    ),
    "a caller joins a stale flight": (
        new().load("a", "k", "l1", at=(1, 10)).set("b", "2", at=(2, 3)).get("a", "l1", at=(4, 11)),
        "Promise 1",
    ),
    "an old absence after set": (
        new().load("a", "k", None, at=(2, 3)).get("a", None, at=(1, 4)).set("b", "1").get("a", None),
        "Promise 1",
    ),
    "a remembered failure after set": (
        new(error_ttl=9.0)
        .load("a", "k", "f1", failed=True, at=(2, 3))
        .set("b", "1")
        .call("a", "get", "k", error="LoadError", cause="f1"),
        "Promise 1",
    ),
    "a stale value after delete": (
        new(ttl=5.0, stale_while_revalidate=60.0)
        .load("a", "k", "l1", at=(2, 3))
        .get("a", "l1", at=(1, 4))
        .later(6)
        .delete("b")
        .get("a", "l1"),
        "Promise 1",
    ),
    "a value removed, and confirmed": (
        new().set("a", "1").call("b", "remove", "k", result=(True, True)).get("a", "1"),
        "Promise 1",
    ),
    "a value of another key": (new().set("a", "1", key="other").get("a", "1"), "A value is what"),
    "a value from the future": (new().get("a", "1").set("a", "1"), "A value is what"),
    "the writer reads what its False write replaced": (
        new().fault("cut", "a", "b", at=FAULT).set("a", "1").later(1).set("a", "2", result=False).get("a", "1"),
        "Reads on the node",
    ),
    "a read does not wait for a pending write": (
        new().set("a", "1").set("a", "2", result=None, wait=False).get("a", "1"),
        "Reads on the node",
    ),
    "pending writes in another order": (
        new().set("a", "1", result=None, wait=False).set("a", "2", result=None, wait=False).get("a", "1"),
        "Reads on the node",
    ),
    "a member never fetches what it missed": (
        new()
        .set("a", "1")
        .fault("cut", "a", "b", at=(3, 10))
        .later(1)
        .set("a", "2", result=False, at=(4, 5))
        .later(1)
        .get("b", "1", at=(11, 12)),
        "A member fetches",
    ),
    "the earlier of two sides wins": (
        new()
        .fault("cut", "a", "b", at=(0, 10))
        .set("a", "1", result=False, at=(1, 2))
        .later(1)
        .set("b", "2", result=False, at=(3, 4))
        .later(1)
        .get("a", "1", at=(11, 12)),
        "A member fetches",
    ),
    "a lost write": (
        new().set("a", "1").load("b", "k", "l1", at=(4, 5)).get("c", "l1", at=(3, 6)),
        "A value that was set",
    ),
    "a lost write, without a loader": (new(loader=False).set("a", "1").get("c", None), "A value that was set"),
    "a set value is loaded, and fails": (
        new()
        .set("a", "1")
        .load("b", "k", "f", failed=True, at=(4, 5))
        .call("b", "get", "k", error="LoadError", cause="f", at=(3, 6)),
        "A value that was set",
    ),
    "a lost sum": (
        new()
        .call("a", "incr", "k", delta=1, initial=0, result=1)
        .load("b", "k", "l", at=(4, 5))
        .get("b", "l", at=(3, 6)),
        "A value that was set",
    ),
    "two loads at once": (
        new()
        .load("a", "k", "l1", at=(3, 9))
        .load("b", "k", "l2", at=(4, 8))
        .get("a", "l1", at=(1, 10))
        .get("b", "l2", at=(2, 10)),
        "Promise 2",
    ),
    "a second load": (
        new()
        .load("a", "k", "l1", at=(2, 3))
        .get("a", "l1", at=(1, 4))
        .load("b", "k", "l2", at=(6, 7))
        .get("b", "l2", at=(5, 8)),
        "A value is loaded once",
    ),
    "a get raises what is not of its load": (
        new().fault("cut", "a", "b", at=FAULT).call("a", "get", "k", error="PeerError"),
        "Promise 3",
    ),
    "a load that did not fail": (new().call("a", "get", "k", error="LoadError"), "Promise 3"),
    "a set raises": (
        new().fault("freeze", "b", at=FAULT).call("a", "set", "k", value="1", error="PeerError"),
        "Promise 3",
    ),
    "a primitive raises without a fault": (new().call("a", "add", "k", value="1", error="PeerError"), "Promise 3"),
    "a call that never returns": (new().call("a", "get", "k", at=(1, NEVER)), "Promise 3"),
    "False without a fault": (new().set("a", "1", result=False), "A write returns True"),
    "None of a write that waits": (new().set("a", "1", result=None), "A write returns True or False"),
    "a value that has expired": (new(ttl=5.0).set("a", "1").later(6).get("a", "1"), "Promise 4"),
    "a value beyond its window": (
        new(ttl=5.0, stale_if_error=2.0)
        .load("a", "k", "l1", at=(2, 3))
        .get("a", "l1", at=(1, 4))
        .later(8)
        .get("b", "l1"),
        "Promise 4",
    ),
    "a copy that outlives a ttl of its own": (new().set("a", "1", ttl=1.0).later(2).get("b", "1"), "Promise 4"),
    "two callers add": (
        new()
        .call("a", "add", "k", value="1", result=True, at=(1, 4))
        .call("b", "add", "k", value="2", result=True, at=(2, 3)),
        "The owner decides",
    ),
    "nobody adds": (
        new().delete("a").call("a", "add", "k", value="1", result=False).call("b", "add", "k", value="2", result=False),
        "The owner decides",
    ),
    "a lost increment": (
        new()
        .call("a", "incr", "k", delta=1, initial=0, result=1, at=(1, 4))
        .call("b", "incr", "k", delta=1, initial=0, result=1, at=(2, 3)),
        "The owner decides",
    ),
    "two callers pop one value": (
        new().set("a", "1").call("a", "pop", "k", result="1", at=(5, 8)).call("b", "pop", "k", result="1", at=(6, 7)),
        "The owner decides",
    ),
    "two callers replace one version": (
        new()
        .set("a", "1")
        .call("a", "set", "k", value="2", if_version=7, was="1", result=True)
        .call("b", "set", "k", value="3", if_version=7, was="1", result=True),
        "The owner decides",
    ),
    "a conflict without a cause": (
        new().set("a", "1").call("a", "set", "k", value="2", if_version=7, was="1", error="Conflict").get("a", "1"),
        "The owner decides",
    ),
    "a touch that finds nothing": (
        new().set("a", "1").call("b", "touch", "k", ttl=9.0, result=False),
        "The owner decides",
    ),
    "a load overwrites what was added": (
        new()
        .load("a", "k", "l1", at=(1, 8))
        .call("b", "add", "k", value="1", result=True, at=(2, 3))
        .call("b", "pop", "k", result="l1"),
        "The owner decides",
    ),
}
GOOD = {
    "nothing": new(),
    "a write and a read": new().set("a", "1").get("b", "1"),
    "a read during a write": new()
    .set("a", "1")
    .set("a", "2", at=(5, 9))
    .get("b", "1", at=(6, 7))
    .get("c", "2", at=(6, 8)),
    "an older value after False": new()
    .fault("cut", "a", "b", at=FAULT)
    .set("a", "1")
    .set("a", "2", result=False)
    .get("b", "1"),
    "the waiting caller gets the old load": (
        new().load("a", "k", "l1", at=(2, 10)).get("a", "l1", at=(1, 11)).set("b", "2", at=(3, 4)).get("c", "2")
    ),
    "its own function": (
        new()
        .delete("b")
        .load("a", "k", "l1", at=(4, 9))
        .call("a", "get_or_load", "k", at=(3, 10), result="l1")
        .get("b", "l1")
    ),
    "two writes at once, either wins": new()
    .set("a", "1", at=(1, 5))
    .set("b", "2", at=(2, 4))
    .get("c", "1", at=(6, 7))
    .get("a", "1"),
    "a new load after a write": (
        new()
        .load("a", "k", "l1", at=(2, 10))
        .get("a", "l1", at=(1, 11))
        .delete("b", at=(3, 4))
        .load("b", "k", "l2", at=(6, 8))
        .get("b", "l2", at=(5, 9))
    ),
    "a value lost with its owner": (
        new().set("a", "1").fault("leave", "b", at=(3, 9)).load("c", "k", "l1", at=(12, 13)).get("c", "l1", at=(11, 14))
    ),
    "an expired value is loaded": (
        new(ttl=5.0).set("a", "1").later(6).load("b", "k", "l1", at=(4, 5)).get("c", "l1", at=(3, 6))
    ),
    "a stale value in its window": (
        new(ttl=5.0, stale_while_revalidate=9.0)
        .load("a", "k", "l1", at=(2, 3))
        .get("a", "l1", at=(1, 4))
        .later(8)
        .get("b", "l1")
    ),
    "False under a fault": new().fault("freeze", "b", at=FAULT).set("a", "1", result=False),
    "PeerError of a primitive under a fault": new()
    .fault("freeze", "b", at=FAULT)
    .call("a", "add", "k", value="1", error="PeerError"),
    "sums in order": (
        new()
        .call("a", "incr", "k", delta=1, initial=0, result=2, at=(1, 4))
        .call("b", "incr", "k", delta=1, initial=0, result=1, at=(2, 3))
        .get("c", 2)
    ),
    "add after a pop": (
        new()
        .set("a", "1")
        .call("b", "add", "k", value="2", result=True, at=(5, 9))
        .call("a", "pop", "k", result="1", at=(6, 8))
    ),
    "a conflict with a cause": (
        new()
        .set("a", "1")
        .call("a", "set", "k", value="2", if_version=7, was="1", result=True)
        .call("b", "set", "k", value="3", if_version=7, was="1", error="Conflict")
    ),
    "a conflict after a touch": (  # seed 8583
        new()
        .set("a", "1")
        .call("a", "touch", "k", ttl=30.0, result=True)
        .call("b", "set", "k", value="3", if_version=7, was="1", error="Conflict")
    ),
    "a failed load": (
        new()
        .load("a", "k", "f1", failed=True, at=(2, 3))
        .call("a", "get", "k", error="LoadError", cause="f1", at=(1, 4))
        .load("a", "k", "l2", at=(6, 7))
        .get("a", "l2", at=(5, 8))
    ),
    "each side for itself": (
        new()
        .set("a", "1")
        .fault("apart", "b", at=(3, 20))
        .set("a", "2", at=(4, 5))
        .get("b", "1", at=(6, 7))
        .get("b", "2", at=(21, 22))
    ),
    "pending writes in order": (
        new().set("a", "1", result=None, wait=False).set("a", "2", result=None, wait=False).get("a", "2").get("b", "2")
    ),
    "two sides by clocks that differ, one of which does not wait": (  # seed 506424
        clocks_differ()
        .fault("cut", "b", at=(0, 9))
        .set("a", "1", result=False)
        .set("b", "2", result=None, wait=False)
        .get("b", "1")
    ),
    "a peek that finds nothing": new().set("a", "1").call("b", "peek", "k", result=None),
    "absence that was loaded": new().load("a", "k", None, at=(2, 3)).get("a", None, at=(1, 4)).get("b", None),
}


@pytest.mark.parametrize("name", BAD)
def test_finds(name: str) -> None:
    story, promise = BAD[name]
    broken = judge(story.history)
    assert any(words.startswith(promise) for words in broken), "\n".join(broken) or "nothing was found"


@pytest.mark.parametrize("name", GOOD)
def test_passes(name: str) -> None:
    assert judge(GOOD[name].history) == []
