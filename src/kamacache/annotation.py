"""Read from the annotations of a function which of its parameters are marked with NotKey."""

from __future__ import annotations

import builtins
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import UnionType
from typing import Any

from kamacache.notkey import NotKey


def not_keys(function: Callable[..., Any], parameters: Iterable[inspect.Parameter]) -> set[str]:
    """Return the names of the parameters that are annotated with NotKey."""
    under = inspect.unwrap(function)
    names = _Names(under)
    return {parameter.name for parameter in parameters if _is_not_key(parameter.annotation, names)}


def _is_not_key(annotation: Any, names: _Names) -> bool:
    if isinstance(annotation, str):  # of `from __future__ import annotations`, or quoted
        try:
            annotation = eval(annotation, {"__builtins__": {}}, names)  # noqa: S307 - the user's own annotation
        except Exception:  # noqa: BLE001 - it is for a type checker alone
            return False
    if typing.get_origin(annotation) is typing.Annotated:
        return NotKey in typing.get_args(annotation)[1:]
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        return any(_is_not_key(each, names) for each in typing.get_args(annotation))
    value = getattr(annotation, "__value__", None)  # of `type Db = Annotated[...]`
    return value is not None and _is_not_key(value, names)


class _Names(Mapping[str, Any]):
    """The names that an annotation may use. One that only a type checker imports gets a stand-in.

    So Annotated[Session, NotKey] is read although Session is imported under TYPE_CHECKING, and if Annotated or
    kamacache is. Only an alias of the whole, imported like this, says nothing at run time.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        code = getattr(function, "__code__", None)
        free = () if code is None else zip(code.co_freevars, getattr(function, "__closure__", None) or (), strict=True)
        self._names = vars(builtins) | getattr(function, "__globals__", {})
        for name, cell in free:
            try:
                self._names[name] = cell.cell_contents
            except ValueError:  # not yet assigned
                continue

    def __getitem__(self, name: str) -> Any:
        return self._names[name] if name in self._names else getattr(_Unknown(), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Unknown:
    """Stand in for a name that does not exist at run time, whatever an annotation does with it."""

    Annotated = typing.Annotated
    NotKey = NotKey

    def __getattr__(self, name: str) -> _Unknown:
        if name.startswith("__"):  # typing asks for its own marks
            raise AttributeError(name)
        return self

    def __getitem__(self, _: Any) -> _Unknown:
        return self

    def __call__(self, *_: Any, **__: Any) -> _Unknown:
        return self

    __or__ = __ror__ = __getitem__
