"""Write values as keys: the same text in every process, and never one text for two values that differ.

A type stands in the text with its value, so that 1, "1", True and 1.0 differ, at any depth:

| value | text |
|---|---|
| int, bool, None, float, str, bytes | `42` `True` `None` `1.0` `nan` `-0.0` `'en'` `b'00'` |
| Decimal, UUID | `Decimal('1.10')` `UUID('…')` |
| date, datetime, time | `date(2024-05-01)` `datetime(2024-05-01T12:00:00+02:00 Europe/Berlin)` `time(12:00:00)` |
| timedelta | `timedelta(0,5,0)`, in days, seconds and microseconds |
| Enum | `shop.Color.RED`, for an IntEnum and a StrEnum too |
| tuple, frozenset | `(1,'a')` `(1,)` `frozenset(1,2)`, sorted by the texts of its items |
| NamedTuple, frozen dataclass or msgspec.Struct, pydantic model | `shop.Point(x=1,y=2)` |
| class | `<shop.Product>` |

- A value of a subclass of str, int, float, bytes, Decimal, UUID or of the classes of datetime is written as its base
  class writes it: a UUID that a database driver made is the key of the equal uuid.UUID.
- The parts of a value that its own == does not see are written: Decimal("1.0") and Decimal("1.00"), 0.0 and -0.0, and
  one instant in two time zones differ. Every nan is the same.
- Fields of a dataclass with compare=False are left out.
- Classes are told apart by module and qualified name. Two that a function defined have one name.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from typing import Any
from uuid import UUID

from kamacache.origin import name_of

LONGEST = 512  # characters; a longer text is cut down to a hash
_ESCAPED = re.compile(r"[\\'\x00-\x1f\x7f\ud800-\udfff]")
_INSTEAD: dict[type, str] = {
    list: "give a tuple",
    set: "give a frozenset",
    dict: "give a tuple of pairs or a frozen dataclass",
    bytearray: "give bytes",
}


class NoKey(TypeError):
    """Report a value that cannot be written, by its type; the caller knows which argument it was."""


def write(value: Any) -> str:
    """Return the text of a value. Raises NoKey."""
    writer = _EXACT.get(type(value))
    return writer(value) if writer is not None else _other(value)


def quoted(text: str) -> str:
    """Return a str as a Python literal, alike with every version of Python."""
    if text.isascii():
        return repr(text)
    return f"'{_ESCAPED.sub(_escape, text)}'"  # repr would depend on the version's table of printable characters


def _escape(match: re.Match[str]) -> str:
    return "\\'" if match[0] == "'" else ascii(match[0])[1:-1]


def shorten(text: str) -> str:
    """Return what stands for a long text: no text that `write` returns begins like this."""
    return f"#{blake2b(text.encode(errors='surrogatepass'), digest_size=32).hexdigest()}"


def _int(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:  # more digits than the interpreter writes
        return hex(value)


def _tuple(value: tuple[Any, ...]) -> str:
    return f"({','.join(map(write, value))}{',' if len(value) == 1 else ''})"


def _frozenset(value: frozenset[Any]) -> str:
    return f"frozenset({','.join(sorted(map(write, value)))})"


def _datetime(value: dt.datetime) -> str:
    zone = getattr(value.tzinfo, "key", None)  # zoneinfo: two zones may have one offset today
    return f"datetime({value.isoformat()}{f' {zone}' if zone else ''}{' fold' if value.fold else ''})"


def _time(value: dt.time) -> str:
    zone = getattr(value.tzinfo, "key", None)
    return f"time({value.isoformat()}{f' {zone}' if zone else ''}{' fold' if value.fold else ''})"


_EXACT: dict[type, Callable[[Any], str]] = {
    int: _int,
    str: quoted,
    bool: repr,
    type(None): repr,
    float: float.__repr__,
    bytes: bytes.__repr__,
    tuple: _tuple,
    frozenset: _frozenset,
    UUID: lambda value: f"UUID('{value}')",
    Decimal: lambda value: f"Decimal('{value}')",
    dt.datetime: _datetime,
    dt.date: lambda value: f"date({value.isoformat()})",
    dt.time: _time,
    dt.timedelta: lambda value: f"timedelta({value.days},{value.seconds},{value.microseconds})",
}
# The class that a subclass is written as: the first that fits, so datetime before date.
_BASES = (str, int, float, bytes, UUID, Decimal, dt.datetime, dt.date, dt.time, dt.timedelta)


def _other(value: Any) -> str:
    """Write a value of a class of the user's, or of a subclass of the known ones."""
    cls = type(value)
    if isinstance(value, Enum):
        name = value.name
        shown = f".{name}" if name is not None and name.isidentifier() else f"[{write(value.value)}]"
        return name_of(cls) + shown
    if isinstance(value, type):
        return f"<{name_of(value)}>"
    if (names := _fields(cls, value)) is not None:
        return f"{name_of(cls)}({','.join(_field(cls, name, getattr(value, name)) for name in names)})"
    for base in _BASES:
        if isinstance(value, base):
            return _EXACT[base](str.__str__(value) if base is str else value)
    raise NoKey(_reason(cls))


def _fields(cls: Any, value: Any) -> list[str] | None:
    """Return the names of the fields that make up a value, None for a value without fields."""
    if isinstance(value, tuple) and hasattr(cls, "_fields"):
        return list(cls._fields)
    if "__dataclass_fields__" in vars(cls) and cls.__dataclass_params__.frozen:
        return [field.name for field in cls.__dataclass_fields__.values() if field.compare and _is_field(field)]
    struct = getattr(sys.modules.get("msgspec"), "Struct", None)  # none before all of it is imported
    if struct is not None and isinstance(value, struct) and cls.__struct_config__.frozen:
        return list(cls.__struct_fields__)
    model = getattr(sys.modules.get("pydantic"), "BaseModel", None)  # the same
    if model is not None and isinstance(value, model):
        return [*getattr(cls, "model_fields", ()), *sorted(getattr(value, "model_extra", None) or ())]
    return None


def _is_field(field: Any) -> bool:
    return bool(field._field_type.name == "_FIELD")  # noqa: SLF001 - else a ClassVar or InitVar, as dataclasses.fields has it


def _field(cls: type, name: str, value: Any) -> str:
    try:
        return f"{name if name.isidentifier() else quoted(name)}={write(value)}"
    except NoKey as error:
        raise NoKey(f"{_a(cls)} whose {name!r} is {error}") from None


def _reason(cls: type) -> str:
    if (instead := _INSTEAD.get(cls)) is not None:
        return f"{_a(cls)} ({instead})"
    if hasattr(cls, "__dataclass_fields__"):
        return f"{_a(cls)} (write @dataclass(frozen=True) for it)"
    if hasattr(cls, "__struct_fields__"):
        return f"{_a(cls)} (write class {cls.__name__}(msgspec.Struct, frozen=True))"
    return _a(cls)


def _a(cls: type) -> str:
    return f"{'an' if cls.__qualname__[:1] in 'AEIOUaeiou' else 'a'} {cls.__qualname__}"
