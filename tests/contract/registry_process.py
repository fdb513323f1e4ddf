"""A process of its own that executes the lines of its standard input, and answers each with a line of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys

from kamacache.net.messages import Member
from kamacache.registry import Registry, parse


class Actor:
    """One registry object, and the commands on it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.registry: Registry = parse(url)
        self.told = 0
        self.told_before = -1

    def lease(self, seconds: str) -> None:
        """Begin anew, with registrations that are forgotten after that time without a sign of life."""
        self.registry.close()
        type(self.registry).lease = float(seconds)
        self.registry = parse(self.url)

    def listen(self, service: str, member: str) -> str | None:
        return self.registry.default_listen(service, member)

    def register(self, service: str, member: str) -> None:
        address = self.registry.default_listen(service, member)
        self.registry.register(service, Member(member, address), self._changed)

    def _changed(self) -> None:
        self.told += 1

    def changes(self) -> int:
        """Return how often the registry has said that its list may have changed."""
        return self.told

    def is_calm(self) -> bool:
        """Return whether the registry has said nothing since the last call of this."""
        before, self.told_before = self.told_before, self.told
        return before == self.told

    def members(self, service: str) -> list[str]:
        return sorted(member.id for member in self.registry.members(service))

    def join(self, service: str, member: str) -> list[str]:
        self.register(service, member)
        return self.members(service)

    def fork(self, service: str = "") -> int:
        """Fork a child that lives on, and return its id; with a service it uses the registry as a node's child does."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            if service:
                self.registry.after_fork_in_child()
                self.registry.members(service)
                self.registry.close()
            os.write(write, b".")
            signal.pause()
        os.close(write)
        os.read(read, 1)
        os.close(read)
        return child

    def close(self) -> None:
        self.registry.close()


def main() -> None:
    signal.alarm(60)  # whatever happens to the test, this process ends
    actor = Actor(sys.argv[1])
    for line in sys.stdin:
        command, *arguments = line.split()
        answer = getattr(actor, command)(*arguments)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
