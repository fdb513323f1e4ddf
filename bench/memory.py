"""Measure how much memory a process takes for a group of so many max_bytes, through changes of what it keeps.

python -m bench.memory [--short] [--json] [--mib 256] [NAME ...]

Each case runs in a process of its own and has several steps. For each step it prints by how much the process has grown
since the group was made: at the end of the step, and at most until then, both as a part of max_bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from kamacache import Group, Node

BAR = 1.25
Step = tuple[str, Callable[[], object]]


class Text:
    """A codec of dicts that nobody changes, so that all callers share one."""

    shareable = True

    def encode(self, value: Any, /) -> bytes:
        return json.dumps(value).encode()

    def decode(self, data: bytes, /) -> Any:
        return json.loads(data)


def kib(name: str) -> int:
    """Return a number of /proc/self/status, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - without pathlib, which takes memory
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))


def fill(group: Group[Any], name: str, size: int, bytes_: int) -> None:
    """Keep values of this size, as many as take `bytes_` in sum with what an entry takes beside its value."""
    store = group._core.store  # noqa: SLF001 - as a load keeps them, with no cost of one
    version = store.floor + 1
    for number in range(max(2, bytes_ // (size + 200))):
        store.put(f"{name}{number}", b"x" * size, version, None, store.MAIN)


def read(group: Group[Any], name: str, value: Any, bytes_: int) -> None:
    """Keep copies of a value, of so many bytes in sum, and read each once."""
    store, raw = group._core.store, group._core.options.codec.encode(value)  # noqa: SLF001 - as above
    for number in range(bytes_ // len(raw)):
        store.put(f"{name}{number}", bytes(bytearray(raw)), 1, None, store.MAIN)
        group.get(f"{name}{number}")


def sizes(node: Node, budget: int) -> Iterator[Step]:
    group = node.group("sizes", None, max_bytes=budget)
    for name, size in (("tiny", 20), ("large", 1 << 20), ("middling", 10_000), ("tiny again", 20), ("small", 600)):
        yield name, partial(fill, group, name, size, 2 * budget)


def text(node: Node, budget: int) -> Iterator[Step]:
    group = node.group("text", None, max_bytes=budget, codec="text")
    for size in (1_000, 30, 100_000):
        yield f"str of {size:,}", partial(read, group, f"{size} ", "x" * size, 2 * budget)


def objects(node: Node, budget: int) -> Iterator[Step]:
    group = node.group("objects", None, max_bytes=budget, codec=Text())
    rows = [{"id": n, "name": f"name {n}", "tags": ["a", "b", str(n)], "price": n / 3} for n in range(10_000)]
    for count in (1, 20, 10_000):
        value = {"rows": rows[:count]}
        yield f"{count:,} rows", partial(read, group, f"{count} ", value, 2 * budget)


def notices(node: Node, budget: int) -> Iterator[Step]:
    def slow(_key: str, _value: object, _reason: str) -> None:
        time.sleep(0.001)

    group = node.group("notices", None, max_bytes=budget, codec=Text(), on_evict=slow)
    for size in (100_000, 1_000, 1 << 20):
        yield f"values of {size:,}", partial(read, group, f"{size} ", "x" * size, 3 * budget)


def tags(node: Node, budget: int) -> Iterator[Step]:
    group = node.group("tags", None, max_bytes=budget)

    def tagged(shared: int) -> None:
        for number in range(budget // 600):
            group.set(f"{shared} {number}", b"x" * 20, tags=(f"tag {number // shared}", "all"))

    def delete() -> None:
        for number in range(0, budget // 600, 10):
            group.delete_tag(f"tag {number}")

    yield "one tag each", lambda: tagged(1)
    yield "deleted tags", delete
    yield "100 for each tag", lambda: tagged(100)
    yield "large", lambda: fill(group, "large", 1 << 20, 2 * budget)


def clears(node: Node, budget: int) -> Iterator[Step]:
    group = node.group("clears", None, max_bytes=budget)
    for name, size in (("tiny", 20), ("middling", 10_000), ("large", 1 << 20), ("tiny again", 20)):
        yield name, partial(fill, group, name, size, budget)
        yield "clear", group.clear


def groups(node: Node, budget: int) -> Iterator[Step]:
    made = [node.group(f"group{number}", None, max_bytes=budget // 4) for number in range(4)]
    for name, size in (("tiny", 20), ("large", 500_000), ("tiny again", 20)):
        for number, group in enumerate(made):
            yield f"{name} {number}", partial(fill, group, name, size, budget // 2)


CASES = {case.__name__: case for case in (sizes, text, objects, notices, tags, clears, groups)}


def measure(case: str, budget: int) -> dict[str, dict[str, float]]:
    node, told = Node(), {}
    warm: Group[Any] = node.group("warm", None, max_bytes=1 << 20, codec="json")
    warm.set("a", [1])
    warm.get("a")
    steps = CASES[case](node, budget)
    before = kib("VmRSS")
    for number, (name, run) in enumerate(steps, 1):
        run()
        most, now = kib("VmHWM"), kib("VmRSS")
        told[f"{number} {name}"] = {"most": (most - before) / budget, "end": (now - before) / budget}
    time.sleep(1.5)  # what the sweeper does meanwhile
    told["a second later"] = {"most": (kib("VmHWM") - before) / budget, "end": (kib("VmRSS") - before) / budget}
    node.close()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", metavar="NAME", nargs="*", help=f"one of {', '.join(CASES)}")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--short", action="store_true", help="with 32 MiB")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    budget = 32 if options.short else options.mib
    if options.inside:
        print(json.dumps(measure(options.cases[0], budget << 20)))
        return
    told = {}
    for case in options.cases or CASES:
        command = [sys.executable, "-m", "bench.memory", "--inside", "--mib", str(budget), case]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        told[case] = json.loads(done.stdout)
        if not options.json:
            print(f"{case}, {budget} MiB")
            for name, row in told[case].items():
                mark = "" if row["most"] <= BAR else f"  over {BAR:g}"
                print(f"  {name:24} end {row['end']:5.2f}  most {row['most']:5.2f}{mark}", flush=True)
    if options.json:
        print(json.dumps(told))


if __name__ == "__main__":
    main()
