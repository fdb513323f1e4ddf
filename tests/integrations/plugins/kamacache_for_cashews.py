"""A pytest plugin for cashews' own tests, with the fixtures that its source distribution leaves out."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from cashews import Cache

from kamacache.integrations.cashews import KamaCache


@pytest.fixture
def raw_backend() -> tuple[KamaCache, None]:
    """Return the backend under test, as processes of one machine use it."""
    return KamaCache(group=f"g{uuid.uuid4().hex}"), None


@pytest.fixture
def target(raw_backend: tuple[KamaCache, None]) -> Mock:
    """Return the same for tests that look at its calls."""
    return Mock(wraps=raw_backend[0])


@pytest.fixture
def cache(request: pytest.FixtureRequest, raw_backend: tuple[KamaCache, None]) -> Cache:
    made = Cache()
    made._add_backend(request.getfixturevalue("target") if "target" in request.fixturenames else raw_backend[0])
    return made


@pytest.fixture
def backend_factory() -> Callable[..., Any]:
    """Return what makes other backends, which some tests hold beside it."""

    def make(of: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return of(*args, **options)

    return make
