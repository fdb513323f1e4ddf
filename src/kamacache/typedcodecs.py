"""The codecs that are made for one type: with msgspec, and with pydantic."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any

from kamacache.codecs import Named
from kamacache.errors import ConfigError
from kamacache.units import shown


class MsgspecCodec(Named):
    """Keep values of one type as MessagePack, with msgspec."""

    shareable = False

    def __init__(self, of: Any) -> None:
        try:
            import msgspec  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise _missing("msgspec", of) from error
        self.of = type_name(of)
        self.name = f"msgspec for {self.of}"
        self._class = of if isinstance(of, type) and not hasattr(of, "__required_keys__") else object
        try:
            self._encode = msgspec.msgpack.Encoder(enc_hook=_as_base).encode
            self._decode = msgspec.msgpack.Decoder(of).decode
        except TypeError as error:
            raise ConfigError(f"msgspec has no codec for {self.of}: {error}") from error

    def __repr__(self) -> str:
        return f"<codec {self.name}>"

    def encode(self, value: Any, /) -> bytes:
        """Return MessagePack; TypeError for a value of another class, or one of which a get would return a part.

        What msgspec writes it may not be able to read: a wrong type in a field is a msgspec.ValidationError.
        """
        if not isinstance(value, self._class):
            raise TypeError(f"this group keeps {self.of}")
        data = self._encode(value)
        if len(self._encode(self._decode(data))) < len(data):
            raise TypeError(_less(value, self.of))
        return data

    def decode(self, data: bytes, /) -> Any:
        """Return the value; msgspec.ValidationError for bytes that are no value of the type."""
        return self._decode(data)


def _as_base(value: Any) -> Any:
    """Return a value of a subclass, as a frozen clock or a library has them, as one of the class. Raises TypeError."""
    base: Any
    for base in type(value).__mro__:  # by name: a frozen clock puts others in the place of the classes of datetime
        match f"{base.__module__}.{base.__qualname__}":
            case "builtins.str":
                return str.__str__(value)
            case "builtins.bytes" | "builtins.int" | "builtins.float" | "decimal.Decimal":
                return base(value)
            case "datetime.datetime" | "datetime.date" | "datetime.time":
                return base.fromisoformat(base.isoformat(value))
            case "datetime.timedelta":
                return base(value.days, value.seconds, value.microseconds)
    raise TypeError(f"msgspec has no encoding of {type(value).__qualname__}")


class PydanticCodec(Named):
    """Keep values of one type as JSON, with a TypeAdapter of pydantic."""

    shareable = False

    def __init__(self, of: Any) -> None:
        try:
            import pydantic  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise _missing("pydantic", of) from error
        self.of = type_name(of)
        self.name = f"pydantic for {self.of}"
        try:
            adapter: Any = pydantic.TypeAdapter(_for_pydantic(of))
        except pydantic.errors.PydanticUserError as error:
            raise ConfigError(f"pydantic has no codec for {self.of}: {error.message}") from error
        self._class = of if hasattr(of, "model_fields") else None
        self._encode = functools.partial(adapter.dump_json, by_alias=True, round_trip=True, warnings="error")
        self._decode = adapter.validate_json

    def __repr__(self) -> str:
        return f"<codec {self.name}>"

    def encode(self, value: Any, /) -> bytes:
        """Return JSON; PydanticSerializationError for a value of another type, TypeError for one of a subclass."""
        if self._class is not None and type(value) is not self._class and isinstance(value, self._class):
            raise TypeError(_less(value, self.of))
        data: bytes = self._encode(value)
        return data

    def decode(self, data: bytes, /) -> Any:
        """Return the value; pydantic.ValidationError for bytes that are no value of the type."""
        return self._decode(data)


def _less(value: Any, of: str) -> str:
    return (
        f"this group keeps {of}, and a get would return less than this {type(value).__qualname__} has: name the class "
        'that the values are of, in the annotation or in codec_for, or give the group codec="pickle"'
    )


def _missing(package: str, of: Any) -> ConfigError:
    return ConfigError(f"a codec for {type_name(of)} needs the {package} package: pip install kamacache[{package}]")


def type_name(of: Any) -> str:
    """Return a type as people write it, without its modules, which differ between a script and its import."""
    import re  # noqa: PLC0415 - only groups with types pay for it

    if isinstance(of, type):
        return of.__qualname__.rpartition("<locals>.")[2]
    return re.sub(r"(?:[A-Za-z_]\w*|<locals>)\.", "", shown(of))


# -- the type ------------------------------------------------------------------------------------------------------


def _for_pydantic(of: Any) -> Any:
    """Return the type with each typing.TypedDict made anew with typing_extensions: pydantic on 3.11 needs it."""
    import sys  # noqa: PLC0415 - as the rest, only for groups of this codec

    args = typing.get_args(of)
    if sys.version_info >= (3, 12):
        return of
    if args and typing.get_origin(of) is not typing.Literal:
        parts = tuple(_for_pydantic(part) for part in args)
        if parts == args:
            return of
        if typing.get_origin(of) in {typing.Union, types.UnionType}:
            return functools.reduce(lambda one, other: typing.Union[one, other], parts)  # noqa: UP007
        return of.copy_with(parts) if hasattr(of, "copy_with") else typing.get_origin(of)[parts]
    if not typing.is_typeddict(of):
        return of
    import typing_extensions  # noqa: PLC0415 - pydantic brings it

    def field(name: str, hint: Any) -> Any:
        mark = typing.get_origin(hint)
        if mark in {typing.Required, typing.NotRequired}:
            (hint,) = typing.get_args(hint)
        required = mark is typing.Required or (mark is not typing.NotRequired and name in of.__required_keys__)
        given = _for_pydantic(hint)
        return given if required else typing_extensions.NotRequired[given]

    fields = {name: field(name, hint) for name, hint in typing.get_type_hints(of, include_extras=True).items()}
    return typing_extensions.TypedDict(of.__name__, fields)  # type: ignore[operator]
