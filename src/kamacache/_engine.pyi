"""The native engine: store, placement, transport. Checked against the built module by mypy.stubtest."""

from collections.abc import Callable
from types import GenericAlias
from typing import Any, Final, Generic, Self, TypeVar, final

from typing_extensions import disjoint_base

from kamacache.errors import PeerError
from kamacache.net.messages import ClientReply, ClientRequest, Reply, Request

__all__ = [
    "MISSING",
    "POLICIES",
    "Clock",
    "EtcdSession",
    "Flag",
    "Getter",
    "Histogram",
    "Hlc",
    "Incoming",
    "Pipeline",
    "Placement",
    "PolicyRun",
    "Remote",
    "Scrape",
    "Security",
    "Store",
    "Transport",
    "__version__",
    "after_fork_in_child",
    "check_key",
]

_V = TypeVar("_V")

__version__: Final[str]
MISSING: Final[object]
POLICIES: Final[tuple[str, ...]]  # the names of the eviction policies, the default first

def check_key(key: object, /) -> None:
    """Raise InvalidKey unless `key` is a str of 1 to 65,536 bytes in UTF-8."""

def after_fork_in_child() -> None:
    """Renew every store, empty, and start a new generation: older transports are dead from now on.

    Nothing need be done before a fork: the child leaks what threads of the parent may hold locked.
    """

@final
class Clock:
    """The time of a node: the machine's, or one that a test moves by hand."""

    def __new__(cls, *, manual: bool = False, unix: float = 0.0) -> Clock: ...
    def now(self) -> float:
        """Seconds that only grow, from an arbitrary start."""

    def unix(self) -> float:
        """Seconds since 1970."""

    def advance(self, seconds: float) -> None:
        """Move a manual clock forward; TypeError for the machine's."""

@final
class Hlc:
    """A hybrid logical clock (Kulkarni et al. 2014): versions that follow both time and causality."""

    def __new__(cls, clock: Clock, node: int) -> Hlc: ...
    def next(self, above: int = 0) -> int:
        """A version greater than all given or merged here, and than `above`."""

    def merge(self, version: int) -> None:
        """Take note of a version seen in a message."""

    def latest(self) -> int:
        """The greatest version given or merged."""

@final
class Store:
    """The memory of one group in one process."""

    MAIN: Final[int]  # the main copy, at the owner
    NEAR: Final[int]  # a short-lived copy elsewhere
    FORMER: Final[int]  # a main copy that is no longer owned
    OUTCOMES: Final[tuple[str, ...]]  # the counters that count() takes, by position

    # Called by get for a key that is not here; its result is get's. A second argument, True: nor at its owner.
    on_miss: Callable[..., Any] | None
    remote: Remote | None  # asked by get before on_miss, unless writes are pending
    pending: bool  # writes of this node are under way, for which a get may have to wait

    def __new__(
        cls,
        name: str,
        *,
        max_bytes: int,
        policy: str,
        clock: Clock,
        near_ttl: float,
        remember: float,
        decode: Callable[[bytes], Any] | None,
        shareable: bool,
        keep_evicted: bool,
    ) -> Store: ...
    @property
    def name(self) -> str: ...
    @property
    def floor(self) -> int:
        """The version of the last clear."""

    def get(self, key: str, /) -> Any:
        """The value, or None where it is known to be absent; on_miss(key) where nothing is here. Counts."""

    def lookup(self, key: str, /) -> Any:
        """As get, but MISSING where nothing is here."""

    def get_many(self, keys: list[str], /) -> tuple[dict[str, Any], list[str], dict[str, Exception]]:
        """The values here, the keys of which nothing is here, and what decode raised for others. Counts.

        Known absent ones are in none of them.
        """

    def peek(self, key: str, /) -> Any:
        """The value or None, neither counted nor touched."""

    def find(self, key: str, /) -> tuple[bytes | None, int, float | None, int] | None:
        """The encoded value (None: absent), version, remaining seconds and kind; counts nothing."""

    def known(self, key: str, /) -> int:
        """The greatest version of this key known here: of its entry, its last remembered write, or the floor."""

    def fits(self, key: str, size: int, /) -> bool:
        """Whether an entry of that value size may be kept: at most an eighth of max_bytes."""

    def put(
        self, key: str, value: bytes | None, version: int, ttl: float | None, kind: int, *, foreign: bool = False
    ) -> bool:
        """Keep a loaded or fetched value, unless it is older than what is known here, too large, or the store closed.

        With `foreign` (it came from another node) also not while the memory of recent writes is full.
        """

    def write(self, key: str, value: bytes | None, version: int, ttl: float | None) -> bool:
        """Apply a write as its owner: remember it, and keep the value (None: a delete) unless a newer one is known."""

    def note(self, key: str, version: int) -> int:
        """Be told of a write: remember it and drop what is older. The greatest version now known here."""

    def drop(self, key: str, /) -> None:
        """Let go of the entry, without a version."""

    def clear(self, version: int) -> int:
        """Raise the floor, in O(1): what is older can no longer be served. The floor now."""

    def recent(self) -> list[tuple[str, int]]:
        """The remembered writes."""

    def place(self, placement: Placement | None, me: int) -> None:
        """Demote the main copies that the placement does not give to member `me`, promote those that it gives back.

        A demoted copy is served here for near_ttl more. With None everything is owned.
        """

    def sweep(self) -> list[tuple[str, Any, str]]:
        """Drop what has expired and what was evicted; with keep_evicted the (key, value, reason) of each."""

    def count(self, outcome: int, n: int = 1, /) -> None:
        """Add to a counter of OUTCOMES."""

    def stats(self) -> dict[str, int]:
        """All counters, and entries, bytes, near_bytes, max_bytes."""

    def empty(self) -> None:
        """Let go of all entries and remembered writes; the floor stays."""

    def close(self) -> None:
        """Empty for good: nothing is kept from now on, every get is a miss."""

@disjoint_base
class Getter(Generic[_V]):
    """The reading half of a store. Each subclass gets native methods of its own.

    The interpreter calls a native method directly only on instances of the very class that has it.
    """

    def __new__(cls, store: Store, /) -> Self: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def get(self, key: str, /) -> _V | None:
        """The value, or None where it is known to be absent; on_miss(key) where nothing is here. Counts."""

    def _lookup(self, key: str, /) -> _V | object | None:
        """As get, but MISSING where nothing is here."""

@final
class Placement:
    """Who owns which key: an immutable table of 65,536 slots (weighted rendezvous hashing with bounded loads)."""

    SLOTS: Final[int]

    def __new__(cls, members: list[tuple[str, float]]) -> Placement:
        """From (id, weight) pairs, in any order. ValueError: none, a repeated id, or a weight that is not positive."""

    def candidates(self, key: str, /) -> tuple[int, ...]:
        """Positions in `members`, as it was given: the owner, the next in line, and so on; at most four."""

    def owner(self, key: str, /) -> int:
        """The owner's position."""

    def slots(self) -> list[int]:
        """The owner's position for every slot."""

@final
class Flag:
    """A bool that threads share without the interpreter; false at first."""

    def __new__(cls) -> Flag: ...
    def set(self, value: bool, /) -> None: ...
    def __bool__(self) -> bool: ...

@final
class Remote:
    """How a store asks the owners' memory with no Python on the way.

    `peers` are (address, held for dead, the peer itself) by their positions in `placement`, None for this node. What is
    hot is given to `keep(key, (value, version, remaining, flags), asked)`, asked by the store's clock; who does not
    answer within `timeout` seconds to `suspect(peer, PeerError)`.
    """

    def __new__(
        cls,
        transport: Transport,
        placement: Placement,
        peers: list[tuple[str, Flag, Any] | None],
        *,
        timeout: float,
        keep: Callable[[str, tuple[bytes | None, int, float | None, int], float], None] | None,
        suspect: Callable[[Any, Exception], None],
    ) -> Remote: ...

@final
class PolicyRun:
    """An eviction policy alone: one shard, weight one for each key until reweighed. For tests and hit ratios."""

    def __new__(cls, policy: str, capacity: int) -> PolicyRun: ...
    def access(self, key: int) -> bool:
        """Ask for a key and keep it where it was missing: True for a hit."""

    def run(self, keys: list[int]) -> int:
        """Access each; the number of hits."""

    def remove(self, key: int) -> bool:
        """Take a key out: whether it was there."""

    def demote(self, key: int) -> bool:
        """Make a key the next to go: whether it was there."""

    def reweigh(self, key: int, weight: int) -> bool:
        """Give a key another weight, at least 1: whether it was there."""

    def contents(self) -> list[int]:
        """The resident keys in the policy's own order, the next to go first."""

@final
class Histogram:
    """Times counted in buckets, from any thread."""

    BOUNDS: Final[tuple[float, ...]]  # the buckets' upper bounds in seconds; one more bucket has none

    def __new__(cls) -> Histogram: ...
    def observe(self, seconds: float, /) -> None: ...
    def read(self) -> tuple[list[int], float]:
        """How many times fell into each bucket, and their sum in seconds."""

@final
class Scrape:
    """A question for the metrics, waiting for its answer; dropped without one, there are none."""

    def reply(self, text: str, /) -> None: ...

@final
class Incoming:
    """A call from a peer or a client, waiting for its answer. Dropped without one, the asker is told `unavailable`."""

    @property
    def message(self) -> Request | ClientRequest: ...
    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def accept(self) -> None:
        """Tell the asker of a Load that its work is queued."""

    def reply(self, message: Reply | ClientReply, /) -> None: ...
    def fail(self, status: str, text: str = "") -> None:
        """Refuse: "overloaded", "unknown_group", "closed", "internal", "load" or "invalid"."""

@final
class Security:
    """What a node protects itself with, and proves itself by to others. Shows nothing of it."""

    def __new__(
        cls, *, password: str | None = None, tls: tuple[str, str, str] | None = None, mutual: bool = True
    ) -> Security:
        """With files as (certificate, key, authorities). ValueError: what is wrong with them, or the password."""

    def renewed(self) -> Security:
        """The same for a forked child."""

    def guesses(self) -> list[tuple[str, int]]:
        """Wrong passwords given since they were told last, as (address, how many); each address once a minute."""

    def reload(self) -> bool:
        """Look whether the files have changed: True when new ones are in use from now on.

        ValueError, once: what is wrong with the new ones; those before stay in use.
        """

@final
class Transport:
    """One port for all protocols, and the ways to other members' ports. Owns one thread; no Python runs on it.

    `call` and what peers ask come out of `next_event`, which a thread of the node's must keep taking.
    """

    HOT: Final[int]  # flags of an answer: worth a near copy
    ABSENT: Final[int]  # known absent

    def __new__(
        cls, *, max_message: int, max_value: int | None = None, security: Security | None = None
    ) -> Transport: ...
    def listen(self, address: str, /, within: float = 5.0) -> str:
        """Bind "host:port" or "unix:/path"; the address bound. OSError as the system says it."""

    def serve(self, store: Store, /) -> None:
        """Answer KC.GET and KC.MGET for this group from now on."""

    def hide(self, group: str, /) -> None: ...
    def peek(
        self, address: str, group: str, key: str, former: bool, timeout: float, /
    ) -> tuple[bytes | None, int, float | None, int] | None:
        """Ask a member's memory; None: nothing there. PeerError when it does not answer in time."""

    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, former: bool, timeout: float, /
    ) -> list[list[tuple[bytes | None, int, float | None, int] | None] | PeerError]:
        """Ask several members at once, one request each; a PeerError in the place of one that did not answer."""

    def ping(self, address: str, timeout: float, /) -> None:
        """PeerError unless the member's engine answers in time."""

    def ping_many(self, addresses: list[str], timeout: float, /) -> list[Exception | None]:
        """Ask all these members at once whether their engines answer; None, or a PeerError, for each."""

    def call(self, token: Any, address: str, message: Request, timeout: float | None, /) -> None:
        """Start a call; next_event brings (token, reply or exception)."""

    def connect(self, token: Any, address: str, /) -> None:
        """Start a connect for an event loop; next_event brings (token, Pipeline or PeerError)."""

    def answer_to(self, names: list[str], /) -> None:
        """Answer to these names over HTTP, beside IP addresses and localhost."""

    def ready(self, ready: bool, /) -> None:
        """What /readyz says; False is for good."""

    def peer_times(self) -> list[tuple[str, str, list[int], float]]:
        """How long peers took to answer so far: address, kind of question, and as Histogram.read."""

    def next_event(self, timeout: float, /) -> Incoming | Scrape | tuple[Any, Reply | Pipeline | Exception] | None:
        """The next call from a peer, scrape, or end of one of ours; None after `timeout` seconds or when closed."""

    def forget(self, address: str, /, *, finishing: bool = False) -> None:
        """Close the connections to a member that is gone; what waits on them fails at once, unless it is finishing."""

    def close(self) -> None:
        """Stop listening, fail what waits, end the thread. Within a second; twice is fine."""

@final
class Pipeline:
    """One non-blocking connection to a member's memory, driven by an event loop; used by that loop alone.

    Transport.connect makes it.
    """

    def fileno(self) -> int: ...
    def ask(self, token: Any, group: str, keys: list[str], former: bool, /) -> None:
        """Put a request in the buffer: KC.GET for one key, KC.MGET for more."""

    def flush(self) -> bool:
        """Write what is buffered; False while some is left (wait until writable). PeerError when broken."""

    def receive(self) -> list[tuple[Any, list[tuple[bytes | None, int, float | None, int] | None]]]:
        """Read what has arrived: the tokens answered, in order, each with its answers. PeerError when closed."""

    def patience(self, silence: float, whole: float, /) -> float | None:
        """Return for how many seconds the peer may go on: `silence` without a byte, `whole` until the next answer.

        None if nothing is waited for.
        """

    def close(self) -> list[Any]:
        """Close; the tokens still unanswered."""

@final
class EtcdSession:
    """One session with etcd: a lease kept alive, keys kept written under it, prefixes mirrored.

    Owns one thread, which no Python can hold up, and goes on trying whatever fails. RegistryError: etcd refuses
    (password, rights, certificates). ConnectionError: it is out of reach for now, or the session is closed.
    """

    def __new__(
        cls,
        endpoints: list[str],
        *,
        lease: int,
        user: str | None = None,
        password: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> EtcdSession:
        """Connects at the first use; `ca`, `cert` and `key` are PEM files."""

    def check(self) -> None:
        """ValueError for options and files of no use."""

    def register(self, entries: list[tuple[str, bytes]], timeout: float, /) -> None:
        """Keep these written, in this order, in place of what was; returns once they are."""

    def withdraw(self, timeout: float, /) -> None:
        """Take back what was registered."""

    def entries(self, prefix: str, timeout: float, /) -> list[tuple[str, bytes]]:
        """What is written under a prefix: the rest of each key, and its value."""

    def wait(self, seen: int, timeout: float, /) -> int:
        """Wait until what is listed may have changed since `seen`: another number."""

    @property
    def registered(self) -> bool:
        """Whether what was registered is in etcd, under a lease that lives."""

    def close(self, timeout: float, /) -> None:
        """Withdraw, waiting no longer than that, and end the thread. Twice is fine."""
