"""Values as keys: one text for one value, never for two, in every process."""

from __future__ import annotations

import datetime as dt
import enum
import itertools
import os
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from types import ModuleType
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamacache.keys import NoKey, quoted, write


class Colour(enum.Enum):
    RED = 1
    BLUE = "1"


class Number(enum.IntEnum):
    ONE = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Odd = enum.Enum("Odd", {"a,1": 3, "b": 4})


class Pair(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Other:
    x: Any
    y: Any = 0


class Plain(Point):
    """A subclass that is no dataclass of its own, and may have more in it."""


@dataclass
class Changing:
    x: int


class Query(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    text: str
    page: int = 1


class Frozen(msgspec.Struct, frozen=True):
    x: Any
    y: Any = 0


class Loose(msgspec.Struct):
    x: int


class Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "no"

    __str__ = __repr__


class Id(UUID):
    """As database drivers have their own."""


NOON = dt.datetime(2024, 5, 1, 12)  # noqa: DTZ001 - naive, to differ from those with a zone
BERLIN, PARIS = ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Paris")
SOME_ID = UUID("12345678-1234-5678-1234-567812345678")
DIFFERENT: list[Any] = [
    *(1, "1", True, 1.0, b"1", Decimal(1), Decimal("1.0"), None, "None", "True", "", b"", 0, -0.0, 0.0, False),
    *(float("nan"), float("inf"), "nan", -1, "-1", "it's", 'say "x"', "\\", "\\\\", "\n", "ü", "\\xfc"),
    *("\udc80", "\\udc80"),
    *((), (1,), ("1",), ((1,),), (1, 2), ((1, 2),), (1, (2,)), ("1,2",), ("1", "2"), ("1','2",), (True,), (1.0,)),
    *(frozenset(), frozenset({1}), frozenset({1, 2}), frozenset({"1"}), frozenset({frozenset()}), frozenset({()})),
    *(SOME_ID, str(SOME_ID), f"UUID('{SOME_ID}')", SOME_ID.int),
    *(NOON, NOON.date(), NOON.time(), NOON.isoformat(), NOON.replace(tzinfo=dt.UTC), NOON.replace(tzinfo=BERLIN)),
    *(NOON.replace(tzinfo=PARIS), NOON.replace(fold=1), dt.timedelta(1), dt.timedelta(0, 1), dt.timedelta(0, 0, 1)),
    *(Colour.RED, Colour.BLUE, Number.ONE, Mode.FAST, "fast", "RED", Rights.READ, Rights.READ | Rights.WRITE),
    *(Odd["a,1"], Odd.b, (Odd["a,1"],), (Odd.b, 1)),
    *(Pair(1, 2), Point(1, 2), Other(1, 2), Point(1), Point("1"), Point(Point(1)), Frozen(1), Frozen("1")),
    *(Query(text="a"), Query(text="a", page=2), Query(text="a", more=1), Query(text="a,page=1")),  # type: ignore[call-arg]
    *(Point, Other, int, "int", 10**5000),
]
SAME: list[tuple[Any, Any]] = [
    *((Text("1"), "1"), (Id(str(SOME_ID)), SOME_ID), (float("nan"), -float("nan")), (Point(1, note="a"), Point(1))),
    *((frozenset("abcdef"), frozenset("fedcba")), (Query(text="a"), Query(text="a", page=1))),
    (Query(text="a", m=1, n=2), Query(text="a", n=2, m=1)),  # type: ignore[call-arg]
]


def test_the_field_without_a_key_is_named() -> None:
    for value, text in (
        (Query(text="a", tags=["x"]), r"a Query whose 'tags' is a list \(give a tuple\)"),  # type: ignore[call-arg]
        (Frozen({}), r"a Frozen whose 'x' is a dict"),
        (Loose(1), r"a Loose \(write class Loose\(msgspec.Struct, frozen=True\)\)"),
    ):
        with pytest.raises(NoKey, match=text):
            write(value)


def test_values_that_differ_have_texts_that_differ() -> None:
    written = [(value, write(value)) for value in DIFFERENT]
    assert [(a, b) for (a, one), (b, other) in itertools.combinations(written, 2) if one == other] == []
    assert all(text.encode() for _, text in written)  # no lone surrogates are left


@pytest.mark.parametrize(("one", "other"), SAME)
def test_values_that_are_one_have_one_text(one: Any, other: Any) -> None:
    assert write(one) == write(other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((42, "42"), ("en", "'en'"), ("München", "'München'"), (None, "None"), ((1, "a"), "(1,'a')"), ((1,), "(1,)")),
        (SOME_ID, f"UUID('{SOME_ID}')"),
        (NOON.replace(tzinfo=BERLIN), "datetime(2024-05-01T12:00:00+02:00 Europe/Berlin)"),
        (Number.ONE, f"{__name__}.Number.ONE"),
        (Point(1, "a"), f"{__name__}.Point(x=1,y='a')"),
        (Query, f"<{__name__}.Query>"),
        (frozenset({2, 10}), "frozenset(10,2)"),
    ],
)
def test_texts_can_be_read(value: Any, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *(([1], "a list (give a tuple)"), ({1}, "a set (give a frozenset)"), ({}, "a dict (give a tuple of pairs")),
        *((object(), "an object"), (bytearray(), "a bytearray (give bytes)"), (Changing(1), "frozen=True")),
        *((Plain(1), "a Plain (write @dataclass(frozen=True)"), ((1, [2]), "a list"), (1j, "a complex")),
        (Point(Other([1])), "a Point whose 'x' is an Other whose 'x' is a list"),
        (Query(text="a", tags=[]), "a Query whose 'tags' is a list"),  # type: ignore[call-arg]
    ],
)
def test_what_has_no_key_says_why(value: Any, reason: str) -> None:
    with pytest.raises(NoKey) as raised:
        write(value)
    assert reason in str(raised.value)


PROGRAM = """
import enum, dataclasses, uuid
from kamacache.keys import write
@dataclasses.dataclass(frozen=True)
class Point: x: object
print(write((frozenset("abcdefgh"), Point(frozenset(range(50))), "x", 1.5, uuid.UUID(int=7))))
"""


def test_a_value_without_a_key_while_pydantic_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may be importing it, so that a part of the module is there."""
    monkeypatch.setitem(sys.modules, "pydantic", ModuleType("pydantic"))
    with pytest.raises(NoKey):
        write(object())


def test_the_text_is_the_same_in_every_process() -> None:
    texts = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


scalars = st.one_of(st.integers(), st.text(), st.binary(), st.booleans(), st.none(), st.floats(allow_nan=False))
values = st.recursive(scalars, lambda inside: st.lists(inside, max_size=4).map(tuple))


def typed(value: Any) -> Any:
    """Return what tells a value from every other."""
    return (type(value), tuple(map(typed, value)) if isinstance(value, tuple) else repr(value))


@given(values, values)
def test_one_text_means_one_value(one: Any, other: Any) -> None:
    assert (write(one) == write(other)) == (typed(one) == typed(other))


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_str_can_be_read_back(text: str) -> None:
    assert eval(quoted(text)) == text  # noqa: S307
