"""A group's loader: the user's function, whatever its form, as one thing that loads keys."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from kamacache.errors import ConfigError


def _underneath(function: Callable[..., Any]) -> Callable[..., Any]:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        else:
            return function


def _is_async(function: Callable[..., Any]) -> bool:
    under = _underneath(function)
    return inspect.iscoroutinefunction(under) or inspect.iscoroutinefunction(getattr(under, "__call__", None))  # noqa: B004


def _place(function: Callable[..., Any] | None) -> str:
    """What makes two functions the same one: module.qualname; for lambdas file and line."""
    if function is None:
        return ""
    under = _underneath(function)
    name = getattr(under, "__qualname__", None) or type(under).__qualname__
    if "<lambda>" in name and (code := getattr(under, "__code__", None)) is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    return f"{getattr(under, '__module__', type(under).__module__)}.{name}"


class Loader:
    """`single` loads a key, `many` a list of keys; either may be async, either may be missing."""

    __slots__ = ("is_async", "lean", "many", "place", "single")

    def __init__(self, single: Callable[[str], Any] | None, many: Callable[[list[str]], Any] | None) -> None:
        for name, function in (("loader", single), ("load_many", many)):
            if function is not None and not callable(function):
                raise ConfigError(f"{name} must be callable, not {type(function).__name__}")
        self.single = single
        self.many = many
        given = [function for function in (single, many) if function is not None]
        self.is_async = any(map(_is_async, given))
        if self.is_async and not all(map(_is_async, given)):
            raise ConfigError("loader and load_many must both be plain functions or both be async")
        self.lean = single is not None and not self.is_async  # a plain function loads single keys
        self.place = " and ".join(filter(None, map(_place, (single, many))))

    @property
    def missing(self) -> bool:
        """Whether there is nothing to load with."""
        return self.single is None and self.many is None

    def in_batch(self, keys: list[str]) -> bool:
        """Whether load_many is to be used: for batches, and for single keys where there is no loader."""
        return self.many is not None and (len(keys) > 1 or self.single is None)
