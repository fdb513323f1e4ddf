"""The messages between nodes as plain values: the Python side of proto/peer.proto.

The engine turns them into protobuf and back; the in-memory lane passes them on as they are. A version is an int of 128
bits (0: no write known), a remaining time is in seconds (None: without end). They are named tuples, because a dataclass
takes several times longer to make.
"""

# No annotations as text: NamedTuple compiles each, and the first compile of a process takes milliseconds.
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kamacache.member import Member as Member  # noqa: PLC0414 - it is one of them


class GroupState(NamedTuple):
    """One group of a node: the floor of the last clear, and its loader and options as "name: value"."""

    name: str
    codec: str
    floor: int = 0
    options: Sequence[str] = ()


class Contact(NamedTuple):
    """The state of a member's writes: they are settled up to `number`, and the other was notified of all after `begun`.

    In a hello it also says up to which number it `has` the writes of the other; 0: it was never notified of any.
    `now_ms` is the time of the service as the member knows it.
    """

    id: str = ""
    number: int = 0
    begun: int = 0
    has: int = 0
    now_ms: int = 0


class Hello(NamedTuple):
    """The sender, its groups, and its contact with the receiver. The answer is a Hello too.

    `gone` are the ids and addresses of members that the sender knows to have ended. `left` are members of a fixed list
    that said goodbye, and are not back as far as the sender knows.
    """

    member: Member
    clock: int
    groups: list[GroupState]
    contact: Contact = Contact()
    leaving: bool = False
    gone: Sequence[str] = ()
    left: Sequence[Member] = ()


class LoadRequest(NamedTuple):
    """Load these keys in the place of the candidates in `skipped`.

    `unread` is empty, or has for each key 0 or the mark of bytes that the asker cannot read; see load/unread.py.

    With a `lease`, a name that no other request has, the asker, the member `holder`, loads by itself the keys that it
    is granted, and brings them in a FillRequest. The answer waits for keys that others load, unless a key was granted
    or it is wanted `at_once`. With `anew` the asker has the value, which is old.

    `context` and `trace` are for the loader: see carried.py and telemetry.py.
    """

    group: str
    keys: list[str]
    skipped: Sequence[str] = ()
    depth: int = 0
    clock: int = 0
    unread: Sequence[int] = ()
    lease: str = ""
    holder: str = ""
    at_once: bool = False
    anew: bool = False
    context: Mapping[str, str] = {}
    trace: Mapping[str, str] = {}


class Answer(NamedTuple):
    """The outcome for one key: a value, absence (value None), too large to send, or a failed load (error_type).

    `later`: it is to be asked for once more. The message is full, and the value was kept; or, to a request with a
    lease, another one loads it. `granted`: the asker is to load it; the version is that of the beginning of its load,
    or with `anew` of the value that is here now: if the asker's old value has another one, a write has come since.
    `due`: the value is old, and the asker is to load it anew; if it is `granted` as well, the value is for the case
    that the load fails or takes long. `error_trace`: the end of the traceback of the loader that failed.
    """

    value: bytes | None = None
    version: int = 0
    remaining: float | None = None
    hot: bool = False
    too_large: bool = False
    error_type: str = ""
    error_text: str = ""
    later: bool = False
    granted: bool = False
    due: bool = False
    error_trace: str = ""


class LoadReply(NamedTuple):
    """An answer for each key of the request, in that order."""

    answers: list[Answer]
    clock: int = 0


class FillRequest(NamedTuple):
    """Take the answers for keys that were granted under this lease. `later` in one gives the lease of its key back.

    The remaining time of a value, if there is any, counts from the grant: so it is the same whenever this arrives.
    """

    group: str
    lease: str
    keys: list[str]
    answers: list[Answer]
    clock: int = 0


class FillReply(NamedTuple):
    """Say of each answer whether it came while its lease was not over."""

    taken: list[bool]
    clock: int = 0


class Terms(NamedTuple):
    """On which terms an owner applies a write, by what it has of the key.

    `only`: ALWAYS, ABSENT, PRESENT or SAME, if its entry has this `version`. `change`: REPLACE (a set or delete), ADD
    (`delta`, to an integer; one that is absent counts as `initial`) or TOUCH (another ttl). With `keep_ttl` an entry
    that is there keeps its remaining time. With `wants` the outcome has the value that was there.
    """

    only: int = 0
    version: int = 0
    change: int = 0
    delta: int = 0
    initial: int | None = None
    keep_ttl: bool = False
    wants: bool = False


ALWAYS, ABSENT, PRESENT, SAME = range(4)
REPLACE, ADD, TOUCH = range(3)
APPLIED, UNMET, CONFLICT, NOT_INTEGER, TOO_GREAT, INHERIT, SUPERSEDED, REFUSED = range(8)


class Outcome(NamedTuple):
    """The decision of an owner: a verdict, whether the key existed, and the integer as it is now.

    `value` is what was there, if it was wanted, and `held` the version of that.
    """

    verdict: int = APPLIED
    existed: bool = False
    value: bytes | None = None
    number: int = 0
    held: int = 0


class WriteItem(NamedTuple):
    """A set (value) or a delete (value None), to be given a version greater than `above`.

    If it has the version `ordered` already, a write that came after that one supersedes it: it is not applied again.
    With `terms` the owner decides whether it is applied.
    """

    key: str
    value: bytes | None
    ttl: float | None = None
    above: int = 0
    ordered: int = 0
    terms: Terms | None = None


class WriteRequest(NamedTuple):
    """Order these writes, at least one. With `inherit` the owner first takes in what owners before it have.

    The writer waits until `until_ms` by the time of the service: later they are refused. 0: it does not say.
    """

    group: str
    items: list[WriteItem]
    skipped: Sequence[str] = ()
    clock: int = 0
    inherit: bool = False
    until_ms: int = 0


class WriteReply(NamedTuple):
    """A version for each item (0: superseded), or a refusal: the node is no candidate for a key, or is late.

    A refusal names the `members` that the node knows, itself among them, and the time of the service there. If an item
    has terms there is an outcome for each; a version is 0 if nothing changed.
    """

    versions: list[int]
    refused: bool = False
    clock: int = 0
    members: Sequence[Member] = ()
    outcomes: Sequence[Outcome] = ()
    now_ms: int = 0


class TellRequest(NamedTuple):
    """Notify of writes that were ordered: pairs of key and version, and the floor if the group was cleared (else 0)."""

    group: str
    writes: list[tuple[str, int]]
    floor: int = 0
    clock: int = 0


class TellReply(NamedTuple):
    """For each write, and for the floor: 0 (confirmed), or the greater version that the listener knows."""

    greater: list[int]
    floor: int = 0
    clock: int = 0


class ClientRequest(NamedTuple):
    """A request of a client: a Redis or gRPC client, the command line.

    `command` is that of a handler in clients.py, with `keys` as pairs of group and key, or a command of administration,
    with `arguments`. A set without a `ttl` takes the ttl of the group; with several keys it has `values`.
    """

    command: str
    keys: Sequence[tuple[str, str]] = ()
    value: bytes | None = None
    ttl: float | None = None
    arguments: Sequence[str] = ()
    values: Sequence[bytes] = ()


class ClientReply(NamedTuple):
    """A value for each key of the request, in that order; or a number; or one value of JSON."""

    values: list[bytes | None] = []  # noqa: RUF012 - the same
    number: int = 0


Request = Hello | LoadRequest | FillRequest | WriteRequest | TellRequest
Reply = Hello | LoadReply | FillReply | WriteReply | TellReply
