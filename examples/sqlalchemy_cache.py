"""Keep the results of ORM queries, and drop those that a committed change makes old, in every process."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Result, Select, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, UserDefinedOption, mapped_column
from sqlalchemy.orm.loading import merge_frozen_result

import kamacache

node = kamacache.Node.from_env()  # alone; with KAMACACHE_REGISTRY=local:// shared by the processes of this machine
results = node.group("queries", codec="pickle", ttl="10m", max_bytes="64 MiB")


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


@event.listens_for(Session, "do_orm_execute")
def from_cache(state: ORMExecuteState) -> Result[Any] | None:
    """Answer with a kept result. One session in the cluster asks the database, for all that ask meanwhile."""
    if not any(isinstance(option, FromCache) for option in state.user_defined_options):
        return None

    def load(_: str) -> kamacache.Value[Any]:
        print("  the database is asked")
        tables = sorted({str(mapper.local_table) for mapper in state.all_mappers})
        return kamacache.Value(state.invoke_statement().freeze(), tags=tables)

    statement: Any = state.statement
    key = str(statement.compile(compile_kwargs={"literal_binds": True}))  # with its values
    frozen = results.get_or_load(key, load)
    merge: Any = merge_frozen_result
    merged: Result[Any] = merge(state.session, state.statement, frozen, load=False)()
    return merged


@event.listens_for(Session, "after_flush")
def note_changes(session: Session, _: object) -> None:
    """Note which tables a transaction has changed."""
    changed = [*session.new, *session.dirty, *session.deleted]
    session.info.setdefault("changed", set()).update(str(one.__table__) for one in changed)


@event.listens_for(Session, "after_commit")
def drop_old(session: Session) -> None:
    """Delete after the commit: before it, another process would load the old rows again."""
    for table in session.info.pop("changed", ()):
        print(f"  results of {table} are dropped everywhere: {node.delete_tag(table)}")


@event.listens_for(Session, "after_rollback")
def forget_changes(session: Session) -> None:
    """Forget the tables: a transaction that is rolled back has changed nothing."""
    session.info.pop("changed", None)


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
        first.get_one(Book, 2).cents = 700
        first.rollback()
        print("below 10:", titles(second, 1000))
        first.get_one(Book, 2).cents = 700
        first.commit()
        print("below 10:", titles(second, 1000))
