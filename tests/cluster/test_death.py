"""A member dies, or was never one: no caller of the others notices. `make soak` takes longer, and dies more often."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kamacache import Member
from kamacache.registry.etcd import EtcdRegistry
from kamacache.registry.local import LocalRegistry
from tests.cluster import asking, strangers
from tests.cluster.cluster import in_thread, wait_until
from tests.cluster.conftest import Process, Processes, free_ports
from tests.etcd.server import Etcd

SOAK = "KAMACACHE_SOAK" in os.environ
KINDS = ["local", "static", "etcd"]
THREADS = 8
KEYS = [f"key{number}" for number in range(200)]
SECONDS = 60.0 if SOAK else 1.5
OPTIONS: dict[str, Any] = {"slow": 0.02, "group": {"near_ttl": "1s"}}
GARBAGE = 16 << 10  # KiB: a message of the largest size is read before it is found to be none
GROWTH = 4 << 10
SLACK = 0.5  # seconds in which this test looks at all the views


class Service:
    """Processes, their registry, and the options with which more of them are made."""

    def __init__(self, kind: str, processes: Processes, directory: Path, etcd: Etcd | None) -> None:
        self.kind = kind
        self.processes = processes
        self.url = f"local://{directory}/reg" if etcd is None else etcd.url
        self.options = OPTIONS | ({} if etcd is None else {"registry": etcd.url})

    def list(self, address: str) -> AbstractContextManager[object]:
        """List an address as that of a member that can load the group, until the end."""
        registry = (EtcdRegistry if self.kind == "etcd" else LocalRegistry)(self.url)
        registry.register("test", Member("stranger", address, groups=("g",), loads=("g",)), lambda: None)
        return closing(registry)


@contextmanager
def service(kind: str, directory: Path) -> Iterator[Service]:
    with ExitStack() as stack:
        etcd = stack.enter_context(Etcd(directory)) if kind == "etcd" else None
        yield Service(kind, stack.enter_context(Processes(kind, directory)), directory, etcd)


def ask(processes: list[Process]) -> None:
    for process in processes:
        process.do("ask", KEYS, THREADS, 0.005)


def asked(processes: list[Process]) -> asking.Answers:
    return [process.do("asked") for process in processes]


def footprints(processes: list[Process]) -> list[dict[str, int]]:
    return [process.do("footprint") for process in processes]


def check_flat(processes: list[Process], before: list[dict[str, int]], growth: int) -> None:
    """Check that what these processes hold of the system has not grown, but for connections that are kept."""
    for now, then in zip(footprints(processes), before, strict=True):
        assert now["resident"] - then["resident"] < growth
        assert now["fd"] - then["fd"] < 50
        assert now["task"] - then["task"] < 40


@pytest.mark.parametrize("turn", range(10 if SOAK else 1))
@pytest.mark.parametrize("kind", KINDS if SOAK else ["local"])
def test_one_of_five_is_killed(kind: str, turn: int, tmp_path: Path) -> None:
    """Fail no get, hold none up for a second, load each lost key once, and drop the dead from every view in time."""
    lease = {"local": 1.0, "static": 1.0, "etcd": 10.0 if SOAK and turn == 0 else 2.0}[kind]
    with service(kind, tmp_path) as made:
        victim, *others = made.processes.make(5, lease=lease, **made.options)
        lost = made.processes.keys_of(victim)
        victim.do("get_many", KEYS)
        assert made.processes.loads() == dict.fromkeys(KEYS, 1)
        ask([victim, *others])
        time.sleep(0.5)
        victim.kill()
        killed = time.monotonic()

        def is_gone(process: Process) -> bool:
            listed = [] if kind == "static" else process.do("registered")
            return victim.address not in {*process.do("members"), *process.do("owners", lost), *listed}

        wait_until(lambda: all(is_gone(process) for process in others), lease + 20)
        took = time.monotonic() - killed
        time.sleep(0.5)
        answers = asked(others)
        calm = asking.check(answers)
        stalls = asking.union(stall for answer in answers for stall in answer["stalls"])
        assert took - asking.within(stalls, killed, took) < lease + 2.0 + SLACK
        if calm:  # else members may have passed over some that live
            loads = made.processes.loads()
            assert {key for key in KEYS if loads[key] > 1} <= set(lost)
            assert max(loads.values()) <= 2  # what the dead one was loading is loaded once more, too


STRANGERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "drops": strangers.drops,
    "mute": strangers.mute,
    "garbage": strangers.garbage,
}


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, how) for kind in KINDS for how in (*STRANGERS, "all")] if SOAK else [("static", "all")],
)
def test_listed_addresses_without_a_member(kind: str, how: str, tmp_path: Path) -> None:
    """Let nobody wait for addresses that are listed beside good members, and load their keys once all the same."""
    with ExitStack() as stack:
        names = list(STRANGERS) if how == "all" else [how]
        addresses = [stack.enter_context(STRANGERS[name]()) for name in names]
        made = stack.enter_context(service(kind, tmp_path))
        made.processes.strangers = addresses
        good = made.processes.make(4 if SOAK else 2, **made.options)
        ask(good)
        time.sleep(2.0 if SOAK else 0.3)
        before = footprints(good)
        if kind != "static":
            for address in addresses:
                stack.enter_context(made.list(address))
            wait_until(lambda: all(set(addresses) <= set(process.do("registered")) for process in good))
        time.sleep(SECONDS)
        assert not any(set(addresses) & set(process.do("members")) for process in good)
        if asking.check(asked(good)):
            assert max(made.processes.loads().values()) <= (1 if kind == "static" else 2)  # once more as they move
        check_flat(good, before, GARBAGE if "garbage" in names else GROWTH)


def flap(member: Process, door: strangers.Door | None, ended: threading.Event) -> None:
    """Let nobody reach a member for a second, and again after the next one."""
    while not ended.wait(1.0):
        door.shut() if door is not None else member.kill(signal.SIGSTOP)
        ended.wait(1.0)
        door.open() if door is not None else member.kill(signal.SIGCONT)


@pytest.mark.parametrize(
    ("kind", "how"),
    [(kind, how) for kind in KINDS for how in ("refuses", "stands still")] if SOAK else [("local", "refuses")],
)
def test_member_that_flaps(kind: str, how: str, tmp_path: Path) -> None:
    """Let nobody wait for a member that comes and goes each second, the callers of that member included."""
    with service(kind, tmp_path) as made, closing(strangers.Door()) as door:
        ports = [f"127.0.0.1:{port}" for port in free_ports(4)]
        places: list[dict[str, Any]] = [{}] * 4
        if kind == "static":
            listed = [*ports[:3], door.address if how == "refuses" else ports[3]]
            places = [{"listen": port, "registry": f"static://{','.join(listed)}"} for port in ports]
        if how == "refuses":
            door.behind = ports[3]
            door.open()
            places[3] = places[3] | {"listen": ports[3], "advertise": door.address}
        everyone = [made.processes.make(1, start=False, **made.options | place)[0] for place in places]
        for process in everyone:
            process.send("start")
        for process in everyone:
            process.address = process.receive()
        wait_until(lambda: all(len(process.do("members")) == 4 for process in everyone))
        *good, bad = everyone
        ask(everyone)
        time.sleep(2.0 if SOAK else 0.3)
        before = footprints(good)
        ended = threading.Event()
        flapping = in_thread(flap, bad, door if how == "refuses" else None, ended)
        time.sleep(max(SECONDS, 2.5))
        ended.set()
        flapping.result(10)
        wait_until(lambda: all(len(process.do("members")) == 4 for process in everyone))
        answers = asked(everyone)
        if how == "stands still":
            assert answers.pop()["errors"] == []  # its own waits are the stops
        asking.check(answers)
        check_flat(good, before, GROWTH)
