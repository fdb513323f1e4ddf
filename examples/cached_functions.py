"""Cache functions: their arguments make the key, and the database session of the caller is used and not part of it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

import kamacache

node = kamacache.Node.from_env()  # alone; with KAMACACHE_REGISTRY=local:// shared by the processes of this machine


@dataclass(frozen=True)
class Product:
    """A row of the database. The return annotation says it, so that the cache can keep it."""

    number: int
    name: str
    price: float


@node.cached(ttl="10m", tags="product:{number}")
def product(number: int, *, db: Annotated[sqlite3.Connection, kamacache.NotKey]) -> Product | None:
    """Read one row. It runs here, in the caller's thread, once for all who ask meanwhile."""
    print(f"  the database reads product {number}")
    row = db.execute("SELECT number, name, price FROM products WHERE number = ?", (number,)).fetchone()
    return None if row is None else Product(*row)


@node.cached(ttl="1h", refresh_after="50m", tags="product:{number}")
async def offer(number: int, lang: str = "en", *, db: Annotated[sqlite3.Connection, kamacache.NotKey]) -> str:
    """Write what takes long, from what another cached function knows."""
    found = product(number, db=db)
    await asyncio.sleep(0.05)
    print(f"  an offer is written for product {number} in {lang}")
    return "-" if found is None else {"en": "Buy", "fr": "Achetez"}[lang] + f" {found.name}: {found.price:.2f}"


async def main(db: sqlite3.Connection) -> None:
    """Call the functions, change what they have read, and call them again."""
    print("first:", await offer(42, db=db))
    print("again:", await offer(number=42, lang="en", db=db))  # the same key, made of the same arguments
    print("three at once:", await asyncio.gather(*(offer(42, "fr", db=db) for _ in range(3))))

    db.execute("UPDATE products SET price = 9.5 WHERE number = 42")  # change the source first,
    print("gone everywhere:", await node.adelete_tag("product:42"))  # then all that was made of it
    print("then:", await offer(42, db=db))
    print("no such product:", product(43, db=db), product(43, db=db))  # None is kept as well

    stats = offer.stats()
    print(f"{stats.gets} calls of offer: {stats.hits} hits, {stats.loads} runs; the key was {offer.key(42, db=db)!r}")


if __name__ == "__main__":
    with closing(sqlite3.connect(":memory:")) as database, node:
        database.execute("CREATE TABLE products (number INTEGER PRIMARY KEY, name TEXT, price REAL)")
        database.execute("INSERT INTO products VALUES (42, 'Towel', 12.5)")
        asyncio.run(main(database))
