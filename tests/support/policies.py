"""The eviction policies in plain Python: lists, oldest first, and no care for speed.

Each takes (policy-wide) one capacity in weight. A newcomer weighs 1.
"""

from __future__ import annotations

from typing import Protocol


class Model(Protocol):
    def access(self, key: int) -> bool: ...
    def remove(self, key: int) -> bool: ...
    def demote(self, key: int) -> bool: ...
    def reweigh(self, key: int, weight: int) -> bool: ...
    def contents(self) -> list[int]: ...


class Base:
    """The common part of all policies: the queues, the weights, and evicting until they fit."""

    def __init__(self, capacity: int, queues: int) -> None:
        self.capacity = capacity
        self.queues: list[list[int]] = [[] for _ in range(queues)]
        self.weights: dict[int, int] = {}

    def access(self, key: int) -> bool:
        if key in self.weights:
            self.hit(key)
            return True
        self.weights[key] = 1
        self.insert(key)
        self.shrink()
        return False

    def remove(self, key: int) -> bool:
        if key not in self.weights:
            return False
        self.queue(key).remove(key)
        del self.weights[key]
        return True

    def demote(self, key: int) -> bool:
        if key not in self.weights:
            return False
        self.queue(key).remove(key)
        self.queues[0].insert(0, key)
        return True

    def reweigh(self, key: int, weight: int) -> bool:
        if key not in self.weights:
            return False
        self.weights[key] = weight
        self.reweighed(key)
        self.shrink()
        return True

    def contents(self) -> list[int]:
        return [key for queue in self.queues for key in queue]

    def shrink(self) -> None:
        while sum(self.weights.values()) > self.capacity:
            self.evict()

    def queue(self, key: int) -> list[int]:
        return next(queue for queue in self.queues if key in queue)

    def weight(self, queue: list[int]) -> int:
        return sum(self.weights[key] for key in queue)

    def insert(self, key: int) -> None:
        self.queues[0].append(key)

    def evict(self) -> None:
        self.remove(self.contents()[0])

    def hit(self, key: int) -> None:
        raise NotImplementedError

    def reweighed(self, key: int) -> None:
        """Change the weight of a key; by default this changes no order."""


class Lru(Base):
    """One queue in the order of use."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, 1)

    def hit(self, key: int) -> None:
        self.queues[0].remove(key)
        self.queues[0].append(key)


class TwoLevel(Base):
    """A hit moves a key to the second level. What is beyond a third of the capacity there returns when room is made."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, 2)
        self.newcomer: int | None = None  # until it is moved

    def insert(self, key: int) -> None:
        super().insert(key)
        self.newcomer = key

    def hit(self, key: int) -> None:
        first, second = self.queues
        self.queue(key).remove(key)
        self.moved(key)
        (second if self.weights[key] <= self.capacity // 3 else first).append(key)

    def demote(self, key: int) -> bool:
        self.moved(key)
        return super().demote(key)

    def reweighed(self, key: int) -> None:
        if key in self.queues[1] and self.weights[key] > self.capacity // 3:
            self.hit(key)

    def moved(self, key: int) -> None:
        if key == self.newcomer:
            self.newcomer = None

    def evict(self) -> None:
        first, second = self.queues
        while self.weight(second) > self.capacity // 3 and first:
            first.append(second.pop(0))
        if second and first in ([], [self.newcomer]):
            self.remove(second[0])
            return
        if first[0] == self.newcomer and len(first) > 1:
            first.append(first.pop(0))
        self.remove(first[0])


class S3Fifo(Base):
    """Queues: demoted keys, small, main. Two hits take a key from small to main, each later one once round main."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, 3)
        self.hits: dict[int, int] = {}
        self.ghosts: dict[int, int] = {}  # and the number at which each left the small queue
        self.noted = self.known = 0  # numbers, and how many of the last are known
        self.newcomer: int | None = None  # room is made for it, not by it

    def insert(self, key: int) -> None:
        _, small, main = self.queues
        self.hits[key] = 0
        self.newcomer = key
        left = self.ghosts.pop(key, None)
        if left is not None and self.noted - left < self.known:
            main.append(key)
        else:
            small.append(key)

    def hit(self, key: int) -> None:
        self.hits[key] = min(self.hits[key] + 1, 3)

    def demote(self, key: int) -> bool:
        self.hits[key] = 0
        if key == self.newcomer:
            self.newcomer = None
        return super().demote(key)

    def evict(self) -> None:
        last, small, main = self.queues
        while True:
            over = self.weight(main) > self.capacity - self.capacity // 10
            if last:
                giver = last
            elif not small or (main not in ([], [self.newcomer]) and (len(small) == 1 or over)):
                giver = main
            else:
                giver = small
            key = giver[0]
            hits = self.hits[key]
            if giver is small and hits < 2:
                self.noted, self.known = self.noted + 1, len(self.weights) * 9 // 10
                self.ghosts[key] = self.noted
            elif giver is small or hits or (giver is main and key == self.newcomer and len(main) > 1):
                giver.pop(0)
                main.append(key)
                self.hits[key] = 0 if giver is small else max(hits - 1, 0)
                continue
            self.remove(key)
            return


MODELS: dict[str, type[Lru | TwoLevel | S3Fifo]] = {"lru": Lru, "lru2": TwoLevel, "s3fifo": S3Fifo}
