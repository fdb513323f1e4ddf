"""Measure how long commands on many keys or bytes hold up another connection to the same node.

python -m bench.stalls [--json] [--keys N] [--rounds N] [--only TEXT]

One process is the node, one sends the command, and this one sends PINGs on another connection. Beside the longest PING
stands what the system says of the wire thread during a single PING: the most time on a processor ("busy"), and the most
for which it was ready but had none, because other threads had it.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import spread, worker

BAR_MS = 5.0
KEYS = 500_000
BYTES = 60_000_000  # of one KC.WRITE
FILL = 10_000  # keys of one command that sets them
LEAVES = 0.3  # seconds after which a client leaves without its reply
PING = b"*1\r\n$4\r\nPING\r\n"
PONG = b"+PONG\r\n"
WHAT = ("ping", "busy", "ready")


def serve() -> None:
    """Run the node in this process until its standard input ends."""
    from kamacache import Node  # noqa: PLC0415 - the process that measures needs none

    with Node(listen="127.0.0.1:0") as node:
        for name in ("hits", "misses", "writes"):
            node.group(name, str.encode, max_bytes=1 << 30)
        node.start()
        print(json.dumps(node.address), flush=True)
        for _ in sys.stdin:
            pass


def send(address: str) -> None:
    """Send the commands in the files that standard input names, and print the seconds that each takes.

    After a line that begins with "leave " go away before the reply.
    """
    for line in sys.stdin:
        command = Path(line.removeprefix("leave ").strip()).read_bytes()
        leaves = line.startswith("leave ")
        begun = time.monotonic()
        with connect(address) as connection:
            connection.sendall(command)
            if leaves:
                time.sleep(LEAVES)
            else:
                answered(connection)
        if leaves:
            time.sleep(LEAVES)  # while the node notices
        print(json.dumps(time.monotonic() - begun), flush=True)


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)))


def answered(connection: socket.socket) -> None:
    """Read the replies to all commands before."""
    connection.sendall(PING)
    end = connection.recv(1 << 20)
    if end.startswith(b"-"):
        raise SystemExit(f"the node refuses: {end[:100]!r}")
    while not end.endswith(PONG):
        end = end[-len(PONG) :] + connection.recv(1 << 20)


def command(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%b\r\n" % (len(one), one) for one in arguments)


def field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message with these bytes."""
    length, head = len(content), bytearray([number << 3 | 2])
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes(head) + bytes([length]) + content


def write(size: int) -> bytes:
    """Return the write of values of that size, as a node sends it to the owner."""
    items = (field(2, field(1, b"w%d" % number) + field(2, bytes(size))) for number in range(BYTES // (size + 16)))
    return command(b"KC.WRITE", field(1, b"writes") + b"".join(items))


def commands(keys: int) -> dict[str, Callable[[], bytes]]:
    hits, misses = ([b"%b:key-%d" % (group, number) for number in range(keys)] for group in (b"hits", b"misses"))
    return {
        f"MGET of {keys:,} misses, the client leaves": lambda: command(b"MGET", *misses),
        f"MGET of {keys:,} misses": lambda: command(b"MGET", *misses),
        f"MGET of {keys:,} hits": lambda: command(b"MGET", *hits),
        f"DEL of {keys:,} keys": lambda: command(b"DEL", *hits),
        f"KC.WRITE of {BYTES // 1_000_000} MB in values of 100 B": lambda: write(100),
        f"KC.WRITE of {BYTES // 1_000_000} MB in values of 1 MB": lambda: write(1_000_000),
    }


def wire(pid: int) -> Path:
    """Return the file with the processor time of a node's wire thread."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == "kamacache-wire":
            return task / "schedstat"
    raise SystemExit("the node has no wire thread")


def longest(connection: socket.socket, times: Path, end: int) -> list[float]:
    """Send PINGs until something can be read from `end`. Return the greatest of each of WHAT, in ms."""
    most = [0.0, 0.0, 0.0]
    while not select.select([end], [], [], 0)[0]:
        before, begun = times.read_text().split(), time.perf_counter()
        connection.sendall(PING)
        connection.recv(len(PONG))
        ms = 1000 * (time.perf_counter() - begun)
        after = times.read_text().split()
        spent = [(int(now) - int(then)) / 1e6 for then, now in zip(before[:2], after[:2], strict=True)]
        most = [max(pair) for pair in zip(most, [ms, *spent], strict=True)]
        time.sleep(0.0005)
    return most


def measure(keys: int, rounds: int, only: str) -> dict[str, dict[str, dict[str, float]]]:
    result = {}
    with tempfile.TemporaryDirectory() as directory, worker("bench.stalls", "--serve") as node:
        address = node.answer()
        with worker("bench.stalls", "--send", address) as sender, connect(address) as connection:
            times = wire(node.pid)
            answered(connection)
            for name, make in commands(keys).items():
                if only not in name:
                    continue
                file = Path(directory, "command")
                file.write_bytes(make())
                found = []
                for _ in range(rounds):
                    for first in range(0, keys if "hits" in name or "DEL" in name else 0, FILL):
                        some = (b"hits:key-%d" % number for number in range(first, min(first + FILL, keys)))
                        connection.sendall(command(b"MGET", *some))
                        answered(connection)
                    sender.send(f"leave {file}" if "leaves" in name else str(file))
                    found.append(longest(connection, times, sender.output))
                    sender.answer()
                    if "leaves" in name:
                        time.sleep(1)
                result[name] = {
                    what: spread(values) for what, values in zip(WHAT, zip(*found, strict=True), strict=True)
                }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="measure the commands alone whose line has this text")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--send", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.send:
        send(options.send)
        return
    result = measure(options.keys, options.rounds, options.only)
    if options.json:
        print(json.dumps(result))
        return
    print(f"longest of one PING beside a command, ms: median (min .. max) of {options.rounds} rounds")
    for name, row in result.items():
        texts = (f"{what} {row[what]['median']} ({row[what]['min']} .. {row[what]['max']})" for what in WHAT)
        print(f"  {name:48} {', '.join(texts)}")


if __name__ == "__main__":
    main()
