"""A pytest plugin for aiocache's own tests: where they take its memory cache, they get the one under test."""

from __future__ import annotations

from typing import Any

from aiocache import Cache

from kamacache.integrations.aiocache import KamaCache


class Local(KamaCache):
    """The backend as processes of one machine use it."""

    def __init__(self, **options: Any) -> None:
        super().__init__("local://", group="suite", **options)


Cache.__new__.__defaults__ = (Local,)
