"""Keep the results of ORM queries, and drop those that a committed change makes old, in every process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, ORMExecuteState, Session, UserDefinedOption, mapped_column, relationship
from sqlalchemy.orm.loading import merge_frozen_result

import kamacache

node = kamacache.Node.from_env()  # alone; with KAMACACHE_REGISTRY=local:// shared by the processes of this machine
results = node.group("queries", codec="pickle", ttl="10m", max_bytes="64 MiB")


class Base(DeclarativeBase):
    """The tables."""


class Author(Base):
    """A row that books belong to."""

    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list[Book]] = relationship(back_populates="author", lazy="joined")


class Book(Base):
    """A row that changes."""

    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("authors.id"))
    author: Mapped[Author] = relationship(back_populates="books", lazy="joined")


class FromCache(UserDefinedOption):
    """An option of a statement: its result may come from the cache."""


@event.listens_for(Session, "do_orm_execute")
def _from_cache(state: ORMExecuteState) -> Any:
    """Answer with a kept result. The query of one session in the cluster makes it, for all that ask meanwhile."""
    if not (state.is_select and any(isinstance(option, FromCache) for option in state.user_defined_options)):
        return None
    statement = state.statement.compile(compile_kwargs={"literal_binds": True})

    def load(_: str) -> kamacache.Value[Any]:
        print("  the database is asked")
        frozen = state.invoke_statement().freeze()
        tables = {table.name for table in statement.statement.get_final_froms()} if False else _tables(state)
        return kamacache.Value(frozen, tags=sorted(tables))

    frozen = results.get_or_load(str(statement), load)
    return merge_frozen_result(state.session, state.statement, frozen, load=False)()


def _tables(state: ORMExecuteState) -> Iterable[str]:
    return {mapper.local_table.name for mapper in state.all_mappers}


@event.listens_for(Session, "after_flush")
def _note_changes(session: Session, _: object) -> None:
    changed = [*session.new, *session.dirty, *session.deleted]
    session.info.setdefault("changed", set()).update(type(one).__tablename__ for one in changed)


@event.listens_for(Session, "after_commit")
def _drop_old(session: Session) -> None:
    """Delete after the commit: before it, another process would load the old rows again."""
    for table in session.info.pop("changed", ()):
        node.delete_tag(table)


@event.listens_for(Session, "after_rollback")
def _forget_changes(session: Session) -> None:
    session.info.pop("changed", None)
