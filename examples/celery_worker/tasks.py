"""Celery without Redis: the results of tasks are in a group, and a task that is sent twice runs once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from celery.backends.base import KeyValueStoreBackend
from celery.signals import worker_process_shutdown

import kamacache

node = kamacache.Node.from_env(registry="local://", service="celery-worker")
results = node.group("results", max_bytes="64 MiB")
begun = node.group("begun")


class Results(KeyValueStoreBackend):
    """Keep results as Celery encodes them, each under the id of its task, for `result_expires`."""

    key_t = str
    task_keyprefix, group_keyprefix, chord_keyprefix = "", "group-", "chord-"
    implements_incr = True  # of chords: the last part is the one that counts up to their number

    def get(self, key: str) -> Any:
        return results.get(key)

    def mget(self, keys: list[str]) -> list[Any]:
        found = results.get_many(keys)
        return [found.get(key) for key in keys]

    def set(self, key: str, value: str | bytes) -> None:
        results.set(key, value.encode() if isinstance(value, str) else value, ttl=self.expires)

    def delete(self, key: str) -> None:
        results.delete(key)

    def incr(self, key: str) -> int:
        return results.incr(key, initial=0)

    def expire(self, key: str, value: int) -> None:
        results.touch(key, value)


queue = Path(os.environ.get("QUEUE", f"{tempfile.gettempdir()}/kamacache-celery"))  # for a broker, name its URL below
for folder in (queue, queue / "control"):
    folder.mkdir(parents=True, exist_ok=True)

tasks = Celery("tasks", broker="filesystem://", backend=f"{__name__}:Results")
tasks.conf.broker_transport_options = {
    "data_folder_in": str(queue),
    "data_folder_out": str(queue),
    "control_folder": str(queue / "control"),
}


@worker_process_shutdown.connect
def leave(**_: Any) -> None:
    """Hand over what this process of the worker owns to those that stay."""
    node.close()


@contextmanager
def once(key: str, ttl: str) -> Iterator[bool]:
    """Yield True to the one task that adds the key. If that task raises, a retry included, the next one runs.

    A worker that is killed leaves the key until its ttl, and no task runs again before.
    """
    first = begun.add(key, b"", ttl)
    try:
        yield first
    except BaseException:
        if first:
            begun.remove(key)
        raise


@tasks.task
def total(cents: list[int]) -> int:
    """Return a result that any process can read."""
    return sum(cents)


@tasks.task(bind=True, default_retry_delay=0.1)
def report(self: Any, day: str) -> str:
    """Run once a day, however often it is sent. The first try fails."""
    with once(f"report:{day}", "1d") as first:
        if not first:
            return "done before"
        if not self.request.retries:
            print(f"the report of {day} fails")
            raise self.retry(exc=ConnectionError("the database is away"))
        print(f"the report of {day} is written")
        return f"report of {day}"
