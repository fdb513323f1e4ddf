"""A backend for Flask-Caching: its processes share one cache.

app.config["CACHE_TYPE"] = "kamacache.integrations.flask_caching.KamaCache"
app.config["CACHE_OPTIONS"] = {"place": "local://", "max_bytes": "256 MiB"}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from flask_caching.backends.base import BaseCache

from kamacache.integrations import cachelib

if TYPE_CHECKING:
    from flask import Flask


class KamaCache(cachelib.KamaCache, BaseCache):
    """The backend for cachelib, made of the configuration of an application.

    CACHE_OPTIONS has its arguments; CACHE_DEFAULT_TIMEOUT and CACHE_KEY_PREFIX hold as in every backend. It needs a
    module of its own: Flask-Caching shows no configuration to a class that has "cachelib" in its path.
    """

    @classmethod
    def factory(cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]) -> Self:  # noqa: ARG003
        """Return the backend of an application, as Flask-Caching asks for it."""
        if prefix := config.get("CACHE_KEY_PREFIX"):
            kwargs["key_prefix"] = prefix
        return cls(*args, **kwargs)
