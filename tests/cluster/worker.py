"""A process with one node: does what its standard input says, a line of JSON each, and answers with another.

Loads are counted in a file that all processes of a test append to.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from kamacache import Group, KamaCacheError, Node
from kamacache.cluster import exchange
from kamacache.net import native
from kamacache.registry.etcd import EtcdRegistry
from kamacache.registry.static import StaticRegistry
from tests.cluster import asking

if TYPE_CHECKING:
    from kamacache._engine import Contacts


class Worker:
    """The commands of a worker. It takes the times itself, so that pipes and pauses of the test are not in them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.log = options["log"]
        self.slow = options.get("slow", 0.0)
        for registry in (StaticRegistry, EtcdRegistry):
            registry.lease = options.get("lease", registry.lease)
        if patience := options.get("patience"):  # on a starved machine, silence would make strangers of members
            for module, name in ((native, "PEEK_TIMEOUT"), (native, "FORMER_TIMEOUT"), (exchange, "HELLO_TIMEOUT")):
                setattr(module, name, patience)
        where = {"registry": options["registry"], "advertise": options.get("advertise")}
        self.node = Node(options.get("listen"), service="test", **where, **options.get("node", {}))
        names = options.get("groups", ["g"])
        loader = self.aload if options.get("use_async") else self.load
        group_options = {"near_ttl": "1s"} | options.get("group", {})
        self.groups: list[Group[Any]] = [self.node.group(name, loader, codec="text", **group_options) for name in names]
        self.group = self.groups[0]

    def note(self, key: str) -> None:
        with open(self.log, "a") as log:  # noqa: PTH123 - appended in one write
            log.write(f"{key} {os.getpid()}\n")

    def load(self, key: str) -> str | None:
        self.note(key)
        time.sleep(self.slow)
        if key.startswith("hang"):
            threading.Event().wait(60)
        return None if key.startswith("absent") else f"value of {key}"

    async def aload(self, key: str) -> str | None:
        self.note(key)
        await asyncio.sleep(self.slow)
        return f"value of {key}"

    # -- commands ----------------------------------------------------------------------------------------------------

    def start(self) -> str | None:
        self.node.start()
        return self.node.address

    def start_in_background(self) -> None:
        threading.Thread(target=self.node.start, daemon=True).start()

    def get(self, key: str) -> Any:
        began = time.monotonic()
        value = self.group.get(key)
        return [value, time.monotonic() - began]

    def get_or_load(self, key: str, value: str, seconds: float) -> Any:
        """Get a key with a function that takes some time."""

        def load(key: str) -> str:
            self.note(key)
            time.sleep(seconds)
            return value

        began = time.monotonic()
        return [self.group.get_or_load(key, load), time.monotonic() - began]

    def aget(self, key: str) -> Any:
        began = time.monotonic()
        value = asyncio.run(self.group.aget(key))
        return [value, time.monotonic() - began]

    def aget_many(self, keys: list[str]) -> Any:
        began = time.monotonic()
        values = asyncio.run(self.group.aget_many(keys))
        return [values, time.monotonic() - began]

    def get_many(self, keys: list[str]) -> Any:
        began = time.monotonic()
        values = self.group.get_many(keys)
        return [values, time.monotonic() - began]

    def peek(self, key: str) -> str | None:
        return self.group.peek(key)

    def ttl(self, key: str) -> float | None:
        found = self.group._core.store.find(key)
        return None if found is None else found[2]

    def hammer(self, keys: list[str], threads: int, at: float) -> int:
        """Ask for all keys from many threads and tasks at once; return how many got all the right values."""
        right = []

        def work(offset: int) -> None:
            time.sleep(max(0.0, at - time.time()))
            turn = keys[offset % len(keys) :] + keys[: offset % len(keys)]
            values = [self.group.get(key) for key in turn]
            right.append(values == [f"value of {key}" for key in turn])

        def tasks() -> None:
            async def one(key: str) -> bool:
                return await self.group.aget(key) == f"value of {key}"

            async def all_keys() -> bool:
                await asyncio.sleep(max(0.0, at - time.time()))
                return all(await asyncio.gather(*(one(key) for key in keys)))

            right.append(asyncio.run(all_keys()))

        running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        running.append(threading.Thread(target=tasks))
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return sum(right)

    def loop(self, keys: list[str], seconds: float) -> Any:
        """Ask again and again; return the longest time of a get, and the names of errors."""
        until, longest, errors = time.monotonic() + seconds, 0.0, []
        while (began := time.monotonic()) < until:
            for key in keys:
                began = time.monotonic()
                try:
                    if self.group.get(key) != f"value of {key}":
                        errors.append("wrong value")
                except KamaCacheError as error:
                    errors.append(repr(error))
                longest = max(longest, time.monotonic() - began)
        return [longest, errors]

    def ask(self, keys: list[str], threads: int, pause: float) -> None:
        """Ask for random keys on so many threads until `asked`."""
        self.asking = asking.Asking(self.group, keys, threads, pause)

    def asked(self) -> dict[str, Any]:
        return self.asking.end()

    def ask_in_tasks(self, keys: list[str]) -> None:
        """Ask for keys in tasks until the process ends."""

        async def ask() -> None:
            await asyncio.gather(*(asking.ask_in_task(self.group, keys) for _ in range(8)))

        threading.Thread(target=asyncio.run, args=(ask(),), daemon=True).start()

    def write_behind(self, count: int) -> None:
        for number in range(count):
            self.group.set(f"key{number}", "new", wait=False)

    def hit_times(self, keys: list[str], seconds: float) -> list[float]:
        return asking.hit_times(self.group, keys, seconds)

    def pour(self, keys: list[str], threads: int, seconds: float) -> dict[str, Any]:
        return asking.pour(self.group, keys, threads, seconds)

    def waiting(self) -> int:
        """Return how many loads wait for the threads of this node."""
        return self.node._runtime.pool(0)._jobs.qsize()

    def footprint(self) -> dict[str, int]:
        return asking.footprint()

    def set(self, key: str, value: str, ttl: Any = "1h") -> Any:
        began = time.monotonic()
        done = self.group.set(key, value, ttl=ttl)
        return [done, time.monotonic() - began]

    def delete(self, key: str) -> Any:
        began = time.monotonic()
        done = self.group.delete(key)
        return [done, time.monotonic() - began]

    def set_tagged(self, keys: list[str], value: str, tags: list[str]) -> bool | None:
        return self.group.set_many(dict.fromkeys(keys, value), tags=tags)

    def delete_tag(self, tag: str) -> Any:
        """Return what the delete returned, and when."""
        return [self.node.delete_tag(tag), time.monotonic()]

    def watch(self, keys: list[str]) -> None:
        """Get each of these keys again and again on threads of its own, until `seen`."""
        self.stop = threading.Event()
        self.begun: dict[str, float] = {}  # by value or error: when the last get began that returned it

        def work(key: str) -> None:
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    value = str(self.group.get(key))
                except KamaCacheError as error:
                    value = repr(error)
                self.begun[value] = max(began, self.begun.get(value, 0.0))
                time.sleep(0.001)

        self.watching = [threading.Thread(target=work, args=(key,), daemon=True) for key in keys * 2]
        for thread in self.watching:
            thread.start()

    def seen(self) -> dict[str, float]:
        """Return when the last get began that returned each value. The clock is the same in all processes."""
        self.stop.set()
        for thread in self.watching:
            thread.join()
        return self.begun

    def watch_listeners(self, address: str) -> None:
        """Look again and again whether a member is told of the writes of this one, until `was_missing`."""
        self.stop = threading.Event()
        self.looks = self.missing = 0

        def work() -> None:
            while not self.stop.is_set():
                told = [peer.address for peer in self.node._membership.listeners() if not peer.dead]
                self.looks += 1
                self.missing += address not in told
                time.sleep(0.0005)

        threading.Thread(target=work, daemon=True).start()

    def was_missing(self) -> Any:
        self.stop.set()
        return [self.missing, self.looks]

    def orders(self, keys: list[str]) -> list[str]:
        """Return the keys whose writes this member may order."""
        return [key for key in keys if self.node._membership.route("g").is_candidate(key)]

    def remember(self, count: int) -> None:
        """Take note of so many writes."""
        for number in range(count):
            self.group._core.store.note(f"remembered{number}", self.node._runtime.hlc.next())

    def remembers(self, count: int) -> bool:
        """Return whether this member knows of all those writes."""
        return all(self.group._core.store.known(f"remembered{number}") for number in range(count))

    def known(self, key: str) -> bool:
        """Return whether this member knows of a write of a key."""
        return self.group._core.store.known(key) > 0

    def slow_probes(self) -> None:
        """Ping the members a little later in each round."""
        exchange = self.node._membership._exchange
        probe = exchange.probe

        def late() -> None:
            time.sleep(0.2)
            probe()

        exchange.probe = late  # type: ignore[method-assign]

    def stop_in_write(self) -> None:
        """Stop this process in the middle of its next write, which knows by then whom it must tell."""
        lane = self.node._runtime.lane
        contacts = lane.contacts

        class Stopping:
            def __getattr__(self, name: str) -> Any:
                return getattr(contacts, name)

            @contextmanager
            def writing(self) -> Iterator[Any]:
                lane.contacts = contacts
                with contacts.writing() as writing:
                    os.kill(os.getpid(), signal.SIGSTOP)
                    yield writing

        lane.contacts = cast("Contacts", Stopping())

    def members(self) -> list[str]:
        return [str(member) for member in self.node.members()]

    def registered(self) -> list[str]:
        """Return the other members that the registry lists, dead or alive."""
        return [peer.address for peer in self.node._membership.peers.registered()]

    def owners(self, keys: list[str], group: str = "g") -> list[str]:
        return [str(self.node.owner(group, key)) for key in keys]

    def stats(self) -> dict[str, Any]:
        return self.group.stats().as_dict()

    def add_all(self, keys: list[str]) -> list[str]:
        """Add all of these keys, and return those that were added."""
        return [key for key in keys if self.group.add(key, "won")]

    def count(self, keys: list[str], times: int, by_task: bool) -> None:
        """Increment each of these keys so often."""

        async def counted() -> None:
            for _ in range(times):
                for key in keys:
                    await self.group.aincr(key, initial=0)

        if by_task:
            asyncio.run(counted())
            return
        for _ in range(times):
            for key in keys:
                self.group.incr(key, initial=0)

    def hang(self) -> None:
        """Run a loader that hangs, on a thread that no other waits for."""
        threading.Thread(target=self.group.get, args=("hang",), daemon=True).start()

    def hold_gil(self, seconds: float) -> None:
        """Hold the interpreter of this process for a while, after answering."""

        def hold() -> None:
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))

        timer = threading.Timer(0.2, hold)
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        self.node.close()

    def leave(self) -> None:
        """End like a program that has run to its end."""
        sys.exit(0)


def main() -> None:
    signal.alarm(120)  # whatever happens to the test, this process ends
    worker = Worker(json.loads(sys.argv[1]))
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer = getattr(worker, command)(*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
