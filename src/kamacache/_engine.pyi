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
    "Flight",
    "Flights",
    "Getter",
    "Histogram",
    "Hlc",
    "Incoming",
    "Lead",
    "Pipeline",
    "Placement",
    "PolicyRun",
    "Promise",
    "Remote",
    "Scrape",
    "Security",
    "Store",
    "Transport",
    "__version__",
    "after_fork_in_child",
    "check_key",
    "wake_late",
]

_V = TypeVar("_V")

__version__: Final[str]
MISSING: Final[object]
POLICIES: Final[tuple[str, ...]]  # the names of the eviction policies, the default first

def check_key(key: object, /) -> None:
    """Raise InvalidKey unless `key` is a str of 1 to 65,536 bytes in UTF-8."""

def wake_late() -> None:
    """Call the wakers that could not be called before, on a stack too deep for any Python."""

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

    def sweep(self, since: int = ..., /) -> list[tuple[str, Any, str]]:
        """Drop what has expired and what was evicted; with keep_evicted return the (key, value, reason) of each.

        Writes that arrived at `since` (nanoseconds of the clock) or later are remembered on.
        """

    def count(self, outcome: int, n: int = 1, /) -> None:
        """Add to a counter of OUTCOMES."""

    def stats(self) -> dict[str, int]:
        """All counters, and entries, bytes, near_bytes, max_bytes."""

    def empty(self) -> None:
        """Let go of all entries and remembered writes; the floor stays."""

    def close(self) -> None:
        """Empty for good: nothing is kept from now on, every get is a miss."""

@final
class Promise:
    """What one thread will know and others wait for. No interrupt leaves it in between.

    concurrent.futures.Future does the same in Python, where an interrupt of a waiter can leave its lock taken for ever.
    """

    def __new__(cls) -> Promise: ...
    def begin(self) -> bool:
        """Return True for the first caller, who is to do what was promised or to see to it that nobody does."""

    def set_result(self, value: Any, /) -> bool:
        """Fulfil the promise. Return False if it has ended before."""

    def set_exception(self, error: BaseException, /) -> bool:
        """Break the promise with an exception. Return False if it has ended before."""

    @property
    def ended(self) -> bool: ...
    def result(self) -> Any:
        """Return the value or raise the exception that ended it, without waiting. ValueError if nothing has."""

    def exception(self) -> BaseException | None:
        """Return the exception that ended it; None if a value did, or nothing yet."""

    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called, from any thread, at the end. Return False if that was before."""

@final
class Flights:
    """The loads of one group that are under way: one for each key.

    Every method is one step, which no signal handler and no asynchronous exception can come into.
    """

    def __new__(
        cls, store: Store, outcome: type[Any], aborted: Any, times: Histogram, max_value: int, /
    ) -> Flights: ...
    def lead(
        self,
        keys: list[str] | str,
        here: bool,
        timeout: float | None,
        outer: Flight | Lead | None = None,
        depth: int = 0,
        driver: Any = None,
        serial: bool = False,
        /,
    ) -> Lead:
        """Prepare to load these keys, or one.

        `here`: this process loads them. `outer`: what the caller's code is inside of, `depth` loaders deep. `driver`:
        the event loop that is to run the load. `serial`: one thread loads the keys one after the other.
        """

    def running(self, key: str, /) -> Flight | None:
        """Return the flight of this key that a peer's load may join."""

    def end(self, flight: Flight, outcome: Any, /) -> bool:
        """End a flight, wherever it is led. Return whether it was open."""

    def end_all(self, outcome: Any, /) -> None:
        """End every open flight."""

    def driven(self) -> list[Flight]:
        """Return the open flights that an event loop runs."""

    def oldest(self) -> int:
        """Return the time of the store's clock, in nanoseconds, at which the oldest open flight began."""

    @property
    def store(self) -> Store: ...
    def __len__(self) -> int: ...

@final
class Flight:
    """One running load of a key."""

    @property
    def key(self) -> str: ...
    @property
    def here(self) -> bool: ...
    @property
    def driver(self) -> Any: ...
    @property
    def depth(self) -> int: ...
    @property
    def timed(self) -> bool:
        """Whether an event loop runs it from the beginning, and ends it in time."""

    @property
    def ended(self) -> bool: ...
    @property
    def outcome(self) -> Any:
        """How it ended; None while it is open."""

    @property
    def version(self) -> int:
        """The greatest version of its key that was known when its load began."""

    def left(self) -> float:
        """Return the seconds left, infinite without a limit."""

    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called, from any thread, when the flight ends. Return False if it has ended."""

    def open(self) -> Flight | Lead | None:
        """Return the innermost part of a chain, from here outwards, that is still open."""

    def inside(self, flights: Flights, key: str, /) -> bool:
        """Return whether the code around the caller loads this key."""

@final
class Lead:
    """What one caller leads. It begins with `with`; whatever is left at the end of that is aborted."""

    def __enter__(self) -> dict[str, Flight] | None:
        """Lead the flight of every key that has none to join; one whose value is here by now ends at once.

        Return None if all that is to be loaded, else the flights of others.
        """

    def extend(self, keys: list[str], /) -> dict[str, Flight] | None:
        """Lead more keys in the same way."""

    def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...
    def hand_over(self) -> None:
        """Let another thread or task end what is led: the end of `with` does nothing any more."""

    def take_over(self) -> None:
        """Say that this thread runs what is led."""

    def drive(self, driver: Any, /) -> None:
        """Say which event loop is to run or to begin what is led; None: no loop."""

    def abandon(self) -> None:
        """Abort what has not ended."""

    @property
    def ended(self) -> bool:
        """Whether every flight that is led here has ended."""

    @property
    def depth(self) -> int: ...
    @property
    def timed(self) -> bool:
        """Whether an event loop runs it from the beginning, and ends it in time."""

    @property
    def driver(self) -> Any: ...
    @property
    def keys(self) -> list[str]:
        """The keys whose flights are led here and have not ended."""

    def flight(self, key: str, /) -> Flight:
        """Return the flight of a key that is led here."""

    def outcomes(self) -> dict[str, Any]:
        """Return the outcomes of the flights that are led here and have ended, by key."""

    def took(self) -> float:
        """Return the seconds since it was prepared."""

    def left(self) -> float:
        """Return the seconds left, infinite without a limit."""

    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called, from any thread, when all that is led here has ended. Return False if it has."""

    def begin(self, key: str, /) -> bool:
        """Begin the load of a key only now: what it brings is as new as the writes known by now.

        Return False if it has ended, or another flight has taken its place, whose load is newer.
        """

    def age(self, key: str, version: int, /) -> None:
        """Say that the answers for a key may be older than a write that is known: nobody joins its flight any more."""

    def keep(self, key: str, value: bytes | None, ttl: float | None, kind: int, version: int, /) -> bool:
        """Keep a value from another node (None: absence) in the store. Return whether it was kept.

        It is not if the flight is late, or a write has become known since its load began.
        """

    def loaded(self, key: str, value: bytes | None, ttl: float | None, kind: int, how: int, own: bool, /) -> None:
        """Keep what the loader brought in the same way, unless it is too large, and end the flight with it.

        With `own` it is the only key of a caller that waits on this thread, and counts here, with the time it took.
        """

    def end(self, key: str, outcome: Any, /) -> bool:
        """End the flight of a key. Return whether it was open."""

    def open(self) -> Flight | Lead | None:
        """Return the innermost part of a chain, from here outwards, that is still open."""

    def inside(self, flights: Flights, key: str, /) -> bool:
        """Return whether the code around the caller loads this key."""

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
