"""The option FromCache of examples/sqlalchemy_cache.py: no query answers with rows from before a commit."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    bindparam,
    delete,
    event,
    func,
    insert,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import (
    Session,
    aliased,
    joinedload,
    selectinload,
    with_loader_criteria,
)

from tests.examples.conftest import ROOT
from tests.examples.library import Author, Base, Book, FromCache, Genre, Library, Query, Work, example, fill
from tests.support.environment import own_environment


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library(tmp_path / "library.sqlite3")
    with example.node:
        made.change(fill)
        yield made
    made.engine.dispose()


def renamed(session: Session) -> None:
    session.get_one(Author, 1).name = "Bob"


def unlinked(session: Session) -> None:
    work = session.get_one(Work, 1)
    work.genres = [genre for genre in work.genres if genre.name == "novel"]


def more(session: Session) -> None:
    session.execute(insert(Book), [{"id": 2, "title": "Ulysses", "cents": 1500}])


def by_text(session: Session) -> None:
    session.execute(text("update books set cents = 1"))


def by_driver(session: Session) -> None:
    session.connection().exec_driver_sql("update books set cents = 1")


WRITER = aliased(Author)
PRICES = select(Book.cents)
OF_ANN = Author.name == "Ann"


def same(row: Any) -> Any:
    return row


def author_of(work: Any) -> str:
    return str(work.author.name)


def genres_of(work: Any) -> list[str]:
    return sorted(genre.name for genre in work.genres)


CASES: dict[str, tuple[Query, Callable[[Any], Any], Callable[[Session], object], list[Any], list[Any]]] = {
    "an object": (PRICES, same, lambda session: setattr(session.get_one(Book, 1), "cents", 1), [900], [1]),
    "update": (PRICES, same, lambda session: session.execute(update(Book).values(cents=1)), [900], [1]),
    "insert": (PRICES, same, more, [900], [900, 1500]),
    "delete": (PRICES, same, lambda session: session.execute(delete(Book)), [900], []),
    "text": (PRICES, same, by_text, [900], [1]),
    "the driver": (PRICES, same, by_driver, [900], [1]),
    "count": (select(func.count()).select_from(Book), same, more, [1], [2]),
    "join": (select(Work.title).join(Work.author).where(OF_ANN), same, renamed, ["W"], []),
    "aliased": (
        select(WRITER.name, Work.title).join(WRITER, Work.author),
        same,
        renamed,
        [("Ann", "W")],
        [("Bob", "W")],
    ),
    "subquery": (
        select(Work.title).where(Work.author_id.in_(select(Author.id).where(OF_ANN))),
        same,
        renamed,
        ["W"],
        [],
    ),
    "join in a subquery": (
        select(func.count()).select_from(select(Work).join(Work.author).where(OF_ANN).subquery()),
        same,
        renamed,
        [1],
        [0],
    ),
    "has": (select(Work.title).where(Work.author.has(OF_ANN)), same, renamed, ["W"], []),
    "joinedload": (select(Work).options(joinedload(Work.author)), author_of, renamed, ["Ann"], ["Bob"]),
    "selectinload": (select(Work).options(selectinload(Work.author)), author_of, renamed, ["Ann"], ["Bob"]),
    "a collection": (
        select(Work).options(joinedload(Work.genres)),
        genres_of,
        unlinked,
        [["novel", "old"]],
        [["novel"]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_commit_drops_what_it_makes_old(library: Library, case: str) -> None:
    query, show, change, before, after = CASES[case]
    for _ in range(2):  # SQLAlchemy adds options to a subquery when it first compiles it, which makes another key
        assert library.ask(query, show) == before
    reads = library.reads
    assert library.ask(query, show) == before
    assert library.reads == reads, "the result was not kept"
    library.change(change)
    assert library.ask(query, show) == after


def test_other_results_stay(library: Library) -> None:
    library.ask(select(Work.title))
    library.change(lambda session: session.execute(update(Book).values(cents=1)))
    reads = library.reads
    library.ask(select(Work.title))
    assert library.reads == reads


def test_a_savepoint_is_no_commit(library: Library) -> None:
    with library.session() as session:
        with session.begin_nested():
            session.get_one(Book, 1).cents = 1
        assert library.ask(PRICES) == [900]
        session.commit()
    assert library.ask(PRICES) == [1]


def test_a_savepoint_that_is_rolled_back_forgets_no_earlier_change(library: Library) -> None:
    assert library.ask(PRICES) == [900]
    with library.session() as session:
        session.execute(update(Book).values(cents=1))
        session.begin_nested().rollback()
        session.commit()
    assert library.ask(PRICES) == [1]


def test_a_transaction_sees_its_own_changes_alone(library: Library) -> None:
    assert library.ask(PRICES) == [900]
    with library.session() as session:
        session.get_one(Book, 1).cents = 1
        assert session.scalars(PRICES.options(FromCache())).all() == [1]
        session.rollback()
    assert library.ask(PRICES) == [900]


def test_what_a_transaction_has_changed_is_not_kept(library: Library) -> None:
    with library.session() as session:
        session.execute(update(Book).values(cents=1))
        assert session.scalars(PRICES.options(FromCache())).all() == [1]
        assert library.ask(PRICES) == [900]
        session.rollback()
    assert library.ask(PRICES) == [900]


def test_an_old_snapshot_is_not_kept(library: Library) -> None:
    """Begin a transaction, commit a change elsewhere, and read what the transaction still sees."""
    with library.session() as session:
        session.scalars(select(Work)).all()
        library.change(lambda other: other.execute(update(Book).values(cents=1)))
        assert session.scalars(PRICES.options(FromCache())).all() == [900]
    assert library.ask(PRICES) == [1]


def test_a_transaction_that_sees_all_commits_keeps_what_it_reads(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.sqlite3", isolation_level="AUTOCOMMIT")
    with example.node, library.session() as session:
        library.change(fill)
        session.scalars(select(Work)).all()
        assert session.scalars(PRICES.options(FromCache())).all() == [900]
        reads = library.reads
        assert library.ask(PRICES) == [900]
        assert library.reads == reads
    library.engine.dispose()


def test_objects_that_a_session_had_before_are_not_kept(tmp_path: Path) -> None:
    """Load objects, change them elsewhere, and query them: the session leaves its own objects as they are."""
    library = Library(tmp_path / "library.sqlite3", isolation_level="AUTOCOMMIT")
    with example.node, library.session() as session:
        library.change(fill)
        book, work = session.get_one(Book, 1), session.get_one(Work, 1)
        assert (book.cents, author_of(work)) == (900, "Ann")
        library.change(lambda other: other.execute(update(Book).values(cents=1)))
        library.change(renamed)
        session.scalars(select(Book).options(FromCache())).all()
        session.scalars(select(Work).options(FromCache())).all()
        assert library.ask(select(Book), lambda book: book.cents) == [1]
        assert library.ask(select(Work), author_of) == ["Bob"]
        library.change(lambda other: setattr(other.get_one(Author, 1), "name", "Cy"))
        assert library.ask(select(Work), author_of) == ["Cy"]
    library.engine.dispose()


def test_what_was_read_before_a_commit_is_not_kept_after_it(library: Library) -> None:
    def commit(*_: object) -> None:
        library.change(lambda other: other.execute(update(Book).values(cents=1)))

    event.listen(library.engine, "after_cursor_execute", commit, once=True)
    library.ask(PRICES)
    assert library.ask(PRICES) == [1]


@pytest.mark.parametrize(
    "query",
    [
        select(Work.title).where(Work.cover == b"\x00\xff"),
        select(Work.title).where(Work.born == dt.date(2000, 1, 1)),
        select(Work.title).where(Work.id.in_([1, 2])).limit(3),
        select(Work.title).where(Work.author_id.is_not(None)),
    ],
)
def test_any_value_makes_a_key(library: Library, query: Query) -> None:
    assert library.ask(query) == ["W"]
    reads = library.reads
    assert library.ask(query) == ["W"]
    assert library.reads == reads


def test_values_given_with_the_call_are_part_of_the_key(library: Library) -> None:
    query = select(Book.title).where(Book.id == bindparam("number"))
    assert (library.ask(query, number=1), library.ask(query, number=2)) == (["Emma"], [])


def test_queries_with_the_same_sql_are_not_mixed_up(library: Library) -> None:
    assert library.ask(select(Author), lambda author: author.name) == ["Ann"]
    assert library.ask(select(Author.id, Author.name)) == [(1, "Ann")]
    for wanted in ("novel", "old"):
        loaded = selectinload(Work.genres.and_(Genre.name == wanted))
        assert library.ask(select(Work).options(loaded), genres_of) == [[wanted]]
    assert library.ask(select(Work).options(selectinload(Work.genres)), genres_of) == [["novel", "old"]]


@pytest.mark.parametrize(
    "query",
    [
        PRICES.where(text("cents > 0")),
        PRICES.where(Book.cents.op(">")(0)),
        PRICES.options(with_loader_criteria(Book, lambda book: book.id == 1)),
        select(Book.cents).from_statement(text("select cents from books")),
        PRICES.with_for_update(),  # SQLite locks no rows, and leaves FOR UPDATE out
        select(PRICES.with_for_update(skip_locked=True).subquery()),
        select(Book.cents).where(Book.id.in_(select(Book.id).with_for_update(read=True))),
        union_all(PRICES.where(Book.id < 0), PRICES).with_for_update(),
    ],
)
def test_what_cannot_be_known_or_locks_rows_is_not_kept(library: Library, query: Any) -> None:
    for _ in range(2):  # as above
        assert library.ask(query) == [900]
    with library.engine.begin() as connection:  # as another program does
        connection.execute(update(Book).values(cents=1))
    assert library.ask(query) == [1]


def test_a_union_runs_as_without_the_option(library: Library) -> None:
    union = union_all(PRICES, select(Book.id))
    assert library.ask(union) == library.ask(union) == [900, 1]


def test_errors_of_the_database_are_raised(library: Library) -> None:
    Base.metadata.tables["books"].drop(library.engine)
    with pytest.raises(OperationalError, match="no such table"):
        library.ask(PRICES)


def test_the_key_of_a_query_is_the_same_in_every_process() -> None:
    code = (
        "from sqlalchemy import select\n"
        "from tests.examples.library import Author, Work, example\n"
        "query = select(Work).join(Work.author).where(Author.name.in_(['Ann']), Work.id > 0).limit(2)\n"
        "print(','.join(example.words(query._generate_cache_key().key)))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=own_environment() | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    (words,) = texts
    assert " at 0x" not in words
