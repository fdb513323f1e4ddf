"""Serve a shop whose gunicorn workers share one cache: one of them reads a product from the database for all.

GET /products/42 reads through the cache, PUT changes the database and drops the product in every worker.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

import kamacache

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite3")

node = kamacache.Node.from_env(registry="local://", service="shop")  # the workers find each other on this machine


@node.loader("products", codec="json", ttl="10m")
def products(key: str) -> dict[str, Any] | None:
    """Read a product from the database, slowly. None: there is no such product."""
    print(f"worker {os.getpid()} reads product {key}", flush=True)
    with closing(sqlite3.connect(DATABASE, timeout=30)) as database:
        row = database.execute("SELECT name, price FROM products WHERE id = ?", [key]).fetchone()
    time.sleep(0.2)
    return None if row is None else {"id": key, "name": row[0], "price": row[1]}


def save(key: str, name: str, price: float) -> bool:
    """Change the database first, then the cache. Return True if no worker has the old product any more."""
    with closing(sqlite3.connect(DATABASE, timeout=30)) as database, database:
        database.execute("REPLACE INTO products VALUES (?, ?, ?)", [key, name, price])
    return products.delete(key) is True


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a WSGI request; with Flask or Django, views would call the same two functions."""
    prefix, _, key = environ["PATH_INFO"].strip("/").rpartition("/")
    if prefix != "products":
        status, answer = "404 Not Found", None
    elif environ["REQUEST_METHOD"] == "PUT":
        product = json.load(environ["wsgi.input"])
        status, answer = "200 OK", {"everywhere": save(key, product["name"], product["price"])}
    else:
        answer = products.get(key)
        status = "404 Not Found" if answer is None else "200 OK"
    start_response(status, [("Content-Type", "application/json"), ("X-Worker", str(os.getpid()))])
    return [json.dumps(answer).encode()]
