"""Take the node of an application: `kamacache serve --app shop.caching:node`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from click.core import ParameterSource

from kamacache.cli.config import imported, see_directory
from kamacache.errors import ConfigError
from kamacache.node import Node

if TYPE_CHECKING:
    import click

_BESIDE = {"place", "drain", "log_level", "as_json"}  # the options that say how to run, not what


def alone(context: click.Context, place: str) -> None:
    """Raise ConfigError if a flag or a variable says what the application says."""
    given = (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)
    flags = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name not in _BESIDE and context.get_parameter_source(str(parameter.name)) in given
    ]
    if flags:
        raise ConfigError(
            f"--app {place}: the node of the application has its own options and groups; leave out {', '.join(flags)}, "
            "or let the application read them, as Node.from_env does with KAMACACHE_* variables"
        )


def node_at(place: str) -> Node:
    """Return the node at "module:attribute", or the one that a function there makes. Raises ConfigError."""
    see_directory()
    found = imported(place, "--app", "module:attribute")
    made = ""
    if not isinstance(found, Node) and callable(found) and not inspect.isclass(found):
        made = "a function that returned "
        try:
            found = found()
        except ConfigError as error:
            raise ConfigError(f"--app {place}: {error}") from error
        except Exception as error:
            raise ConfigError(f"--app {place}: it raised {type(error).__name__}: {error}") from error
    if inspect.iscoroutine(found):
        found.close()
        raise ConfigError(f"--app {place}: an async function; give one that returns a node without a loop")
    if not isinstance(found, Node):
        hint = "; name the node that it belongs to" if hasattr(found, "_core") else ""
        raise ConfigError(
            f"--app {place}: must be a Node or a function that makes one, not {made}{type(found).__name__}{hint}"
        )
    options = found._options  # noqa: SLF001 - not for users
    if found._closed:  # noqa: SLF001 - the same
        raise ConfigError(f"--app {place}: this node is closed")
    if found._start.done:  # noqa: SLF001 - the same
        raise ConfigError(
            f"--app {place}: the module has started this node at its import; leave the start to this program"
        )
    if options.client:
        raise ConfigError(f"--app {place}: a client node owns no keys, so it can keep none; make it with client=False")
    if options.registry is None and options.listen is None:
        raise ConfigError(
            f"--app {place}: this node is alone, and no other process could use it; give it registry= (or listen=)"
        )
    return found
