"""The backend for cachelib and Flask-Caching. Their own suites are run by test_suites.py."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import flask
import flask_caching
import pytest

from kamacache import ConfigError
from kamacache.integrations.cachelib import KamaCache


def test_flask_caching_in_an_application() -> None:
    app = flask.Flask("shop")
    app.config |= {
        "CACHE_TYPE": "kamacache.integrations.flask_caching.KamaCache",
        "CACHE_OPTIONS": {"place": "none", "group": "flask", "max_bytes": "1 MiB"},
    }
    cache = flask_caching.Cache(app)
    runs: list[Any] = []

    @app.route("/page")
    @cache.cached(timeout=60)
    def page() -> str:
        runs.append("page")
        return f"run {len(runs)}"

    @cache.memoize(60)
    def price(number: int) -> int:
        runs.append(number)
        return number * 2

    client = app.test_client()
    assert [client.get("/page").text for _ in range(2)] == ["run 1", "run 1"]
    with app.app_context():
        assert [price(3), price(3), price(4)] == [6, 6, 8]
        cache.delete_memoized(price, 3)
        assert price(3) == 6
    assert runs == ["page", 3, 4, 3]


def test_what_cannot_be_kept() -> None:
    cache = KamaCache("none", group="too-large", max_bytes="1 MiB")
    assert cache.set("k", "old")
    assert not cache.set("k", "x" * 1_000_000)
    assert cache.get("k") is None
    assert cache.set_many({"a": 1, "k": "x" * 1_000_000}) == ["a"]
    assert not cache.add("k", "x" * 1_000_000)
    with pytest.raises((pickle.PickleError, TypeError)):
        cache.set("k", threading.Lock())
    with pytest.raises(ConfigError, match="max_byte"):
        KamaCache("none", max_byte=1)


def test_a_prefix_is_cleared_alone() -> None:
    one, two = (KamaCache("none", group="prefixes", key_prefix=prefix) for prefix in ("one:", "two:"))
    assert one.set("k", 1)
    assert two.set("k", 2)
    assert one.clear()
    assert (one.get("k"), two.get("k"), two.has("k")) == (None, 2, True)


def test_the_prefix_of_an_application() -> None:
    """Applications that share a group are apart by CACHE_KEY_PREFIX, and clear drops the keys of one alone."""

    def cached(**config: Any) -> Any:
        app = flask.Flask("shop")
        app.config["CACHE_TYPE"] = "kamacache.integrations.flask_caching.KamaCache"
        app.config["CACHE_OPTIONS"] = {"place": "none", "group": "applications"}
        app.config |= config
        with app.app_context():
            return flask_caching.Cache(app).cache

    one, two = cached(CACHE_KEY_PREFIX="one_"), cached(CACHE_KEY_PREFIX="two_", CACHE_DEFAULT_TIMEOUT=7)
    assert (one.key_prefix, two.default_timeout) == ("one_", 7)
    assert one.set("k", 1)
    assert (two.get("k"), two.set("k", 2), two.clear()) == (None, True, True)
    assert (one.get("k"), two.get("k")) == (1, None)
    assert cached().key_prefix == "flask_cache_"
