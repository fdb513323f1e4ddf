"""The tree of errors is the one that its module draws."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from kamacache import errors


def drawn() -> dict[str, tuple[str, ...]]:
    """Return each class in the drawing, with the names of its bases."""
    path: list[tuple[int, str]] = []
    tree: dict[str, tuple[str, ...]] = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.fullmatch(r"( *)[*+-] (\w+)(?: \((\w+)\))?", line):
            depth, name, extra = len(match[1]), match[2], match[3]
            while path and path[-1][0] >= depth:
                path.pop()
            tree[name] = (path[-1][1] if path else "Exception", *([extra] if extra else []))
            path.append((depth, name))
    return tree


def classes() -> dict[str, type[BaseException]]:
    return {
        name: found
        for name, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, BaseException) and found.__module__ == errors.__name__
    }


def test_the_classes_are_the_drawn_ones() -> None:
    found = {name: tuple(base.__name__ for base in each.__bases__) for name, each in classes().items()}
    assert found == drawn()
    assert found


@pytest.mark.parametrize("name", sorted(classes()))
def test_each_shows_its_text_and_is_documented(name: str) -> None:
    error = classes()[name]("what happened")
    assert str(error) == "what happened"
    assert isinstance(error, errors.KamaCacheError)
    assert error.__doc__


@pytest.mark.parametrize("name", sorted(classes()))
def test_each_can_be_pickled(name: str) -> None:
    copy = pickle.loads(pickle.dumps(classes()[name]("text")))  # noqa: S301 - its own bytes
    assert type(copy) is classes()[name]
    assert str(copy) == "text"


def test_a_load_error_keeps_its_parts() -> None:
    error = errors.LoadError("text", key="a", cause_type="OSError", loaded={"b": 1})
    assert (error.key, error.cause_type, error.loaded) == ("a", "OSError", {"b": 1})
    plain = errors.LoadTimeout("late")
    assert (plain.key, plain.cause_type, plain.loaded) == (None, "", {})
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (copy.key, copy.cause_type, copy.loaded) == ("a", "OSError", {"b": 1})


def test_the_text_of_an_exception_can_always_be_written() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("mute")

    assert errors.text_of(OSError("no caf\udce9, no café")) == "OSError: no caf\\udce9, no café"
    assert errors.text_of(Mute()) == "Mute"
