"""The tests that dogpile.cache has for every backend, on this one: regions, serializers and mutexes."""

from __future__ import annotations

from typing import Any

from dogpile.testing.fixtures import _GenericBackendTestSuite, _GenericMutexTestSuite, _GenericSerializerTestSuite

ARGUMENTS: Any = {"arguments": {"place": "local://", "group": "suite"}}


class TestRegion(_GenericSerializerTestSuite, _GenericBackendTestSuite):
    backend = "kamacache"
    config_args = ARGUMENTS


class TestMutex(_GenericMutexTestSuite):
    backend = "kamacache"
    config_args = ARGUMENTS
