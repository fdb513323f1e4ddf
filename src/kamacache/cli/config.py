"""Read the file of `kamacache serve`: the options of the node, and groups."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import tomllib
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kamacache.errors import ConfigError
from kamacache.group import Group
from kamacache.node import Node
from kamacache.options import GroupOptions

NODE = {
    *{"listen", "advertise", "registry", "service", "weight", "max_value", "loader_threads", "loader_queue"},
    *{"max_bytes", "insecure", "password_file", "drain", "log_level"},
}
_TLS = {"cert", "key", "ca", "mutual"}
_SWITCHES = {"insecure", "mutual"}
_FUNCTIONS = {"loader", "load_many", "on_evict"}
_GROUP = _FUNCTIONS | set(inspect.signature(GroupOptions.make).parameters)


class Config(NamedTuple):
    """The content of a file, checked for unknown names."""

    node: dict[str, Any]
    groups: dict[str, dict[str, Any]]


def read(path: str) -> Config:
    """Read a TOML file; ConfigError says what in it is wrong."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # of the text, of TOML, of a number of too many digits
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    groups = content.pop("groups", {})
    tls = content.pop("tls", {})
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise ConfigError(f"{path}: groups: each is a table, as in [groups.users]")
    if not isinstance(tls, dict):
        raise ConfigError(f"{path}: tls: is a table, [tls]")
    _known(content, NODE, path)
    _known(tls, _TLS, f"{path}: [tls]")
    _plain(content, path)
    _plain(tls, f"{path}: [tls]")
    for name, group in groups.items():
        _known(group, _GROUP, f"{path}: [groups.{name}]")
    return Config(content | {f"tls_{name}": value for name, value in tls.items()}, groups)


def _known(given: Mapping[str, Any], names: set[str], where: str) -> None:
    for name in given:
        if name not in names:
            raise ConfigError(f"{where}: {name!r} is not an option; there are {', '.join(sorted(names))}")


def _plain(given: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError for a value that no option of the command line can have."""
    for name, value in given.items():
        if name in _SWITCHES and not isinstance(value, bool):
            raise ConfigError(f"{where}: {name} = {value!r}: must be true or false")
        if name not in _SWITCHES and (isinstance(value, bool) or not isinstance(value, str | int | float)):
            raise ConfigError(f"{where}: {name} = {value!r}: must be text or a number")


def with_flags(groups: Mapping[str, Mapping[str, Any]], flags: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the groups of the file and of --group, whose loader after = replaces that of the file."""
    merged = {name: dict(options) for name, options in groups.items()}
    for flag in flags:
        name, equals, loader = flag.partition("=")
        merged.setdefault(name, {}).update({"loader": loader} if equals else {})
    return merged


def make_groups(node: Node, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the groups, with the functions that they name. Raises ConfigError."""
    see_directory()
    for name, options in groups.items():
        try:
            node.group(name, **_arguments(options, f"group {name!r}"))
        except ConfigError as error:
            raise ConfigError(f"group {name!r}: {str(error).removeprefix(f'group {name!r}: ')}") from error


def see_directory() -> None:
    """Let modules of the working directory be imported, as `python -m` does: loaders are mostly beside the file."""
    here = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if here not in sys.path:
        sys.path.insert(0, here)


def _arguments(options: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return the arguments of Node.group. A loader that is a Group brings all of its own, which options replace."""
    given = dict(options)
    for option in _FUNCTIONS & given.keys():
        given[option] = imported(given[option], f"{group}: {option}")
    if ":" in str(given.get("codec", "")):
        given["codec"] = imported(given["codec"], f"{group}: codec")
    for option in ("loader", "load_many"):  # a module may make its own group by decorator
        if isinstance(found := given.get(option), Group):
            its = found._core.arguments()  # noqa: SLF001 - not for users
            if option == "load_many" and its[option] is None:
                raise ConfigError(f"{group}: {option}={options[option]!r}: that Group has none")
            given = {**(its if option == "loader" else {}), **given, option: its[option]}
    return given


def imported(place: object, what: str, form: str = "module:function") -> Any:
    """Return the object at "module:name". Raises ConfigError."""
    module, colon, name = str(place).partition(":")
    if not colon or not module or not name:
        raise ConfigError(f"{what}={place!r}: must be {form}")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        said = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{what}={place!r}: cannot be imported: {said}{_where(error)}") from error
    return found


def _where(error: BaseException) -> str:
    """Return the line of the user's module that raised, if the import reached it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename in {__file__, importlib.__file__} or last.filename.startswith("<frozen")
    return "" if ours else f" ({last.filename}:{last.lineno})"
