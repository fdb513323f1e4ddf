"""The node of this process for a backend of a framework, and its group."""

from __future__ import annotations

import threading
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from kamacache import CodecError, ConfigError, Group, GroupExists, Node, ValueTooLarge
from kamacache.log import log
from kamacache.options import check_listen
from kamacache.units import UNSET, Missing

NODE = {"service", "listen", "advertise", "password", "tls", "insecure", "weight", "client", "loader_threads"}
GROUP = {"max_bytes", "near_ttl", "policy", "compress_above", "codec", "load_timeout"}

_lock = threading.Lock()
_nodes: dict[str, Node] = {}  # by place and options: frameworks make backend objects for threads, requests and regions


def group_at(place: str, options: Mapping[str, Any], **defaults: Any) -> Group[Any]:
    """Return the group that a backend with these settings uses, as placed does."""
    return placed(place, options, **defaults)[1]


def placed(
    place: str, options: Mapping[str, Any], old: Container[Group[Any]] = (), /, **defaults: Any
) -> tuple[Node, Group[Any]]:
    """Return the node and the group that a backend with these settings uses; backends with equal ones share them.

    - `place`: a registry, such as local://, or "none": the node is alone. KAMACACHE_REGISTRY and the other variables of
      the environment win.
    - `options`: options of Node and of node.group by name, and `group`, its name. Or `node`, the dotted name of a node
      that the application has, beside options of the group.
    - `old`: groups that are closed if their options are others than these.
    - `defaults`: options that hold if `options` does not have them.

    Raises ConfigError for an option that cannot be, and what the import of `node` raises.
    """
    given = defaults | dict(options)
    name, own = given.pop("group"), given.pop("node", None)
    if unknown := given.keys() - NODE - GROUP - defaults.keys():
        raise ConfigError(f"options of the cache: unknown: {', '.join(sorted(unknown))}")
    of_node = {key: given.pop(key) for key in NODE & given.keys()}
    node = _node(place, of_node) if own is None else _imported(own)
    with _lock:  # so that one thread replaces a group
        try:
            return node, node.group(name, **given)
        except GroupExists:
            if (found := node.groups.get(name)) is None or found not in old:
                raise
            found.close()
        return node, node.group(name, **given)


def check(node: Node) -> None:
    """Raise ConfigError if a node can never start, as far as its options tell before it does."""
    options, listen = node._options, node._listen  # noqa: SLF001 - what they are is not for users
    if (registry := node._registry) is not None:  # noqa: SLF001
        listen = registry.foresee(listen, options.advertise)
    if listen is not None:
        check_listen(listen, protected=options.protected)
        node._groups.check_codecs(options, listen)  # noqa: SLF001


def _node(place: str, options: dict[str, Any]) -> Node:
    if place != "none":
        options["registry"] = place
    with _lock:
        found = _nodes.get(key := repr(sorted(options.items())))
        if found is None:
            found = _nodes[key] = Node.from_env(**options)
        return found


def _imported(dotted: object) -> Node:
    wanted = f"node={dotted!r}: must be the dotted name of a Node, its module first, such as shop.caching.node"
    module, _, name = dotted.rpartition(".") if isinstance(dotted, str) else ("", "", "")
    if not module:
        raise ConfigError(wanted)
    owner = import_module(module)
    if not hasattr(owner, name):
        raise ConfigError(f"{wanted}; {module} has no such name")
    found = getattr(owner, name)
    if not isinstance(found, Node):
        raise ConfigError(f"{wanted}; this is a {type(found).__name__}")
    return found


@contextmanager
def errors_of_codec() -> Iterator[None]:
    """Raise what the codec raised, as frameworks expect: pickle.PicklingError, for example."""
    try:
        yield
    except CodecError as error:
        raise error.__cause__ or error from None


def kept(group: Group[Any], key: str, value: Any, ttl: float | Missing | None = UNSET, *, of: str) -> bool:
    """Set a value for the framework `of`. If it is too large, log that, delete the key, and return False."""
    try:
        with errors_of_codec():
            group.set(key, value, ttl=ttl)
    except ValueTooLarge as error:
        not_kept(of, error)
        group.delete(key)
        return False
    return True


async def akept(group: Group[Any], key: str, value: Any, ttl: float | None, *, of: str) -> bool:
    """Do what kept does, without blocking the event loop."""
    try:
        with errors_of_codec():
            await group.aset(key, value, ttl=ttl)
    except ValueTooLarge as error:
        not_kept(of, error)
        await group.adelete(key)
        return False
    return True


def added(group: Group[Any], key: str, value: Any, ttl: float | None, *, of: str) -> bool:
    """Set a value if there is none, for the framework `of`. Return whether it was set; a too large one is logged."""
    try:
        with errors_of_codec():
            return group.add(key, value, ttl=ttl)
    except ValueTooLarge as error:
        not_kept(of, error)
        return False


async def aadded(group: Group[Any], key: str, value: Any, ttl: float | None, *, of: str) -> bool:
    """Do what added does."""
    try:
        with errors_of_codec():
            return await group.aadd(key, value, ttl=ttl)
    except ValueTooLarge as error:
        not_kept(of, error)
        return False


def not_kept(of: str, error: Exception) -> None:
    """Log that a value for the framework `of` was not set."""
    log.warning("a value for %(framework)s is not kept: %(error)s", framework=of, error=error)
