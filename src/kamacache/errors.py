"""Define every error that this package raises on purpose.

* KamaCacheError
  + ConfigError (ValueError)
    - GroupExists
  + InvalidKey (ValueError)
  + CodecError (ValueError)
  + ValueTooLarge (ValueError)
  + LoadError
    - LoadTimeout (TimeoutError)
    - LoadCycle
    - NoLoader
  + Overloaded
  + GroupClosed
  + NodeClosed
  + RegistryError
  + PeerError (ConnectionError)
  + Conflict
  + LockTaken
  + UnknownGroup (KeyError)
  + NoEventLoop (RuntimeError)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class KamaCacheError(Exception):
    """The base of every error of this package: `except KamaCacheError` catches them all."""


class ConfigError(KamaCacheError, ValueError):
    """Report an option that is not allowed; the text names it and says what is allowed."""


class GroupExists(ConfigError):
    """Report that a group of this name has another loader or other options; the text names both.

    Close the group to use its name again, or choose another name.
    """


class InvalidKey(KamaCacheError, ValueError):
    """Report a key that is not a str of 1 to 65,536 bytes in UTF-8."""


class CodecError(KamaCacheError, ValueError):
    """Report a value that the codec of a group does not take, or cannot read right after the loader returned it.

    If a loader returns a value that the codec does not take, its load has failed: the caller gets a LoadError, and this
    is its `__cause__`.
    """


class ValueTooLarge(KamaCacheError, ValueError):
    """Report a value over `max_value` of the node, or an entry over an eighth of `max_bytes` of the group."""


class LoadError(KamaCacheError):
    """Report that a loader raised an exception, or returned a value that the codec of its group does not take.

    - `__cause__`: that exception, or the CodecError, if the loader ran in this process.
    - `cause_type`: the name of its type, also if the loader ran on another node. Then a note has the traceback's end.
    - `key`: the key that failed; for get_many the first one.
    - `loaded`: for get_many, the values of the keys that did not fail.
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
    """Report a load that took longer than `load_timeout`."""


class LoadCycle(LoadError):
    """Report a load that would have to wait for itself."""


class NoLoader(LoadError):
    """Report a key that this node has no loader for, while no member that can load it answers. It may well exist."""


class Overloaded(KamaCacheError):
    """Report that too many loads already wait on a node; try again later."""


class GroupClosed(KamaCacheError):
    """Report a call of a closed group."""


class NodeClosed(KamaCacheError):
    """Report a call of a closed node, or of one of its groups. `Node.start` begins a new life of the node.

    A write that was under way when the node was closed may have been applied.
    """


CLOSED = "the node was closed; start() begins a new life of it"  # the text of most


class RegistryError(KamaCacheError):
    """Report a registry that refused this node, or is not safe to use."""


class PeerError(KamaCacheError, ConnectionError):
    """Report that another node could not be reached or did not answer in time.

    - `refused`: True if nothing listens at its address.
    - `broken`: True if the connection ended before the answer, or the socket's file is missing, as when the node ends.
    - `denied`: True if one of the two nodes does not trust the other.
    """

    refused: bool = False
    broken: bool = False
    denied: bool = False


class Conflict(KamaCacheError):
    """Report that the entry of a key has another version than the one that the caller has seen, or is gone."""


class LockTaken(KamaCacheError):
    """Report that a lock was not free within the time to wait for it."""


class UnknownGroup(KamaCacheError, KeyError):
    """Report that a node has no group of this name."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NoEventLoop(KamaCacheError, RuntimeError):
    """Report that a method for asyncio was awaited without a running asyncio event loop."""


def text_of(error: BaseException) -> str:
    """Return the type and the text of an exception, whatever its own methods do, as text that can travel."""
    try:
        return encodable(f"{type(error).__name__}: {error}")
    except Exception:  # noqa: BLE001 - the user's class
        return type(error).__name__


def encodable(text: str) -> str:
    r"""Return a text with a backslash escape for each character that UTF-8 does not have.

    Python puts such characters into the names of files that are not UTF-8: "\xff" becomes "\udcff".
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
