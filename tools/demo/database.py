"""Provide the slow source of the demonstration: a real SQLite database of users with a version in each row."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from pathlib import Path

_CITIES = ("Beijing", "Berlin", "Bogota", "Cairo", "Lagos", "Lima", "London", "Mumbai", "Osaka", "Paris", "Seoul")
_GIVEN = ("Ada", "Alan", "Barbara", "Dennis", "Donald", "Edsger", "Frances", "Grace", "Ken", "Leslie", "Radia", "Tony")
_FAMILY = ("Allen", "Chen", "Dijkstra", "Hopper", "Knuth", "Lamport", "Liskov", "Lovelace", "Perlman", "Turing", "Wang")
_COLUMNS = ("id", "name", "email", "city", "score", "version")


def create(path: Path, rows: int) -> None:
    """Create the table users with ids from 0 to rows - 1, every row at version 1."""
    rng = random.Random(rows)  # noqa: S311 - names, not secrets
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        db.execute(
            "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL UNIQUE,"
            " city TEXT NOT NULL, score INTEGER NOT NULL, version INTEGER NOT NULL)"
        )
        db.executemany("INSERT INTO users VALUES (?, ?, ?, ?, ?, 1)", (_user(i, rng) for i in range(rows)))
    db.close()


def _user(number: int, rng: random.Random) -> tuple[int, str, str, str, int]:
    given, family = rng.choice(_GIVEN), rng.choice(_FAMILY)
    email = f"{given}.{family}.{number}@example.com".lower()
    return number, f"{given} {family}", email, rng.choice(_CITIES), rng.randrange(1000)


class Database:
    """The connections of one process, one for each thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def select(self, number: int) -> bytes | None:
        """Return a user as JSON, as an application would cache it."""
        row = self._db().execute("SELECT * FROM users WHERE id = ?", (number,)).fetchone()
        return None if row is None else json.dumps(dict(zip(_COLUMNS, row, strict=True))).encode()

    def update(self, number: int) -> int:
        """Change a user, commit, and return the new version of the row."""
        db = self._db()
        (version,) = db.execute(
            "UPDATE users SET score = score + 1, version = version + 1 WHERE id = ? RETURNING version", (number,)
        ).fetchone()
        db.commit()
        return int(version)

    def _db(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = sqlite3.connect(self._path, timeout=30.0)
            db.execute("PRAGMA synchronous = OFF")
        return db


def version_of(user: bytes) -> int:
    """Return the version of the row that this JSON was made from."""
    return int(json.loads(user)["version"])
