"""The keys of a group with key_codec="auto": int, UUID and tuples beside str, as text that is read back.

Loaders get the key itself back, on any node. A str is its own text, so that other clients find it, unless it looks like
the text of another key; then it is quoted: 42 is `42`, "42" is `'42'`, "ada" is `ada`, (1, "a") is `(1,'a')`. Inside a
tuple a str is always quoted.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

from kamacache.keys import quoted, write
from kamacache.load.loader import Loader, is_async

Key: TypeAlias = str | int | UUID | tuple[Any, ...]
K = TypeVar("K")

_SPECIAL = frozenset("0123456789-'\"(U")  # what the text of a key that is no str begins with, and that of a quoted one
_LIKE_OTHERS = re.compile(r"-?[0-9]+\Z|['\"(]|UUID\('")
_TOKEN = re.compile(
    r"""(?P<int>-?[0-9]+)|(?P<str>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|UUID\('(?P<uuid>[0-9a-f-]{36})'\)|(?P<mark>[(),])""",
    re.DOTALL,
)


def encode(key: Any) -> str:
    """Return the text of a key. Raises TypeError for a key of another type."""
    if type(key) is str and key[:1] not in _SPECIAL:
        return key
    if isinstance(key, str) and not isinstance(key, Enum):
        text = str.__str__(key)
        return quoted(text) if _LIKE_OTHERS.match(text) and (text[0] in "'\"" or decode(text) != text) else text
    _check(key)
    return write(key)


def decode(text: str) -> Any:
    """Return the key of a text; the text itself if it is that of no other key."""
    if text[:1] not in _SPECIAL:
        return text
    try:
        key = _parsed(text)
        return key if write(key) == text else text
    except (ValueError, SyntaxError, RecursionError):
        return text


def _check(key: Any) -> None:
    if isinstance(key, bool | Enum) or not isinstance(key, str | int | UUID | tuple) or hasattr(key, "_fields"):
        raise TypeError(
            f'a group with key_codec="auto" takes str, int, UUID and tuples of them as keys, not {type(key).__name__}; '
            "of other values make a str"
        )
    if isinstance(key, tuple):
        for part in key:
            _check(part)


def _parsed(text: str) -> Any:
    """Return the value of a text, or one that is not written like this. Raises ValueError, SyntaxError."""
    open_: list[list[Any]] = [[]]
    end = 0
    while end < len(text):
        token = _TOKEN.match(text, end)
        if token is None:
            raise ValueError(text)
        end, what = token.end(), token.lastgroup
        if what == "int":
            open_[-1].append(int(token[0]))
        elif what == "str":
            open_[-1].append(ast.literal_eval(token[0]))
        elif what == "uuid":
            open_[-1].append(UUID(token["uuid"]))
        elif token[0] == "(":
            open_.append([])
        elif token[0] == ")":
            items = tuple(open_.pop())
            if not open_:
                raise ValueError(text)
            open_[-1].append(items)
    (values,) = open_
    (value,) = values
    return value


# -- functions of keys -----------------------------------------------------------------------------------------------


def for_text(load: Callable[[Any], Any]) -> Callable[[str], Any]:
    """Return a function of the text of a key that calls a loader with the key."""

    @functools.wraps(load)
    def plain(text: str) -> Any:
        return load(decode(text))

    @functools.wraps(load)
    async def asynchronous(text: str) -> Any:
        return await load(decode(text))

    return asynchronous if is_async(load) else plain


def for_texts(load_many: Callable[[list[Any]], Any]) -> Callable[[list[str]], Any]:
    """Return a function of the texts of keys that calls a load_many with the keys."""

    @functools.wraps(load_many)
    def plain(texts: list[str]) -> Any:
        return encoded(load_many([decode(text) for text in texts]))

    @functools.wraps(load_many)
    async def asynchronous(texts: list[str]) -> Any:
        return encoded(await load_many([decode(text) for text in texts]))

    return asynchronous if is_async(load_many) else plain


def give_keys(loader: Loader) -> None:
    """Let the functions of a loader get keys, not the texts of these."""
    loader.single, loader.many = loader.single and for_text(loader.single), loader.many and for_texts(loader.many)


def encoded(values: Any) -> Any:
    """Return a mapping by the texts of its keys, anything else as it is: its reader says what is wrong."""
    return {encode(key): value for key, value in values.items()} if isinstance(values, Mapping) else values


def decoded(values: Mapping[str, Any]) -> dict[Any, Any]:
    """Return a mapping by its keys."""
    return {decode(text): value for text, value in values.items()}


def all_encoded(keys: Iterable[Any]) -> Any:
    """Return the texts of keys; one str or bytes as it is: its reader says what is wrong."""
    return keys if isinstance(keys, str | bytes) else [encode(key) for key in keys]
