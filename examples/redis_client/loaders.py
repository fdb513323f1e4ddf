"""Load books for `kamacache serve`, from a dict in place of a database."""

from __future__ import annotations

BOOKS = {1: "The Art of Computer Programming", 2: "Structure and Interpretation of Computer Programs"}


def load_book(key: str) -> dict[str, str] | None:
    """Return a book, or None: there is no such book. A key that is not a number raises ValueError."""
    title = BOOKS.get(int(key))
    return None if title is None else {"title": title}


def load_books(keys: list[str]) -> dict[str, dict[str, str]]:
    """Do the same for many at once, as MGET asks."""
    return {key: book for key in keys if (book := load_book(key)) is not None}
