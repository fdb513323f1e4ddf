"""Cache values in the processes that use them: a distributed read-through cache that loads every value once.

Make a `Node`, give it groups with loaders, and get keys. kamacache.errors shows all errors as a tree.
"""

try:
    try:
        import _interpreters  # type: ignore[import-not-found,unused-ignore] # from Python 3.13
    except ImportError:
        import _xxsubinterpreters as _interpreters  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # a Python that was built without the tests of its own
    _is_main = True
else:
    _is_main = _interpreters.get_current() == _interpreters.get_main()
if not _is_main:  # a thread of the engine takes the lock of the main interpreter: the first miss would hang
    raise ImportError(
        "kamacache works in the main interpreter alone, and this is a sub-interpreter; "
        "with mod_wsgi write WSGIApplicationGroup %{GLOBAL}"
    )

from kamacache._engine import Clock, __version__
from kamacache.codecs import Codec
from kamacache.entry import Entry, Removed
from kamacache.errors import (
    CodecError,
    ConfigError,
    Conflict,
    GroupClosed,
    GroupExists,
    InvalidKey,
    KamaCacheError,
    LoadCycle,
    LoadError,
    LoadTimeout,
    LockTaken,
    NodeClosed,
    NoEventLoop,
    NoLoader,
    Overloaded,
    PeerError,
    RegistryError,
    UnknownGroup,
    ValueTooLarge,
)
from kamacache.function import AsyncCachedFunction, CachedFunction
from kamacache.group import Group
from kamacache.member import Member
from kamacache.net.security import TLS
from kamacache.node import Node
from kamacache.notkey import NotKey
from kamacache.registry import Registry
from kamacache.stats import GroupStats
from kamacache.typed import codec_for
from kamacache.units import KEEP
from kamacache.value import Value

__all__ = [
    "KEEP",
    "TLS",
    "AsyncCachedFunction",
    "CachedFunction",
    "Clock",
    "Codec",
    "CodecError",
    "ConfigError",
    "Conflict",
    "Entry",
    "Group",
    "GroupClosed",
    "GroupExists",
    "GroupStats",
    "InvalidKey",
    "KamaCacheError",
    "LoadCycle",
    "LoadError",
    "LoadTimeout",
    "LockTaken",
    "Member",
    "NoEventLoop",
    "NoLoader",
    "Node",
    "NodeClosed",
    "NotKey",
    "Overloaded",
    "PeerError",
    "Registry",
    "RegistryError",
    "Removed",
    "UnknownGroup",
    "Value",
    "ValueTooLarge",
    "__version__",
    "codec_for",
]
