"""Registries by URL: the scheme decides, through entry points, so that other packages can add theirs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kamacache.errors import ConfigError
from kamacache.registry.base import Registry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "Registry", "parse"]

ENTRY_POINTS = "kamacache.registries"

# Known without the package's metadata, so that a source tree on the path is enough.
_BUILT_IN = {
    "etcd": ("kamacache.registry.etcd", "EtcdRegistry"),
    "local": ("kamacache.registry.local", "LocalRegistry"),
    "static": ("kamacache.registry.static", "StaticRegistry"),
}


def parse(registry: str | Registry) -> Registry:
    """Give the registry of this URL, or the object itself; ConfigError for what is neither."""
    if isinstance(registry, Registry):
        return registry
    if not isinstance(registry, str):
        raise ConfigError(f"registry={registry!r}: must be a URL such as local://, or a kamacache Registry object")
    scheme, colon, _ = registry.partition("://")
    scheme = scheme.lower()
    if not colon:
        # The text is not shown: it may hold a password.
        raise ConfigError(f"registry: must be a URL with one of {_schemes(_found())}")
    if scheme in _BUILT_IN:
        module, name = _BUILT_IN[scheme]
        return _build(getattr(import_module(module), name), scheme, registry)
    found = _found()
    if scheme in found:
        try:
            factory = found[scheme].load()
        except Exception as error:
            raise ConfigError(f"registry {scheme}://: cannot import {found[scheme].value}: {error}") from error
        return _build(factory, scheme, registry)
    raise ConfigError(f"registry {scheme}://: unknown, use one of {_schemes(found)}")


def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import, and rarely needed

    return {entry.name.lower(): entry for entry in entry_points(group=ENTRY_POINTS)}


def _schemes(found: dict[str, EntryPoint]) -> str:
    return ", ".join(f"{scheme}://" for scheme in sorted({*_BUILT_IN, *found}))


def _build(factory: Any, scheme: str, url: str) -> Registry:
    built = factory(url)
    if not isinstance(built, Registry):
        raise ConfigError(f"registry {scheme}://: its entry point gave a {type(built).__qualname__}, not a Registry")
    return built
