"""The tests of cachelib, Flask-Caching and dogpile.cache on their own backends for Redis, against a node."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import cachelib
import pytest
from dogpile.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite, _GenericSerializerTestSuite
from flask_caching.backends import RedisCache

from tests.integrations import cachelib_suite  # noqa: F401 - it makes the tests known
from tests.integrations.redis_node import redis_address

from common import CommonTests  # type: ignore[import-not-found]  # isort: skip
from delete_many_with_prefix import DeleteManyWithPrefixTests  # type: ignore[import-not-found]  # isort: skip
from has import HasTests  # type: ignore[import-not-found]  # isort: skip
from test_backend_cache import GenericCacheTests  # type: ignore[import-not-found]  # isort: skip

HOST, PORT = redis_address().split(":")


class TestCachelib(CommonTests, HasTests, DeleteManyWithPrefixTests):  # type: ignore[misc]
    """Left out: clear with a prefix, which sends KEYS."""

    def cache_factory(self, **options: Any) -> Any:
        return cachelib.RedisCache(HOST, int(PORT), **{"key_prefix": uuid.uuid4().hex} | options)


class TestFlaskCaching(GenericCacheTests):  # type: ignore[misc]
    @pytest.fixture
    def make_cache(self) -> Callable[..., Any]:
        return lambda **options: RedisCache(HOST, int(PORT), key_prefix=uuid.uuid4().hex, **options)

    @pytest.fixture
    def sleep(self) -> Callable[[float], None]:
        return time.sleep


class TestRegion(_GenericSerializerTestSuite, _GenericBackendTestSuite):
    backend = "dogpile.cache.redis"
    config_args: Any = {"arguments": {"host": HOST, "port": int(PORT)}}  # noqa: RUF012 - as in dogpile's own tests


class TestMutex(_GenericMutexTestSuite):
    """The lock is that of redis-py, which releases it by a script."""

    backend = "dogpile.cache.redis"
    config_args: Any = {"arguments": {"host": HOST, "port": int(PORT), "distributed_lock": True}}  # noqa: RUF012 - as above
