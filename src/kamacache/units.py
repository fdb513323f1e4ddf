"""Parse durations, sizes and names as users write them."""

from __future__ import annotations

import math
import operator
import re
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, SupportsFloat, TypeAlias

from kamacache.errors import ConfigError

if TYPE_CHECKING:
    from datetime import timedelta
else:  # the same class, for typing.get_type_hints; all of datetime takes a millisecond to import
    from _datetime import timedelta

Duration: TypeAlias = float | int | timedelta | str
"""Seconds as a number, a timedelta, or text such as "500ms", "1h30m", "10"."""

Size = int | str
"""Bytes as an int, or text such as "64 MiB"."""


class Missing(Enum):
    """The type of UNSET: an enum, so that type checkers narrow it by `is`."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.value


UNSET: Final = Missing.UNSET
Unset = Literal[Missing.UNSET]


class Keep(Enum):
    """The type of KEEP."""

    KEEP = "KEEP"

    def __repr__(self) -> str:
        return f"kamacache.{self.value}"


KEEP: Final = Keep.KEEP
"""As the ttl of a set: the entry that is there keeps its remaining time."""

# Longer durations are cut to this: no process lives that long, and every clock and wait can count it.
LONGEST: Final = 100 * 365 * 86400.0

# The module re compiles a pattern when it is first used: few programs use them all.
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}  # milliseconds
_DURATION = r"\s*".join(rf"(?:(?P<{unit}>{_NUMBER})\s*{unit})?" for unit in _UNITS)
_SIZE = rf"({_NUMBER})\s*([KMG]?B|[KMG]iB)?"
_FACTORS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_NAME = r"[A-Za-z0-9_.-]{1,64}"
_LONGEST_TEXT = 100
_SCALE: int = 10**_LONGEST_TEXT  # no number in a text has more decimals

_DURATION_HELP = 'a duration is seconds as a number, a timedelta, or text: "500ms", "1.5s", "1h30m" (ms s m h d)'
_SIZE_HELP = 'a size is a number of bytes, or text such as "64 MiB" (B KB MB GB KiB MiB GiB)'


def parse_duration(value: object, *, name: str, least: float = 0.0) -> float:
    """Return the seconds of a Duration, `least` or more; ConfigError naming the option `name` for anything else."""
    seconds: float | None = None
    if isinstance(value, str):
        seconds = _duration_text(value.strip())
    elif isinstance(value, SupportsFloat) and not isinstance(value, bool):
        with suppress(OverflowError, ValueError):
            seconds = float(value)
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    if seconds is None or not math.isfinite(seconds):
        raise ConfigError(f"{name}={shown(value)}: {_DURATION_HELP}")
    if seconds < least:
        raise ConfigError(f"{name}={shown(value)}: must be a duration of {least:g} s or more")
    return min(seconds, LONGEST)


def _duration_text(text: str) -> float | None:
    if len(text) > _LONGEST_TEXT:
        return None
    if re.fullmatch(_NUMBER, text):
        return float(text)
    match = re.fullmatch(_DURATION, text)
    if not text or match is None:
        return None
    scaled = sum(_scaled(n) * _UNITS[unit] for unit, n in match.groupdict().items() if n is not None)
    return scaled / (1000 * _SCALE)


def _scaled(number: str) -> int:
    """Return a number times _SCALE, exactly. The module decimal is slow to import, and gone when the process ends."""
    whole, _, part = number.partition(".")
    tenths: int = 10 ** len(part)
    return int(whole + part) * _SCALE // tenths


TTL: TypeAlias = Duration | Missing | Keep | None  # of a write


def parse_ttl_of_write(value: object) -> float | None:
    """Return the seconds of a time to live, 0.0 for zero or less, None for ever; ConfigError for anything else."""
    return None if value is None else max(0.0, parse_duration(value, name="ttl", least=-math.inf))


def parse_ttl(value: object, *, name: str) -> float | None:
    """Return the seconds of a time to live, None for values that never expire; ConfigError unless it is above zero."""
    if value is None:
        return None
    seconds = parse_duration(value, name=name)
    if seconds <= 0:
        raise ConfigError(f"{name}={shown(value)}: must be more than zero; None means that values never expire")
    return seconds


def parse_size(value: object, *, name: str) -> int:
    """Return the bytes of a Size, zero or more; ConfigError naming the option `name` for anything else."""
    size: int | None = None
    if isinstance(value, str):
        text = value.strip()
        match = re.fullmatch(_SIZE, text) if len(text) <= _LONGEST_TEXT else None
        if match is not None:
            size = _scaled(match[1]) * _FACTORS[match[2] or "B"] // _SCALE
    elif not isinstance(value, bool):
        with suppress(TypeError):
            size = operator.index(value)  # type: ignore[arg-type] # integers of other libraries count too
    if size is None or size < 0:
        raise ConfigError(f"{name}={shown(value)}: {_SIZE_HELP}")
    return size


def check_name(value: object, *, what: str) -> str:
    """Return the name of a group or service; ConfigError unless it is 1 to 64 of A-Z a-z 0-9 _ . -."""
    if not isinstance(value, str) or not re.fullmatch(_NAME, value):
        raise ConfigError(f"{what} name {shown(value)}: a name is 1 to 64 of the characters A-Z a-z 0-9 _ . -")
    return value


def check_version(value: object) -> int:
    """Return the version of an entry that an option `if_version` names; TypeError, ValueError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"if_version={shown(value)}: must be the version of an entry, as get_entry tells it")
    if not 0 <= value < 1 << 128:
        raise ValueError(f"if_version={shown(value)}: no entry has this version")
    return int(value)


def check_full_name(value: object) -> str:
    """Return the name of a group with its version, if it has one, as in "products@2"; ConfigError."""
    name, at, version = value.partition("@") if isinstance(value, str) else (value, "", "")
    check_name(name, what="group")
    if at and not re.fullmatch(r"[1-9][0-9]{0,8}", version):
        raise ConfigError(f"group name {shown(value)}: after the @ stands the version of the group, as in products@2")
    return str(value)


def shown(value: object) -> str:
    """Return a value as an error text shows it, cut if it is long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


def flag(name: str, value: object) -> bool:
    """Return True or False as it is. Raises ConfigError."""
    if type(value) is not bool:
        raise ConfigError(f"{name}={value!r}: must be True or False")
    return value


def number(value: object, *, name: str, range_: str) -> float:
    """Return a finite number. Raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}={value!r}: must be {range_}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ConfigError(f"{name}={value!r}: must be {range_}")
    return result
