"""Everything this package raises on purpose.

* KamaCacheError
  + ConfigError (ValueError)
    - GroupExists
  + InvalidKey (ValueError)
  + CodecError (ValueError)
  + ValueTooLarge (ValueError)
  + LoadError
    - LoadTimeout (TimeoutError)
    - LoadCycle
  + Overloaded
  + GroupClosed
  + NodeClosed
  + RegistryError
  + PeerError (ConnectionError)
  + UnknownGroup (KeyError)
  + NoEventLoop (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class KamaCacheError(Exception):
    """The root of all errors of this package."""


class ConfigError(KamaCacheError, ValueError):
    """An option that cannot be; the text names it and says what can."""


class GroupExists(ConfigError):
    """A group of that name exists with another loader or other options; the text names both places."""


class InvalidKey(KamaCacheError, ValueError):
    """A key that is not a str of 1 to 65,536 bytes in UTF-8."""


class CodecError(KamaCacheError, ValueError):
    """A value that the group's codec does not take, or bytes that it cannot read."""


class ValueTooLarge(KamaCacheError, ValueError):
    """A value over `max_value`, or an entry over an eighth of the group's `max_bytes`."""


class LoadError(KamaCacheError):
    """A loader raised. The original is `__cause__`; one from another node is told by `cause_type` and the text.

    From get_many, `key` is the first key that failed and `loaded` holds the values of the others.
    """

    key: str | None
    cause_type: str
    loaded: Mapping[str, Any]

    def __init__(
        self, text: str = "", *, key: str | None = None, cause_type: str = "", loaded: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(text)
        self.key = key
        self.cause_type = cause_type
        self.loaded = loaded if loaded is not None else {}


class LoadTimeout(LoadError, TimeoutError):
    """A load took longer than `load_timeout`."""


class LoadCycle(LoadError):
    """A load that would have to wait for itself."""


class Overloaded(KamaCacheError):
    """The node that was asked has too many loads waiting."""


class GroupClosed(KamaCacheError):
    """The group was closed."""


class NodeClosed(KamaCacheError):
    """The node was closed."""


class RegistryError(KamaCacheError):
    """The registry refused, or is not safe to use."""


class PeerError(KamaCacheError, ConnectionError):
    """Another node could not be reached or did not answer in time.

    `refused` is True where nothing listens at its address, `denied` where one of the two does not trust the other.
    """

    refused: bool = False
    denied: bool = False


class UnknownGroup(KamaCacheError, KeyError):
    """The node that was asked has no group of that name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NoEventLoop(KamaCacheError, RuntimeError):
    """A method for asyncio was awaited where no asyncio event loop runs."""
