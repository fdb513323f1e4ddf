"""The key of a call: a function with the parameters of the cached one that returns the key of its arguments.

Such a function is written as source and compiled once, at decoration, so that the interpreter itself binds the
arguments and fills in the defaults: a hit costs no inspect.Signature.bind. For

    def product(product_id: int, lang: str = "en", *, db: Annotated[Session, NotKey]) -> Product: ...

it reads, with `_is` for the test whether a value is an int or an ASCII str, and is its own text or repr:

    def product(product_id, lang="en", *, db):
        key = f"{write(product_id)},{write(lang)}"
        return key if len(key) <= 512 else shorten(key)

Each `write` of an argument begins with the cases of an int and of a str in place, which need no call.
"""

from __future__ import annotations

import functools
import inspect
import re
import string
from collections.abc import Callable, Collection, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple, NoReturn

from kamacache.annotation import not_keys
from kamacache.errors import ConfigError
from kamacache.keys import LONGEST, NoKey, quoted, shorten, write
from kamacache.load import loader
from kamacache.load.loader import Keyed, underneath
from kamacache.origin import name_of

_P = inspect.Parameter
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# Prefixes of the names that the source uses beside the parameters, which may have any other name.
_N = "__kamacache_"
_LONGEST_NAME = 64  # of a group
_SIMPLE = (int, str, bool, float, type(None))  # defaults whose text is written at decoration


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a function is async. Raises TypeError for one whose results cannot be cached."""
    under = underneath(function)
    call = getattr(under, "__call__", None)  # noqa: B004 - of an object
    if any(map(inspect.isgeneratorfunction, (under, call))) or any(map(inspect.isasyncgenfunction, (under, call))):
        raise TypeError(
            f"{name_of(under)} is a generator, which is read once: cache a function that returns a list or a tuple"
        )
    return loader.is_async(function)


def group_name(function: Callable[..., Any]) -> str:
    """Return the name of the group for a function: its module and qualified name, made to fit."""
    under = underneath(function)
    name = name_of(under if hasattr(under, "__qualname__") else type(under))
    fitting = re.sub(r"[^A-Za-z0-9_.-]", "", name.replace("<locals>.", ""))
    if fitting == name and len(name) <= _LONGEST_NAME:
        return name
    mark = blake2b(name.encode(), digest_size=4).hexdigest()  # so that no two functions get one name
    return f"{fitting[len(mark) + 1 - _LONGEST_NAME :]}-{mark}"


class _Required:
    """Stand in for an argument that has to be given, after a parameter that may be left out."""


_REQUIRED = _Required()


class CallKey(NamedTuple):
    """Two functions that return the key of a call, as the calls of a cached function and of its methods need it."""

    strict: Callable[..., str]
    """Takes what the function takes."""
    lax: Callable[..., str]
    """The same, but parameters that are not part of the key may be left out."""


def call_key(keyed: Keyed) -> CallKey:
    """Return the functions that make the keys of the calls of a function. Raises ConfigError, TypeError."""
    function, key, ignore, _ = keyed
    name = getattr(function, "__name__", type(function).__name__)
    if callable(key):
        made = _by_callable(name, key)
        return CallKey(made, made)
    parameters = _parameters_of(name, function)
    ignored = _ignored(name, parameters, ignore)
    scope = _scope(name)
    if key is not None:
        if ignored:
            raise ConfigError(f"cached: key= says what the key is made of; ignore={tuple(ignored)!r} has no meaning")
        pieces, used = _template(name, key, parameters, scope)
        left_out = {parameter.name for parameter in parameters} - used
    else:
        left_out = ignored | not_keys(function, parameters)
        pieces = _arguments(parameters, left_out, scope)
    strict = _compiled(function, parameters, pieces, scope)
    return CallKey(strict, _compiled(function, _relaxed(parameters, left_out), pieces, scope))


def _parameters_of(name: str, function: Callable[..., Any]) -> list[_P]:
    """Return the parameters of a function. Raises TypeError if Python does not know them, as of some in C."""
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError as error:
        raise TypeError(
            f"cached: Python does not know the parameters of {name} ({error}); wrap it in a function of your own, "
            "def ..., whose parameters it names"
        ) from error


def _scope(function: str) -> dict[str, Any]:
    """Return what the source uses by name."""
    return {
        f"{_N}write": functools.partial(_written, function),
        f"{_N}text": functools.partial(_text, function),
        **{f"{_N}{each.__name__}": each for each in (type, int, str, len)},
        f"{_N}shorten": shorten,
    }


def _ignored(function: str, parameters: list[_P], ignore: frozenset[str]) -> set[str]:
    if unknown := sorted(ignore - {parameter.name for parameter in parameters}):
        raise ConfigError(f"ignore={tuple(ignore)!r}: {function} has no parameter {unknown[0]!r}")
    return set(ignore)


# -- the source ----------------------------------------------------------------------------------------------------


class _Expression(str):
    """A piece of a key that is computed; any other piece stands in the key as it is."""

    __slots__ = ()


def _compiled(
    function: Callable[..., Any], parameters: list[_P], pieces: list[str], scope: Mapping[str, Any]
) -> Callable[..., str]:
    """Return a function with these parameters that returns the pieces as one text. The scope has all names they use."""
    names = dict(scope)
    body = "".join(f"{{{piece if isinstance(piece, _Expression) else _constant(piece, names)}}}" for piece in pieces)
    source = (
        f"def {_N}key({_parameters(parameters, names)}):\n"
        f'    {_N}made = f"{body}"\n'
        f"    return {_N}made if {_N}len({_N}made) <= {LONGEST} else {_N}shorten({_N}made)\n"
    )
    exec(compile(source, "<the key of a cached function>", "exec"), names)  # noqa: S102 - made of identifiers alone
    made: Any = names[f"{_N}key"]
    made.__name__ = getattr(function, "__name__", type(function).__name__)
    made.__qualname__ = getattr(function, "__qualname__", made.__name__)  # errors of the interpreter name it
    return made  # type: ignore[no-any-return]


def _constant(value: Any, names: dict[str, Any]) -> str:
    """Return the name of a constant: until Python 3.12, an f-string cannot have each text inside its braces."""
    name = f"{_N}constant_{len(names)}"
    names[name] = value
    return name


def _parameters(parameters: list[_P], names: dict[str, Any]) -> str:
    """Return the parameters as source, and put their defaults into the names."""
    shown: list[str] = []
    before = None
    for parameter in parameters:
        if before is _P.POSITIONAL_ONLY and parameter.kind is not _P.POSITIONAL_ONLY:
            shown.append("/")
        if parameter.kind is _P.KEYWORD_ONLY and before not in (_P.KEYWORD_ONLY, _P.VAR_POSITIONAL):
            shown.append("*")
        star = "*" if parameter.kind is _P.VAR_POSITIONAL else "**" if parameter.kind is _P.VAR_KEYWORD else ""
        default = ""
        if parameter.default is not _P.empty:
            names[_default(parameter.name)] = parameter.default
            default = f"={_default(parameter.name)}"
        shown.append(f"{star}{parameter.name}{default}")
        before = parameter.kind
    if before is _P.POSITIONAL_ONLY:
        shown.append("/")
    return ", ".join(shown)


def _default(name: str) -> str:
    return f"{_N}default_{name}"


def _relaxed(parameters: list[_P], left_out: Collection[str]) -> list[_P]:
    """Return the parameters with those optional that are left out. The ones behind them are required by `_written`."""
    relaxed: list[_P] = []
    open_ = bool(parameters) and parameters[0].name == "cls"  # so that `_written` sees what stands in its place
    for parameter in parameters:
        default = parameter.default
        if default is _P.empty and parameter.kind not in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD):
            if parameter.name in left_out:
                default, open_ = None, open_ or parameter.kind is not _P.KEYWORD_ONLY
            elif open_ and parameter.kind is not _P.KEYWORD_ONLY:
                default = _REQUIRED
        relaxed.append(parameter.replace(default=default))
    return relaxed


def _arguments(parameters: list[_P], left_out: Collection[str], scope: dict[str, Any]) -> list[str]:
    """Return the pieces of a key of all arguments that are not left out."""
    pieces: list[str] = []
    for parameter in parameters:
        if (name := parameter.name) in left_out:
            continue
        code = f"{_N}write({name}, {_constant(name, scope)}, {int(parameter.kind is _P.VAR_KEYWORD)})"
        if parameter.kind not in (_P.VAR_POSITIONAL, _P.VAR_KEYWORD) and name != "cls":
            # Before Python 3.12 an f-string cannot have its own quotes inside its braces: one of another kind does.
            code = f"f'{{{name}!r}}' if {_N}type({name}) is {_N}str and {name}.isascii() else {code}"
            code = f"{name} if {_N}type({name}) is {_N}int else {code}"
            if type(parameter.default) in _SIMPLE:
                code = f"{_constant(write(parameter.default), scope)} if {name} is {_default(name)} else {code}"
        pieces += [",", _Expression(code)] if pieces else [_Expression(code)]
    return pieces or ["()"]


def _written(function: str, value: Any, name: str, named: int) -> str:
    """Return the text of one argument; `named` says that it is a dict of those that have no parameter of their own."""
    if value is _REQUIRED:
        raise TypeError(f"{function}() missing 1 required argument: {name!r}")
    try:
        if named:
            return f"{{{','.join(f'{quoted(each)}:{write(value[each])}' for each in sorted(value))}}}"
        if name == "cls" and not isinstance(value, type):
            raise TypeError(
                f"{function}() takes a class as 'cls', not {value!r}: write @node.cached above @classmethod"
            )
        return write(value)
    except NoKey as error:
        _refuse(function, name, error)


def _refuse(function: str, name: str, error: NoKey) -> NoReturn:
    if name == "self":
        remedies = "write ignore=('self',) if all instances share their entries, else key= with what tells them apart"
    else:
        remedies = (
            f"write ignore=({name!r},), or annotate it Annotated[..., kamacache.NotKey], if the result does not "
            "depend on it, else key= with what it depends on"
        )
    raise TypeError(f"{function}(): no key can be made of the argument {name!r}, {error}; {remedies}") from None


# -- key= ----------------------------------------------------------------------------------------------------------


def filled(function: Callable[..., Any], template: str, option: str) -> Callable[..., str]:
    """Return what fills a template with the arguments of a call, of which those that it does not use are optional."""
    name = getattr(function, "__name__", type(function).__name__)
    parameters = _parameters_of(name, function)
    scope: dict[str, Any] = _scope(name)
    pieces, used = _template(name, template, parameters, scope, option)
    left_out = {parameter.name for parameter in parameters} - used
    return _compiled(function, _relaxed(parameters, left_out), pieces, scope)


def _template(
    function: str, template: str, parameters: list[_P], scope: dict[str, Any], option: str = "key"
) -> tuple[list[str], set[str]]:
    """Return the pieces of a template, and the names of the parameters that it uses."""
    names = [parameter.name for parameter in parameters]
    pieces: list[str] = []
    used: set[str] = set()
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ConfigError(f"{option}={template!r}: {error}") from error
    if not parsed:
        raise ConfigError(f"{option}='': it has at least one character")
    for literal, path, spec, conversion in parsed:
        pieces.append(literal)
        if path is None:
            continue
        name = path.partition(".")[0]
        if not _PATH.fullmatch(path) or name not in names or conversion is not None or "{" in (spec or ""):
            shown = ", ".join(f"{{{each}}}" for each in names)
            field = f"{path}!{conversion}" if conversion else path
            wrong = f"takes no conversion such as !{conversion}" if conversion else f"is no argument of {function}"
            raise ConfigError(
                f"{option}={template!r}: {{{field}}} {wrong}; write {shown or 'no field'}, or an attribute of "
                "one, as in {user.id}"
            )
        used.add(name)
        code = f"{_N}text({path}, {_constant(path, scope)}, {_constant(spec or '', scope)})"
        if path == name and not spec:
            code = f"{name} if {_N}type({name}) is {_N}str or {_N}type({name}) is {_N}int else {code}"
        pieces.append(_Expression(code))
    return pieces, used


def _text(function: str, value: Any, path: str, spec: str) -> str:
    """Return what a field of a template stands for: the str of the argument."""
    if value is _REQUIRED:
        raise TypeError(f"{function}() missing 1 required argument: {path.partition('.')[0]!r}")
    cls: Any = type(value)
    if cls.__str__ is object.__str__ and cls.__repr__ is object.__repr__:
        raise TypeError(
            f"{function}(): {{{path}}} in key= is a {cls.__qualname__}, whose text is its address; name an attribute "
            f"that tells it from others, as in {{{path}.id}}"
        )
    return format(value, spec)


def _by_callable(function: str, key: Callable[..., str]) -> Callable[..., str]:
    def made(*args: Any, **kwargs: Any) -> str:
        text = key(*args, **kwargs)
        if not isinstance(text, str):
            raise TypeError(f"{function}(): key= returned a {type(text).__qualname__}, not a str")
        return text if len(text) <= LONGEST else shorten(text)

    return made
