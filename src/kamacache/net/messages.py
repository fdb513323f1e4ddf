"""What nodes say to each other, as plain values: the Python face of proto/peer.proto.

The native transport turns these into protobuf and back; an in-memory lane passes them on as they are. A version is an
int of 128 bits (0: no write known), a remaining time is in seconds (None: never ends). Named tuples, as making a
dataclass takes several times longer.
"""

# No annotations as text: NamedTuple compiles each, and the first compile of a process takes milliseconds.
from collections.abc import Sequence
from typing import NamedTuple

from kamacache.member import Member as Member  # noqa: PLC0414 - it is one of them


class GroupState(NamedTuple):
    """What a node knows of the writes of one group."""

    name: str
    codec: str
    floor: int = 0
    writes: Sequence[tuple[str, int]] = ()


class Hello(NamedTuple):
    """Who I am and what I know; the answer is one too."""

    member: Member
    clock: int
    groups: list[GroupState]
    leaving: bool = False


class LoadRequest(NamedTuple):
    """Load these keys, having passed over the candidates in `skipped`."""

    group: str
    keys: list[str]
    skipped: Sequence[str] = ()
    depth: int = 0
    clock: int = 0


class Answer(NamedTuple):
    """What became of one key: a value, absence (value None), too large to travel, or a failed load (error_type)."""

    value: bytes | None = None
    version: int = 0
    remaining: float | None = None
    hot: bool = False
    too_large: bool = False
    error_type: str = ""
    error_text: str = ""


class LoadReply(NamedTuple):
    """One answer for each key asked, in that order."""

    answers: list[Answer]
    clock: int = 0


class WriteItem(NamedTuple):
    """A set (value) or a delete (value None) that wants a version greater than `above`."""

    key: str
    value: bytes | None
    ttl: float | None = None
    above: int = 0


class WriteRequest(NamedTuple):
    """Order these writes, at least one."""

    group: str
    items: list[WriteItem]
    skipped: Sequence[str] = ()
    clock: int = 0


class WriteReply(NamedTuple):
    """A version for each item, or a refusal with the members the asked node knows."""

    versions: list[int]
    refused: bool = False
    members: Sequence[Member] = ()
    clock: int = 0


class TellRequest(NamedTuple):
    """Writes that were ordered: (key, version) pairs, and the floor when the group was cleared (else 0)."""

    group: str
    writes: list[tuple[str, int]]
    floor: int = 0
    clock: int = 0


class TellReply(NamedTuple):
    """For each write 0 (confirmed) or the greater version known here; the same for the floor."""

    greater: list[int]
    floor: int = 0
    clock: int = 0


class ClientRequest(NamedTuple):
    """What a client that is no node asks: a Redis or gRPC client, the command line.

    `command` is get, set, del, exists or ttl, which name `keys` as (group, key), or one of administration, which has
    `arguments`. Without a `ttl` a set takes the group's.
    """

    command: str
    keys: Sequence[tuple[str, str]] = ()
    value: bytes | None = None
    ttl: float | None = None
    arguments: Sequence[str] = ()


class ClientReply(NamedTuple):
    """A value for each key asked, in that order, or a number, or one value of JSON."""

    values: list[bytes | None] = []  # noqa: RUF012 - named tuples are never changed, nor what they hold
    number: int = 0


Request = Hello | LoadRequest | WriteRequest | TellRequest
Reply = Hello | LoadReply | WriteReply | TellReply
