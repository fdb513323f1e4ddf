"""The tests that cachelib and Flask-Caching have for every backend, on this one."""

from __future__ import annotations

import sys
import time
import types
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from kamacache.integrations.cachelib import KamaCache
from tests.integrations.suites import fetched

_starts_servers: Any = types.ModuleType(
    "xprocess"
)  # pytest-xprocess starts other servers, none of which is needed here
_starts_servers.ProcessStarter = object
sys.modules["xprocess"] = _starts_servers
sys.path[:0] = [str(fetched(name) / "tests") for name in ("cachelib", "flask-caching")]

from clear import ClearTests  # type: ignore[import-not-found]  # noqa: E402
from common import CommonTests  # type: ignore[import-not-found]  # noqa: E402
from delete_many_with_prefix import DeleteManyWithPrefixTests  # type: ignore[import-not-found]  # noqa: E402
from has import HasTests  # type: ignore[import-not-found]  # noqa: E402
from test_backend_cache import GenericCacheTests  # type: ignore[import-not-found]  # noqa: E402


def make(**options: Any) -> KamaCache:
    return KamaCache("local://", group=f"g{uuid.uuid4().hex}", **options)


class TestCachelib(CommonTests, HasTests, ClearTests, DeleteManyWithPrefixTests):  # type: ignore[misc]
    def cache_factory(self, **options: Any) -> KamaCache:
        return make(**options)


class TestFlaskCaching(GenericCacheTests):  # type: ignore[misc]
    @pytest.fixture
    def make_cache(self) -> Callable[..., KamaCache]:
        return make

    @pytest.fixture
    def sleep(self) -> Callable[[float], None]:
        return time.sleep
