"""A distributed read-through cache for Python: nodes embedded in processes load every value once.

Start with `Node`, give it groups with loaders, and get keys. The errors are drawn as a tree in kamacache.errors.
"""

from kamacache._engine import Clock, __version__
from kamacache.codecs import Codec
from kamacache.errors import (
    CodecError,
    ConfigError,
    GroupClosed,
    GroupExists,
    InvalidKey,
    KamaCacheError,
    LoadCycle,
    LoadError,
    LoadTimeout,
    NodeClosed,
    NoEventLoop,
    Overloaded,
    PeerError,
    RegistryError,
    UnknownGroup,
    ValueTooLarge,
)
from kamacache.group import Group
from kamacache.member import Member
from kamacache.net.security import TLS
from kamacache.node import Node
from kamacache.registry import Registry
from kamacache.stats import GroupStats
from kamacache.value import Value

__all__ = [
    "TLS",
    "Clock",
    "Codec",
    "CodecError",
    "ConfigError",
    "Group",
    "GroupClosed",
    "GroupExists",
    "GroupStats",
    "InvalidKey",
    "KamaCacheError",
    "LoadCycle",
    "LoadError",
    "LoadTimeout",
    "Member",
    "NoEventLoop",
    "Node",
    "NodeClosed",
    "Overloaded",
    "PeerError",
    "Registry",
    "RegistryError",
    "UnknownGroup",
    "Value",
    "ValueTooLarge",
    "__version__",
]
