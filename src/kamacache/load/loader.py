"""A group's loader: the user's functions, whatever their form, as one thing that loads keys."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from kamacache.errors import ConfigError
from kamacache.origin import name_of

if TYPE_CHECKING:
    from kamacache._engine import Lead
    from kamacache.load.loop import HomeLoop
    from kamacache.load.outcome import Outcome

_SELF = "self"  # the name under which _bound yields the object that a function works on


def underneath(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that partials and bound methods call in the end."""
    while isinstance(function, functools.partial) or inspect.ismethod(function):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a function is known to be async: calling it returns a coroutine."""
    under = underneath(function)
    return inspect.iscoroutinefunction(under) or inspect.iscoroutinefunction(getattr(under, "__call__", None))  # noqa: B004


def _place(function: Callable[..., Any] | None) -> str:
    """Return the place of a function: module.qualname; for lambdas file and line; "" for None."""
    if function is None:
        return ""
    under = underneath(function)
    name = getattr(under, "__qualname__", None) or type(under).__qualname__
    if "<lambda>" in name and (code := getattr(under, "__code__", None)) is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    return f"{getattr(under, '__module__', type(under).__module__)}.{name}"


def _identity(function: Callable[..., Any] | None) -> str:
    """Return the module and the qualified name of a function, alike in each process that has the same code; "none"."""
    if function is None:
        return "none"
    under = underneath(function)
    return name_of(under if hasattr(under, "__qualname__") else type(under))


def _bound(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    """Yield, by name, the objects by which two functions written in one place may differ."""
    while True:
        if isinstance(function, functools.partial):
            yield from ((f"argument {number}", value) for number, value in enumerate(function.args))
            yield from sorted(function.keywords.items())
            function = function.func
        elif inspect.ismethod(function):
            yield _SELF, function.__self__
            function = function.__func__
        else:
            break
    if not hasattr(function, "__qualname__"):  # an object with __call__
        yield _SELF, function
    elif not isinstance(owner := getattr(function, "__self__", None), ModuleType | None):
        yield _SELF, owner  # a method written in C
    if inspect.isfunction(function):
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield from ((name, content) for content in _contents(cell))
        yield from ((f"default {number}", value) for number, value in enumerate(function.__defaults__ or ()))
        yield from sorted((function.__kwdefaults__ or {}).items())
    elif (wrapped := getattr(function, "__wrapped__", None)) is not None:  # functools.cache
        yield "wrapped", wrapped


def _contents(cell: Any) -> Iterator[Any]:
    try:
        yield cell.cell_contents
    except ValueError:  # not yet assigned
        return


def _same(one: Any, other: Any, seen: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Return whether two functions were written in one place and work on the same objects.

    A reloaded module has new functions and classes, which are the same by module and qualname.
    """
    if one is other or (id(one), id(other)) in seen:  # seen: a function that uses itself
        return True
    if not (callable(one) and callable(other)) or _place(one) != _place(other):
        return False
    if isinstance(one, type) or isinstance(other, type):
        return isinstance(one, type) and isinstance(other, type)
    mine, theirs = list(_bound(one)), list(_bound(other))
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        return False
    inside = seen | {(id(one), id(other))}
    return all(_alike(name, a, b, inside) for (name, a), (_, b) in zip(mine, theirs, strict=True))


def _alike(name: str, one: Any, other: Any, seen: frozenset[tuple[int, int]]) -> bool:
    if one is other:
        return True
    if name == _SELF:  # two objects may be equal today and differ tomorrow
        return isinstance(one, type) and _same(one, other)
    if hasattr(one, "__qualname__") or isinstance(one, functools.partial):
        return _same(one, other, seen)
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001 - an array, or whatever else the user's objects do
        return False


def _check(what: str, function: Callable[..., Any], argument: object) -> None:
    """Raise ConfigError unless `function` can be called with one argument, as far as Python can say."""
    help_ = "loader takes one key, load_many a list of keys; a method is given bound, as in source.load"
    if not callable(function):
        raise ConfigError(f"{what} must be callable, not {type(function).__name__}")
    try:
        signature = inspect.signature(function, follow_wrapped=False)  # a decorator may give the rest
    except (ValueError, TypeError) as error:
        if inspect.ismethod(function) and inspect.isfunction(function.__func__):  # nowhere to put self
            raise ConfigError(f"{what}: {_place(function)} takes no argument, not even self; {help_}") from error
        return  # a function written in C
    try:
        signature.bind(argument)
    except TypeError as error:
        raise ConfigError(f"{what}: {_place(function)}{signature}: {error}; {help_}") from error


class Keyed(NamedTuple):
    """A cached function, and what the keys of its calls are made of."""

    function: Callable[..., Any]
    key: str | Callable[..., str] | None
    ignore: frozenset[str]
    tags: tuple[str, ...] | Callable[..., Any] = ()  # templates, or what makes the tags of a result

    def difference(self, other: Keyed | None) -> str:
        """Return what sets the other apart from this one, "" if both are one function with equal keys."""
        if other is None or not _same(self.function, other.function):
            return "function"
        if self.key != other.key and not _same(self.key, other.key):
            return "key="
        if self.tags != other.tags and not _same(self.tags, other.tags):
            return "tags="
        return "ignore=" if self.ignore != other.ignore else ""


class Loader:
    """Hold the functions of a group: `single` loads a key, `many` a list of keys.

    Both may be async, and either may be missing. `cached` is the function whose results the group keeps, if it was made
    for one: then the callers run it, and the group itself has no loader. Raises ConfigError for an object that is no
    function, for a function that cannot be called with one argument, and for a plain function beside an async one.
    """

    __slots__ = ("cached", "given", "is_async", "lean", "many", "place", "single")

    grants = False  # whether it calls `grant`, and no function
    ended: dict[str, Outcome] | None = None  # what the function of one call has brought: see given.py

    def __init__(
        self,
        single: Callable[[str], Any] | None,
        many: Callable[[list[str]], Any] | None,
        cached: Keyed | None = None,
    ) -> None:
        given = [function for function in (single, many) if function is not None]
        for name, function, argument in (("loader", single, "key"), ("load_many", many, ["key"])):
            if function is not None:
                _check(name, function, argument)
        self.single = single
        self.many = many
        self.given = (single, many)  # as the user gave them
        self.cached = cached
        self.is_async = any(map(is_async, given))
        if self.is_async and not all(map(is_async, given)):
            raise ConfigError("loader and load_many must both be plain functions or both be async")
        self.lean = single is not None and not self.is_async  # a plain function loads single keys
        under = None if cached is None else cached.function
        self.place = " and ".join(filter(None, map(_place, (single, many, under))))

    def is_same(self, other: Loader) -> bool:
        """Return whether `other` has the same functions over the same objects, perhaps of a reloaded module."""
        return all(map(_same, self.given, other.given))

    def identity(self) -> dict[str, str]:
        """Return the names of both functions by which nodes tell whether they load the same."""
        function = {} if self.cached is None else {"function": _identity(self.cached.function)}
        single, many = self.given
        return {"loader": _identity(single), "load_many": _identity(many)} | function

    @property
    def missing(self) -> bool:
        """Return whether the group has no function to load with."""
        return self.single is None and self.many is None

    def driver(self, home: HomeLoop) -> Any:
        """Return the event loop that runs it, None if threads do."""
        return home.running() if self.is_async else None

    def grant(self, lead: Lead, keys: list[str]) -> bool:  # noqa: ARG002
        """Leave the flights of these keys to another member, if it asked for that. Return whether they are its own."""
        return False

    def in_batch(self, keys: list[str]) -> bool:
        """Return whether to use load_many: for batches, and for single keys if there is no loader."""
        return self.many is not None and (len(keys) > 1 or self.single is None)
