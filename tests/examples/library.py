"""A database whose queries examples/sqlalchemy_cache.py keeps."""

from __future__ import annotations

import datetime as dt
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Column, ForeignKey, Table, create_engine, event
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

Query: TypeAlias = Any  # a Select of any columns

example: Any = importlib.import_module("examples.sqlalchemy_cache")
Base, Book, FromCache = example.Base, example.Book, example.FromCache


class Author(Base):  # type: ignore[misc, valid-type]
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Genre(Base):  # type: ignore[misc, valid-type]
    __tablename__ = "genres"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Work(Base):  # type: ignore[misc, valid-type]
    __tablename__ = "works"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    born: Mapped[dt.date]
    cover: Mapped[bytes]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship()
    genres: Mapped[list[Genre]] = relationship(
        secondary=Table(
            "genres_of_works",
            Base.metadata,
            Column("work", ForeignKey("works.id")),
            Column("genre", ForeignKey("genres.id")),
        )
    )


class Library:
    """A database with two connections or more, and the number of statements that have read it."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.engine = create_engine(f"sqlite:///{path}", execution_options=options)
        self.reads = 0
        event.listen(self.engine, "connect", self._connected)
        if not options:
            event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        Base.metadata.create_all(self.engine)
        event.listen(self.engine, "before_cursor_execute", self._count)

    def _connected(self, connection: Any, _: object) -> None:
        connection.isolation_level = None  # so that a transaction begins with BEGIN, and keeps its snapshot
        connection.execute("pragma journal_mode=wal")

    def _count(self, _: object, __: object, sql: str, *___: object) -> None:
        self.reads += sql.startswith("SELECT")

    def session(self) -> Session:
        return Session(self.engine)

    def change(self, change: Callable[[Session], object]) -> None:
        with self.session() as session:
            change(session)
            session.commit()

    def ask(self, query: Query, show: Callable[[Any], Any] = lambda row: row, **parameters: Any) -> list[Any]:
        with self.session() as session:
            answer = session.execute(query.options(FromCache()), parameters).unique()
            return [show(row[0] if len(row) == 1 else tuple(row)) for row in answer]


def fill(session: Session) -> None:
    session.add(Book(id=1, title="Emma", cents=900))
    author, genre = Author(id=1, name="Ann"), Genre(id=1, name="novel")
    session.add(
        Work(
            id=1,
            title="W",
            born=dt.date(2000, 1, 1),
            cover=b"\x00\xff",
            author=author,
            genres=[genre, Genre(id=2, name="old")],
        )
    )
