"""docs/reference.md equals the output of `make reference`, and has all that users may call."""

from __future__ import annotations

import importlib
import inspect
import re

from tools.reference import MODULES, PAGE, exported, public, render

import kamacache


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(), "run `make reference`"


def test_rendering_twice_gives_the_same() -> None:
    assert render() == render()
    assert " at 0x" not in render()


def test_every_public_callable_is_there() -> None:
    headings = set(re.findall(r"^#+ (.+)$", PAGE.read_text(), re.MULTILINE))
    classes = [each for name in kamacache.__all__ if inspect.isclass(each := getattr(kamacache, name))]
    for module in MODULES:
        classes += [each for each in exported(importlib.import_module(module)).values() if inspect.isclass(each)]
    for cls in classes:
        if inspect.isfunction(cls):
            assert f"kamacache.{cls.__name__}" in headings
        elif issubclass(cls, Exception):
            assert f"- `{cls.__name__}`" in PAGE.read_text()
        else:
            assert {f"class {cls.__name__}", *(f"{cls.__name__}.{name}" for name in public(cls))} <= headings
    assert len(headings) > 60
