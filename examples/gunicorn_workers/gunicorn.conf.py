"""Run four workers; each is a node from its first request to the end of its last one.

It is the same with preload_app = True: a forked worker is a node of its own.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any

wsgi_app = "app:application"
workers = 4


def on_starting(_: Any) -> None:
    """Create the database of the shop if there is none."""
    with closing(sqlite3.connect(os.environ.get("SHOP_DATABASE", "shop.sqlite3"))) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS products (id TEXT PRIMARY KEY, name TEXT, price REAL)")
        database.execute("INSERT OR IGNORE INTO products VALUES ('42', 'Towel', 9.99)")


def post_worker_init(_: Any) -> None:
    """Join the others before the first request. Without this, a node starts at its first get."""
    from app import node  # here, after gunicorn has loaded it in the worker: the master must not import it

    node.start()


def worker_exit(_: Any, worker: Any) -> None:
    """Finish what other workers wait for, after SIGTERM and the last request, and say goodbye."""
    if worker.pid == os.getpid():  # gunicorn also calls this in its master, for a worker that has vanished
        from app import node

        node.close(drain="5s")
