"""Keep the results of ORM queries, and drop those that a committed change makes old, in every process.

The tables of a query are those of the SQL that runs: joins, subqueries, eager loads, bulk changes, link tables. A query
whose result may not be the same for everyone is run and not kept. Unseen are changes by other programs, by an engine
without a session, and by the database itself (triggers, views, ON DELETE CASCADE): delete the table's tag after those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

from sqlalchemy import (
    CompoundSelect,
    Connection,
    Engine,
    Insert,
    Result,
    Select,
    Table,
    TextClause,
    create_engine,
    event,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, UserDefinedOption, mapped_column
from sqlalchemy.orm.loading import merge_frozen_result
from sqlalchemy.sql.expression import TableClause
from sqlalchemy.sql.selectable import ForUpdateArg

import kamacache

node = kamacache.Node.from_env()  # alone; with KAMACACHE_REGISTRY=local:// shared by the processes of this machine

ANY = "*"  # stands for a table that is not known; every result has this tag
READ = re.compile(r"[\s(]*(select|with)\b(?!.*\b(insert|update|delete|merge)\b)", re.IGNORECASE | re.DOTALL)
LOCK = f"{ForUpdateArg.__module__}.{ForUpdateArg.__qualname__}"  # stands in the key of a query that locks rows
CURRENT = {"READ COMMITTED", "AUTOCOMMIT"}  # isolation levels at which each query sees all that is committed by then


class Base(DeclarativeBase):
    """The tables."""


class Book(Base):
    """A row that changes."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    cents: Mapped[int]


class FromCache(UserDefinedOption):
    """An option of a statement: its result may come from the cache."""


@dataclass
class Work:
    """Hold the tables that a session's transaction has used."""

    read: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)


# -- which tables a statement uses: noted with the compiled statement ------------------------------------------------


def note(compiler: Any, table: str) -> None:
    """Add a table to those of a compiled statement."""
    vars(compiler).setdefault("tables", set()).add(table)


@compiles(Table)
@compiles(TableClause)
def compile_table(table: TableClause, compiler: Any, **options: Any) -> Any:
    """Note a table, however deep in the statement."""
    note(compiler, table.fullname)
    return compiler.visit_table(table, **options)


@compiles(Insert)
def compile_insert(insert: Insert, compiler: Any, **options: Any) -> Any:
    """Note the table of an INSERT, which is not compiled as a part of it."""
    note(compiler, insert.table.fullname)
    return compiler.visit_insert(insert, **options)


@compiles(TextClause)
def compile_text(text: TextClause, compiler: Any, **options: Any) -> Any:
    """Note that text may use any table."""
    note(compiler, ANY)
    return compiler.visit_textclause(text, **options)


# -- which tables a transaction has used -----------------------------------------------------------------------------


@event.listens_for(Session, "after_begin")
def begin(session: Session, _: object, connection: Connection) -> None:
    """Let a connection know the work of its session."""
    connection.info["work"] = session.info.setdefault("work", Work())


@event.listens_for(Engine, "before_cursor_execute")
def note_use(connection: Connection, _: object, sql: str, __: object, context: Any, ___: object) -> None:
    """Note the tables of a statement that is about to run."""
    work = connection.info.get("work")
    if work is not None:
        used = work.read if READ.match(sql) else work.changed
        used.update(getattr(context.compiled, "tables", ()) if context.compiled else {ANY})


@event.listens_for(Session, "after_transaction_end")
def drop_old(session: Session, transaction: Any) -> None:
    """Delete after the commit: before it, another process would load the old rows again.

    The end of a savepoint is not that of the transaction. A transaction that ends with an error may be committed.
    """
    work = session.info.pop("work", None) if transaction.parent is None else None
    for table in sorted(work.changed) if work else ():
        print(f"  results of {table} are dropped everywhere: {node.delete_tag(table)}")


# -- queries ---------------------------------------------------------------------------------------------------------


@event.listens_for(Session, "do_orm_execute")
def from_cache(state: ORMExecuteState) -> Result[Any] | None:
    """Answer with a kept result, or let the query run: in one session of the cluster, for all that ask meanwhile."""
    wanted = any(isinstance(option, FromCache) for option in state.user_defined_options)
    if not wanted or not state.is_orm_statement or state.is_executemany:
        return None
    session, work = state.session, state.session.info.get("work")
    if (work and work.changed) or session.new or session.dirty or session.deleted:
        return None  # it sees its own changes, which nobody else may see before the commit
    question = written(state)
    if question is None:
        return None
    try:
        if work is None or sees_commits(state):
            found = rows(*question, state=state)
        else:
            found = rows.group.peek(rows.key(*question))
    except kamacache.KamaCacheError:  # another session has failed, or these rows cannot be pickled
        return None
    if found is None:
        return None
    merge: Any = merge_frozen_result
    merged: Result[Any] = merge(session, state.statement, found, load=False)()
    return merged


@node.cached(name="queries", codec="pickle", ttl="10m", max_bytes="64 MiB")
def rows(_url: str, _sql: str, _values: tuple[Any, ...], *, state: Annotated[Any, kamacache.NotKey]) -> Any:
    """Run a query. Its result is kept if it is known which tables it has read, and that it has changed none."""
    print("  the database is asked")
    session: Session = state.session
    connection = session.connection(bind_arguments=dict(state.bind_arguments))
    try:
        with Session(connection) as own:  # in the same transaction, but with no objects that were loaded before
            ran = own.execute(state.statement, state.parameters, execution_options=state.local_execution_options)
            frozen, work = ran.freeze(), own.info["work"]
    finally:
        begin(session, None, connection)
    if not work.read or ANY in work.read or work.changed:
        return kamacache.Value(frozen, ttl=0)
    return kamacache.Value(frozen, tags=[ANY, *work.read])


def sees_commits(state: ORMExecuteState) -> bool:
    """Return whether a transaction that has begun sees all changes whose tags are dropped.

    If it may still see older rows, as by default in MySQL and SQLite, it takes what is kept, and keeps nothing.
    """
    connection = state.session.connection(bind_arguments=dict(state.bind_arguments))
    level = connection.get_execution_options().get("isolation_level", connection.default_isolation_level)
    return level in CURRENT


def written(state: ORMExecuteState) -> tuple[str, str, tuple[Any, ...]] | None:
    """Return what tells a query from others in every process, if there is such: its database, structure and values.

    There is none for a query that locks rows (FOR UPDATE): the database has to run it.

    The structure is the key under which SQLAlchemy keeps compiled statements: the SQL alone has no loader options, and
    does not say whether rows become objects.
    """
    bind = state.session.get_bind(**state.bind_arguments)
    statement: Any = state.statement
    structure = statement._generate_cache_key()  # noqa: SLF001 - as SQLAlchemy's example of a cache does
    if not isinstance(bind, Engine) or bind.dialect.is_async or structure is None:
        return None  # a connection in a transaction of its own; a task, which must not wait like a thread
    if isinstance(statement, CompoundSelect):
        return None  # a union, whose rows SQLAlchemy cannot merge into a session
    text = ",".join(words(structure.key))
    if LOCK in text:
        return None
    given: Any = state.parameters or {}
    values = [given.get(each.key, each.effective_value) for each in structure.bindparams]
    question = (str(bind.url), text, tuple(tuple(each) if isinstance(each, list) else each for each in values))
    try:
        rows.key(*question)
    except TypeError:  # there is a value of a type that no key can be made of
        return None
    return None if " at 0x" in text else question  # an address, which has no meaning elsewhere


def words(part: Any) -> Iterator[str]:
    """Yield a key of SQLAlchemy as text."""
    if isinstance(part, tuple):
        yield "("
        for each in part:
            yield from words(each)
        yield ")"
    else:
        named = hasattr(part, "__qualname__")  # a class or a function
        yield f"{part.__module__}.{part.__qualname__}" if named else repr(part) if isinstance(part, str) else str(part)


# -- an application --------------------------------------------------------------------------------------------------


def cheap(below: int) -> Select[Any]:
    """Return a query whose result is kept."""
    return select(Book).where(Book.cents < below).order_by(Book.id).options(FromCache())


def titles(session: Session, below: int) -> list[str]:
    """Return the titles of cheap books."""
    return [book.title for book in session.scalars(cheap(below))]


if __name__ == "__main__":
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with node, Session(engine) as first, Session(engine) as second:
        first.add_all([Book(id=1, title="Emma", cents=900), Book(id=2, title="Ulysses", cents=1500)])
        first.commit()
        print("below 10:", titles(first, 1000))
        print("below 10:", titles(second, 1000))  # from the cache, as objects of the second session
        print("below 20:", titles(second, 2000))  # another query
        second.rollback()
        first.get_one(Book, 2).cents = 700
        first.rollback()
        print("below 10:", titles(second, 1000))
        first.get_one(Book, 2).cents = 700
        first.commit()
        print("below 10:", titles(second, 1000))
