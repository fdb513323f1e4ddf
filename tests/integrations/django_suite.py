"""Run Django's own tests of cache backends on this one; with "redis" as argument, on Django's for Redis and a node."""

from __future__ import annotations

import json
import sys
import unittest

import django
from django.conf import settings

from tests.integrations.redis_node import redis_address
from tests.integrations.suites import fetched

BACKEND, PLACE = "kamacache.integrations.django.KamaCache", "local://"
if REDIS := sys.argv[1:] == ["redis"]:
    BACKEND, PLACE = "django.core.cache.backends.redis.RedisCache", f"redis://{redis_address()}"
sys.path.insert(0, str(fetched("django") / "tests"))
sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
settings.configure(
    INSTALLED_APPS=["cache"],
    DATABASES={"default": sqlite, "other": sqlite},
    CACHES={"default": {"BACKEND": BACKEND, "LOCATION": PLACE}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    SECRET_KEY="of the tests",  # noqa: S106 - no secret
    USE_TZ=False,
)
django.setup()

from cache.tests import (  # type: ignore[import-not-found] # noqa: E402
    BaseCacheTests,
    RedisCacheTests,
    caches_setting_for_tests,
    memcached_excluded_caches,
)
from django.test import TestCase, override_settings  # noqa: E402
from django.test.runner import DiscoverRunner  # noqa: E402

# Those of culling count entries, which are no limit here; Django leaves them out for memcached, too.
CACHES = caches_setting_for_tests(BACKEND=BACKEND, LOCATION=PLACE, exclude=memcached_excluded_caches)


@override_settings(CACHES=CACHES)
class KamaCacheTests(BaseCacheTests, TestCase):  # type: ignore[misc]
    """The tests of every backend, on this one."""


if __name__ == "__main__":
    runner = DiscoverRunner(verbosity=0)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    result = runner.run_suite(
        unittest.defaultTestLoader.loadTestsFromTestCase(RedisCacheTests if REDIS else KamaCacheTests)
    )
    runner.teardown_databases(databases)
    failed = sorted({test.id().rpartition(".")[2] for test, _ in [*result.failures, *result.errors]})
    print(json.dumps({"run": result.testsRun, "failed": failed, "skipped": [why for _, why in result.skipped]}))  # noqa: T201
