"""Registries by the scheme of a URL. Other packages add theirs by entry points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kamacache.errors import ConfigError
from kamacache.registry.base import Registry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINTS", "Registry", "parse"]

ENTRY_POINTS = "kamacache.registries"


def _dns(url: str) -> Registry:
    from kamacache.registry.dns import DnsRegistry

    return DnsRegistry(url)


def _etcd(url: str) -> Registry:
    from kamacache.registry.etcd import EtcdRegistry

    return EtcdRegistry(url)


def _kubernetes(url: str) -> Registry:
    from kamacache.registry.kubernetes import KubernetesRegistry

    return KubernetesRegistry(url)


def _local(url: str) -> Registry:
    from kamacache.registry.local import LocalRegistry

    return LocalRegistry(url)


def _srv(url: str) -> Registry:
    from kamacache.registry.srv import SrvRegistry

    return SrvRegistry(url)


def _static(url: str) -> Registry:
    from kamacache.registry.static import StaticRegistry

    return StaticRegistry(url)


# Known without the metadata of the package, so that a source tree on the path is enough. Each is imported when it is
# used, so that importing the package costs little, and by a statement, which PyInstaller finds.
_BUILT_IN = {
    "dns": _dns,
    "dns+srv": _srv,
    "etcd": _etcd,
    "kubernetes": _kubernetes,
    "local": _local,
    "static": _static,
}


def parse(registry: str | Registry) -> Registry:
    """Return the registry of this URL, or the object itself; ConfigError for anything else."""
    if isinstance(registry, Registry):
        return registry
    if not isinstance(registry, str):
        raise ConfigError(f"registry={registry!r}: must be a URL such as local://, or a kamacache Registry object")
    scheme, colon, _ = registry.partition("://")
    scheme = scheme.lower()
    if not colon:
        raise ConfigError(f"registry: must be a URL with one of {_schemes(_found())}")  # not shown: may hold a password
    if scheme in _BUILT_IN:
        return _BUILT_IN[scheme](registry)
    found = _found()
    if scheme not in found:
        raise ConfigError(f"registry {scheme}://: unknown, use one of {_schemes(found)}")
    try:
        factory = found[scheme].load()
    except Exception as error:
        raise ConfigError(f"registry {scheme}://: cannot import {found[scheme].value}: {error}") from error
    built: Any = factory(registry)
    if not isinstance(built, Registry):
        raise ConfigError(f"registry {scheme}://: its entry point returns a {type(built).__qualname__}, no Registry")
    return built


def _found() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    return {entry.name.lower(): entry for entry in entry_points(group=ENTRY_POINTS)}


def _schemes(found: dict[str, EntryPoint]) -> str:
    return ", ".join(f"{scheme}://" for scheme in sorted({*_BUILT_IN, *found}))
