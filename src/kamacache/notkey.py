"""The mark of a parameter that is not part of the key."""

from __future__ import annotations

from typing import NoReturn


class NotKey:
    """Mark a parameter of a cached function that is not part of the key: `db: Annotated[Session, kamacache.NotKey]`.

    It is for what a function works with and what its result does not depend on: a session, a client, a request. The
    class itself is the mark; it has no instances.
    """

    __slots__ = ()

    def __new__(cls) -> NoReturn:
        """Raise TypeError: the class itself is the mark."""
        raise TypeError("NotKey has no instances: write Annotated[Session, kamacache.NotKey]")
