"""Write docs/reference.md from the signatures and docstrings that the package has at run time.

python -m tools.reference (or `make reference`)
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import itertools
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import kamacache

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
FIRST = (  # then all others
    *("Node", "Group", "CachedFunction", "AsyncCachedFunction", "Value", "GroupStats", "Member", "TLS", "Codec"),
    *("Registry", "Clock"),
)
MODULES = ("kamacache.testing", "kamacache.registry")
_WIDTH = 100
_AFTER_STAR = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_POSITIONAL)
_HEAD = """\
# API reference

This page is made from the docstrings of the package by `make reference`; do not edit it. The [guide](guide/README.md)
explains how the parts work together, the [glossary](glossary.md) defines the terms.
"""


def render() -> str:
    """Return the whole page."""
    classes = [name for name in kamacache.__all__ if inspect.isclass(getattr(kamacache, name))]
    errors = [name for name in classes if issubclass(getattr(kamacache, name), Exception)]
    ordered = [name for name in FIRST if name in classes]
    ordered += sorted(set(classes) - set(ordered) - set(errors))
    parts = [_HEAD]
    for name in ordered:
        parts += _class(getattr(kamacache, name), "##")
    parts += ["## Errors\n", "\n".join(_tree(kamacache.KamaCacheError)) + "\n"]
    for name in errors:
        if inspect.get_annotations(getattr(kamacache, name)):
            parts += _class(getattr(kamacache, name), "###")
    functions = sorted(name for name in kamacache.__all__ if inspect.isfunction(getattr(kamacache, name)))
    parts.append("## Functions\n")
    for name in functions:
        parts += [f"### kamacache.{name}\n", *_callable(name, getattr(kamacache, name))]
    constants = sorted(set(kamacache.__all__) - set(classes) - set(functions))
    parts += ["## Constants\n", "\n".join(f"- `kamacache.{name}`" for name in constants) + "\n"]
    for module in MODULES:
        parts += _module(importlib.import_module(module))
    return "\n".join(parts)


def public(cls: type) -> dict[str, Any]:
    """Return the methods and properties of a class that users may use, those that it inherits before its own."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.partition(".")[0] == "kamacache":
            found |= {
                name: member
                for name, member in vars(base).items()
                if not name.startswith("_") and (callable(_unbound(member)) or isinstance(member, property))
            }
    return found


def exported(module: types.ModuleType) -> dict[str, Any]:
    """Return the classes and functions that a module offers: those in `__all__`, else those that it defines."""
    names = getattr(module, "__all__", None) or [
        name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__
    ]
    things = {name: getattr(module, name) for name in names if not name.startswith("_")}
    return {name: thing for name, thing in things.items() if inspect.isclass(thing) or inspect.isroutine(thing)}


def _module(module: types.ModuleType) -> Iterator[str]:
    yield f"## {module.__name__}\n"
    if module.__doc__:
        yield _text(module)
    for name, thing in exported(module).items():
        if thing in (getattr(kamacache, other) for other in kamacache.__all__):
            yield f"`{module.__name__}.{name}` is `kamacache.{name}`.\n"
        elif inspect.isclass(thing):
            yield from _class(thing, "###")
        else:
            yield f"### {module.__name__}.{name}\n"
            yield from _callable(name, thing)


def _class(cls: type, level: str) -> Iterator[str]:
    yield f"{level} class {cls.__name__}\n"
    yield from _callable(cls.__name__, cls)
    if attributes := _attributes(cls):
        yield "\n".join(attributes) + "\n"
    for name, member in public(cls).items():
        if isinstance(member, property):
            yield f"{level}# {cls.__name__}.{name}\n"
            yield _text(member) or "A property.\n"
        else:
            prefix = "async " if inspect.iscoroutinefunction(_unbound(member)) else ""
            yield f"{level}# {cls.__name__}.{name}\n"
            yield from _callable(f"{prefix}{name}", _unbound(member), bound=not isinstance(member, staticmethod))


def _callable(name: str, thing: Any, *, bound: bool = False) -> Iterator[str]:
    signature = _signature(thing, bound=bound)
    made_by_users = not (inspect.isabstract(thing) or "(_" in signature.replace("\n    ", ""))
    if made_by_users and not (inspect.isclass(thing) and issubclass(thing, BaseException)):
        yield f"```py\n{name}{signature}\n```\n"
    if text := _text(thing):
        yield text


def _unbound(member: Any) -> Any:
    return member.__func__ if isinstance(member, staticmethod | classmethod) else member


def _signature(thing: Any, *, bound: bool) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):  # a native callable without a text signature
        return "(…)"
    parameters = list(signature.parameters.values())[int(bound) :]
    shown: list[str] = []
    for index, parameter in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not parameter.POSITIONAL_ONLY:
            shown.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and before not in _AFTER_STAR:
            shown.append("*")
        shown.append(_parameter(parameter))
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        shown.append("/")
    returns = signature.return_annotation
    end = "" if inspect.isclass(thing) or returns is signature.empty else f" -> {_annotation(returns)}"
    line = f"({', '.join(shown)}){end}"
    return line if len(line) <= _WIDTH else "(\n" + "".join(f"    {each},\n" for each in shown) + f"){end}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        text = "*" + text
    elif parameter.kind is parameter.VAR_KEYWORD:
        text = "**" + text
    typed = parameter.annotation is not parameter.empty
    if typed:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        default = repr(parameter.default)
        text += (" = " if typed else "=") + ("…" if default.startswith("<") else default)
    return text


def _annotation(annotation: Any) -> str:
    """Return an annotation as its author would write it, the same with every version of Python."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, str):
        text = annotation.strip("'\"")
    elif isinstance(annotation, list):
        text = f"[{', '.join(map(_annotation, annotation))}]"
    elif origin in (types.UnionType, typing.Union):
        text = " | ".join(map(_annotation, arguments))
    elif origin is typing.Literal:
        text = f"Literal[{', '.join(map(repr, arguments))}]"
    elif origin is not None and arguments:
        text = f"{_annotation(origin)}[{', '.join(map(_annotation, arguments))}]"
    else:
        names = {None: "None", type(None): "None", ...: "..."}
        text = names.get(annotation) or getattr(annotation, "__name__", str(annotation)).removeprefix("typing.")
    return text


def _text(thing: Any) -> str:
    text = inspect.getdoc(thing)
    if not text or (inspect.isclass(thing) and text in {inspect.getdoc(base) for base in thing.__mro__[1:]}):
        return ""
    return re.sub(r"``([^`]+)``", r"`\1`", text) + "\n"


def _attributes(cls: type) -> list[str]:
    """Return a line for each public attribute: those with an annotation, and slots that have none."""
    shown: dict[str, str] = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] != "kamacache":
            continue
        texts = _attribute_texts(base)
        for name, annotation in inspect.get_annotations(base).items():
            text = texts.get(name, "")
            if not name.startswith("_"):
                shown.setdefault(name, f"- `{name}: {_annotation(annotation)}`" + (f": {text}" if text else ""))
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and not name.startswith("_"):
                shown.setdefault(name, f"- `{name}`")
    return list(shown.values())


@functools.cache
def _attribute_texts(cls: type) -> dict[str, str]:
    """Return the text beneath each attribute in the source of its class; Python does not keep these texts."""
    try:
        (tree,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body
    except (OSError, TypeError):  # a native class
        return {}
    texts: dict[str, str] = {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for statement, following in itertools.pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=text)):
                texts[name] = " ".join(str(text).split())
    return texts


def _tree(cls: type[Exception], depth: int = 0) -> Iterator[str]:
    """Return the errors below `cls` as a nested list."""
    also = [base.__name__ for base in cls.__bases__ if not issubclass(base, kamacache.KamaCacheError)]
    kind = f" ({', '.join(also)})" if also and cls is not kamacache.KamaCacheError else ""
    summary = (inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " ")
    yield f"{'  ' * depth}- `{cls.__name__}`{kind}: {summary}"
    for name in sorted(each.__name__ for each in cls.__subclasses__()):
        if name in kamacache.__all__:
            yield from _tree(getattr(kamacache, name), depth + 1)


if __name__ == "__main__":
    PAGE.write_text(render())
