"""Choose a codec by the type of the values: codec_for(type), and the type that a loader's return annotation names."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, overload

from kamacache.codecs import TYPED, Codec, JsonCodec, resolve
from kamacache.errors import ConfigError
from kamacache.typedcodecs import MsgspecCodec, PydanticCodec, type_name
from kamacache.value import Value

V = TypeVar("V")
Loads = Callable[..., Any] | None

_JSON = {bool, int, float, str, dict, list, types.NoneType, Any, object}
_JSON_OF = {dict, list, Mapping, Sequence}
# Other types of the standard library that msgspec takes, by name, as most programs have imported few of them.
_SCALARS = {
    *(f"builtins.{name}" for name in ("bytes", "bytearray", "tuple", "set", "frozenset")),
    *(f"datetime.{name}" for name in ("datetime", "date", "time", "timedelta")),
    *("decimal.Decimal", "uuid.UUID"),
}
_AWAITED = {"collections.abc.Awaitable", "collections.abc.Coroutine"}
_AS_BEFORE: set[Any] = {Any, object, bytearray, memoryview, types.NoneType, None}  # a group of bytes takes these
_MADE: dict[str, Callable[[Any], Codec[Any]]] = {"msgspec": MsgspecCodec, "pydantic": PydanticCodec}


@overload
def codec_for(of: type[V], /) -> Codec[V]: ...
@overload
def codec_for(of: Any, /) -> Codec[Any]: ...
def codec_for(of: Any, /) -> Codec[Any]:
    """Return a codec for values of one type; its repr says which codec that is.

    - bytes and str: the codecs "bytes" and "text"; what JSON can express, as in dict[str, list[int]]: "json".
    - pydantic models, and what contains them: pydantic (JSON).
    - dataclasses, TypedDict, NamedTuple, msgspec.Struct, Enum, datetime, Decimal, UUID, tuples, sets, and lists, dicts
      and unions of all these: msgspec (MessagePack).

    Raises ConfigError for a type that none of them takes, and if the package is not installed; it names the extra.
    """
    kind = _kind(of := _value_type(of))
    if kind is None:
        raise ConfigError(
            f"codec_for({type_name(of)}): no codec takes this type; give the group a codec of your own: an object with "
            "encode and decode"
        )
    return _made(kind, of)


def for_return(function: Loads, load_many: Loads = None) -> Codec[Any] | None:
    """Return the codec for what a function returns, by its annotation; None if that does not tell.

    Raises ConfigError if the package of that codec is not installed; it names the extra.
    """
    of = _returned(function, load_many)
    kind = None if of in _AS_BEFORE else _kind(of)
    try:
        return None if kind is None else _made(kind, of)
    except ConfigError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        return None  # the package does not take the type after all


def chosen(codec: Any, function: Loads, load_many: Loads = None) -> Any:
    """Return the codec of a group's option: None chooses by the loader's annotation; two names take its type."""
    if codec is None:
        return for_return(function, load_many) or "bytes"
    if isinstance(codec, str) and codec in TYPED and (of := _returned(function, load_many)) not in _AS_BEFORE:
        return _MADE[codec](of)
    return codec


def _made(kind: str, of: Any) -> Codec[Any]:
    if kind == "json":
        return JsonCodec(type_name(of))
    return _MADE[kind](of) if kind in _MADE else resolve(kind)


def _returned(function: Loads, load_many: Loads) -> Any:
    """Return the type of the values that a loader's annotation names; None if it does not say, or cannot be read."""
    if function is not None:
        return _value_type(_annotation(function))
    of = _value_type(_annotation(load_many)) if load_many is not None else None
    return _value_type(typing.get_args(of)[1]) if len(typing.get_args(of)) == 2 else None  # noqa: PLR2004 - a mapping


def _annotation(function: Any) -> Any:
    while isinstance(function, functools.partial | types.MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    try:
        if not isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__"):
            function = type(function).__call__  # an object with that method
        annotation = function.__annotations__["return"]
        inner = getattr(function, "__wrapped__", function)
        names = dict(zip(inner.__code__.co_freevars, _cells(inner), strict=True))
        hints = types.SimpleNamespace(__annotations__={"return": annotation})
        return typing.get_type_hints(hints, inner.__globals__, names)["return"]
    except Exception:  # noqa: BLE001 - names that are imported for checkers alone, objects without annotations
        return None


def _cells(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            yield None


def _value_type(of: Any) -> Any:
    """Return the type of the value itself: without None, Value, Awaitable and names of types."""
    origin, args = typing.get_origin(of), typing.get_args(of)
    if hasattr(of, "__supertype__"):  # NewType
        return _value_type(of.__supertype__)
    if type(of).__name__ == "TypeAliasType":
        return _value_type(of.__value__)
    if origin is typing.Annotated:
        return _value_type(args[0])
    if origin in {typing.Union, types.UnionType}:
        inner = {_value_type(one): None for one in args if one not in {types.NoneType, Value}}  # in their order
        return functools.reduce(lambda one, other: typing.Union[one, other], inner) if inner else None  # noqa: UP007
    if origin is Value or f"{getattr(origin, '__module__', '')}.{getattr(origin, '__name__', '')}" in _AWAITED:
        return _value_type(args[-1]) if args else None
    return None if of is types.NoneType or of is Value else of


def _kind(of: Any) -> str | None:
    """Return the name of the codec for a type; None for a type that none takes."""
    try:
        hash(of)
    except TypeError:  # no type
        return None
    if of is bytes or of is str:
        return "bytes" if of is bytes else "text"
    if of is None or of is Any or of is object:
        return None
    kinds = set(_kinds(of, set()))
    if None in kinds:
        return None
    return next((kind for kind in ("pydantic", "msgspec", "json") if kind in kinds), None)


def _kinds(of: Any, seen: set[Any]) -> Iterator[str | None]:
    """Yield for each part of a type the least of the codecs that takes it, None if there is none."""
    origin, args = typing.get_origin(of), typing.get_args(of)
    if isinstance(of, typing.TypeVar):
        yield None
    elif origin is typing.Literal:
        yield "json" if all(isinstance(one, str | int | None) for one in args) else "msgspec"
    elif origin is dict or origin is Mapping:
        yield "json" if args[0] is str else "msgspec"
        yield from (kind for part in args for kind in _kinds(part, seen))
    elif origin is not None:
        if origin not in _JSON_OF | {typing.Union, types.UnionType, typing.Annotated}:
            yield _class_kind(origin)
        parts = args[:1] if origin is typing.Annotated else args
        yield from (kind for part in parts if part is not Ellipsis for kind in _kinds(part, seen))
    elif hasattr(of, "__supertype__") or type(of).__name__ == "TypeAliasType":
        yield from _kinds(_value_type(of), seen)
    elif of in _JSON:
        yield "json"
    elif of not in seen:
        seen.add(of)
        yield _class_kind(of)
        if _class_kind(of) == "msgspec":
            yield from (kind for kind in _inside(of, seen) if kind == "pydantic")


def _class_kind(of: Any) -> str | None:
    if not isinstance(of, type) and not hasattr(of, "__required_keys__"):
        return None
    if hasattr(of, "__pydantic_core_schema__") or hasattr(of, "__pydantic_fields__"):
        return "pydantic"
    marks = ("__struct_fields__", "__dataclass_fields__", "__required_keys__", "_fields", "__members__")
    known = any(hasattr(of, mark) for mark in marks) or f"{of.__module__}.{of.__qualname__}" in _SCALARS
    return "msgspec" if known else None


def _inside(of: Any, seen: set[Any]) -> Iterator[str | None]:
    try:
        hints = typing.get_type_hints(of)
    except Exception:  # noqa: BLE001 - msgspec says what it cannot read
        return
    for part in hints.values():
        yield from _kinds(part, seen)
