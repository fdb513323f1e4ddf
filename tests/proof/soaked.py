"""One process of a soak: a node whose threads call it all the time, and write down what they did.

Each line of its file is written in one step, so that nothing is lost if the process is killed: of a write when it
begins and when it ends, of a read when it ends, of a load when it begins.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from kamacache import KamaCacheError, Node
from kamacache.registry.etcd import EtcdRegistry

KEYS = [f"key{number}" for number in range(12)]
COUNTERS = ["count0", "count1"]
TTL = 30.0
NEAR_TTL = 1.0
LEASE = 5.0
LOADS = {
    "get": 50, "get_many": 6, "get_or_load": 6, "peek": 6, "set": 9, "delete": 8, "set_many": 2, "delete_many": 2,
    "clear": 0.3, "incr": 4, "add": 2, "pop": 1, "touch": 1,
}  # fmt: skip


class Soaked:
    """A node, and the threads that call it."""

    def __init__(self, options: dict[str, Any]) -> None:
        EtcdRegistry.lease = LEASE
        self.name: str = options["name"]
        self.threads: int = options["threads"]
        self.pause: float = options["pause"]
        self._file = os.open(options["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._numbers = itertools.count(1)
        client = options.get("client", False)
        self.node = Node(
            options["listen"],
            advertise=options["advertise"],
            registry=options["registry"],
            service="soak",
            client=client,
        )
        self.group = self.node.group("g", self.load, codec="text", ttl=TTL, near_ttl=NEAR_TTL, jitter=0.0)

    def note(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def load(self, key: str) -> str:
        value = f"{self.name}.L{next(self._numbers)}"
        self.note(load=key, value=value, begin=time.monotonic())
        return value

    def work(self, turn: int) -> None:
        chance = random.Random(f"{self.name} {turn}")
        kinds, weights = list(LOADS), list(LOADS.values())
        while True:
            self.call(chance, chance.choices(kinds, weights)[0])
            time.sleep(self.pause * chance.random())

    def call(self, chance: random.Random, op: str) -> None:
        number = next(self._numbers)
        keys = [KEYS[min(int(chance.expovariate(0.3)), len(KEYS) - 1)]]
        if "many" in op:
            keys = chance.sample(KEYS, 3)
        args: dict[str, Any] = {}
        if op in ("set", "add"):
            args["value"] = f"{self.name}.w{number}"
        elif op == "set_many":
            args["values"] = dict.fromkeys(keys, f"{self.name}.w{number}")
        elif op == "incr":
            keys, args = [chance.choice(COUNTERS)], {"delta": 1, "initial": 0}
        elif op == "touch":
            args["ttl"] = TTL
        elif op == "clear":
            keys = []
        line: dict[str, Any] = {"op": op, "keys": keys, "args": args, "number": number, "begin": time.monotonic()}
        if op not in ("get", "get_many", "get_or_load", "peek"):
            self.note(**line)
        try:
            line["result"] = self.do(op, keys, args)
        except KamaCacheError as error:
            line["error"], line["text"] = type(error).__name__, str(error)
        except Exception as error:  # noqa: BLE001 - the judge decides whether that may be
            line["error"], line["text"] = type(error).__name__, str(error)
        self.note(**line, end=time.monotonic())

    def do(self, op: str, keys: list[str], args: dict[str, Any]) -> Any:  # noqa: PLR0911 - one for each kind
        group = self.group
        if op in ("get", "peek", "delete", "pop"):
            return getattr(group, op)(keys[0])
        if op in ("get_many", "delete_many"):
            return getattr(group, op)(keys)
        if op == "get_or_load":
            return group.get_or_load(keys[0], self.load)
        if op in ("set", "add"):
            return getattr(group, op)(keys[0], args["value"])
        if op == "set_many":
            return group.set_many(args["values"])
        if op == "clear":
            return group.clear()
        if op == "incr":
            return group.incr(keys[0], initial=0)
        return group.touch(keys[0], args["ttl"])

    def run(self) -> None:
        self.node.start()
        while not self.node._membership.joined:
            time.sleep(0.01)
        for turn in range(self.threads):
            threading.Thread(target=self.work, args=(turn,), daemon=True).start()
        sys.stdin.readline()
        os._exit(0)  # an end like that of a kill; goodbyes are a fault of their own


class Timed(logging.Formatter):
    """Begin each line of the log with the time that the judge counts by."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{time.monotonic():.3f} {super().format(record)}"


if __name__ == "__main__":
    logs = logging.StreamHandler()
    logs.setFormatter(Timed())
    logging.basicConfig(level=logging.INFO, handlers=[logs])
    Path(json.loads(sys.argv[1])["log"]).touch()
    Soaked(json.loads(sys.argv[1])).run()
