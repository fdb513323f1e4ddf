"""Describe the native engine to type checkers; mypy.stubtest compares this with the built module.

Methods without a docstring do what their names say; their code is in crates/python/src.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextvars import Context
from types import GenericAlias
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, final

from typing_extensions import disjoint_base

from kamacache.errors import PeerError
from kamacache.member import Member
from kamacache.net.messages import ClientReply, ClientRequest, Contact, Reply, Request, WriteItem
from kamacache.value import Value

__all__ = [
    "MISSING",
    "PACKED",
    "POLICIES",
    "PREFIX",
    "TAG",
    "Budget",
    "Clock",
    "Contacts",
    "EtcdSession",
    "Flag",
    "Flight",
    "Flights",
    "Getter",
    "Histogram",
    "Hlc",
    "Incoming",
    "Lead",
    "PendingWrite",
    "Pipeline",
    "Placement",
    "PolicyRun",
    "Promise",
    "Question",
    "Remote",
    "Scrape",
    "Security",
    "Store",
    "Transport",
    "Watch",
    "Writing",
    "__version__",
    "after_fork_in_child",
    "arrived",
    "check_key",
    "check_keys",
    "count_misses",
    "hand_over",
    "hot",
    "join",
    "monotonic",
    "statuses",
    "take_over",
    "wake_late",
]

_V = TypeVar("_V")
# Value (None: absent), version, remaining seconds, and the flags of an answer or the kind of an entry.
_Found: TypeAlias = tuple[bytes | None, int, float | None, int]

__version__: Final[str]
MISSING: Final[object]
PACKED: Final[bytes]  # the first bytes of a packed value
PREFIX: Final[str]  # the beginning of the key by which a prefix is deleted
TAG: Final[str]  # the same for a tag
POLICIES: Final[tuple[str, ...]]  # the names of the eviction policies, the default first

def check_key(key: object, /) -> None:
    """Raise InvalidKey unless `key` is a str of 1 to 65,536 bytes in UTF-8."""

def check_keys(value: object, json: bool, /) -> None:
    """Raise TypeError if a dict anywhere in an encoded value has a key that JSON, or else MessagePack, cannot return.

    That of JSON is a str; MessagePack returns a tuple as a list, which is no key.
    """

def arrived() -> int:
    """Return the number of the last write that a store of this process remembered, or clear that it took note of."""

def hand_over(
    store: Store,
    placement: Placement,
    owners: Sequence[tuple[str, str] | None],
    me: str,
    timeout: float,
    carry: Transport | Callable[[str, str, bytes], bytes | None],
    /,
) -> tuple[int, int]:
    """Hand over the entries of a store that member `me` does not own, those that were used last first.

    `owners` are (address, id) by their positions in `placement`, None for those that are not to be asked: the next
    candidate of a key stands in for such an owner. `carry` takes an address, the name of the group and a message, and
    returns the reply, None if there is none.
    Return how many entries have been taken over, and how many others may take later.
    """

def count_misses(store: Store, keys: Sequence[str], /) -> None:
    """Count gets of clients that the memory here could not answer, as `Store.get` counts its own, also for `hot`."""

def hot(store: Store, most: int, /) -> tuple[int, list[tuple[str, int, int]]]:
    """Return how many gets were sampled of late, about one of 128, and the keys that had most of them.

    All counts are halved each minute. Each key, cut after 200 bytes, has its samples at most, and how many of these
    may have been of other keys.
    """

def statuses(transport: Transport, addresses: Sequence[str], timeout: float, /) -> list[bytes | Exception]:
    """Ask each of these members what it shows of itself, all at once. Return JSON, or PeerError in its place."""

def join(store: Store, /) -> None:
    """Note that the node of a store has joined: it may take over entries, and its table says whom it inherits from."""

def take_over(store: Store, contacts: Contacts, message: bytes, /) -> bytes:
    """Keep the entries of a message of hand-over whose keys the store owns, and return the reply.

    Raises ValueError for other bytes.
    """

def monotonic() -> float:
    """Return the seconds of time.monotonic(), which a test that freezes the clocks of Python does not stop."""

def wake_late() -> None:
    """Call the wakers that could not be called before, on a stack too deep for any Python."""

def after_fork_in_child() -> None:
    """Empty every store and start a new generation: older transports are dead from now on.

    Nothing is needed before a fork: the child leaks what threads of the parent may hold locked.
    """

@final
class Clock:
    """The clock of a node: the clock of the machine, or one that a test moves by hand."""

    def __new__(cls, *, manual: bool = False, unix: float = 0.0) -> Clock: ...
    def now(self) -> float:
        """Return the seconds since an arbitrary start; they only grow, also while the machine is suspended."""

    def unix(self) -> float:
        """Return the seconds since 1970."""

    def advance(self, seconds: float, *, asleep: bool = False) -> None:
        """Move a manual clock forward, as if the machine was `asleep`; TypeError for the clock of the machine.

        Raises ValueError for negative seconds, and beyond 292 years from its start.
        """

@final
class Hlc:
    """A hybrid logical clock (Kulkarni et al. 2014): versions that follow both time and causality."""

    def __new__(cls, clock: Clock, node: int) -> Hlc: ...
    def next(self, above: int = 0) -> int:
        """Return a version greater than all that were returned or merged here, and than `above`."""

    def merge(self, version: int) -> bool:
        """Take in a version that came in a message. Return False, and do nothing, if it is more than a day ahead."""

    def latest(self) -> int:
        """Return the greatest version that was returned or merged."""

    def now_ms(self) -> int:
        """Return the time of the service as this node knows it, in milliseconds since 1970."""

    def heard(self, now_ms: int, /) -> None:
        """Take in the time of the service as a member knows it, unless it is more than a day ahead."""

    def until_ms(self, wait: float, /) -> int:
        """Return until when an owner may apply an order whose writer waits for so many seconds from now."""

@final
class Contacts:
    """What a node tells its members of its writes, and whether its process stood still; see cluster/contact.py."""

    def __new__(cls) -> Self: ...
    def name(self, me: str, hlc: Hlc, /) -> None:
        """Set the id of this node, and the clock that members are shown."""

    def begin(self, member: str, /) -> None:
        """Begin a contact: from now on the member is told of each write."""

    def end(self, member: str, /) -> None:
        """End a contact, before a write is not told to the member."""

    def forget(self, member: str, /) -> None: ...
    def shown(self, member: str, /) -> Contact:
        """Return what a member is told."""

    def met(self, member: str, /) -> Contact:
        """Do the same, and note that the member lives."""

    def know(self, members: list[Member], /) -> None:
        """Set the members that a refusal to order writes names."""

    def heard(self) -> list[str]:
        """Return the members that have pinged this node since the last call."""

    def writing(self) -> Writing:
        """Note that a write begins. It ends with the `with` of the result, when who was not told is out of contact."""

    def watch(self) -> None:
        """Look for standstills of the process from now on. The transport must listen, and the caller must catch up."""

    @property
    def stood(self) -> int:
        """How often the process stood still, if it has not caught up since; else 0."""

    @property
    def asleep(self) -> float:
        """The seconds of all standstills of the process."""

    def catch_up(self, stood: int, /) -> None:
        """Let the stores answer again, unless the process has stood still once more."""

@final
class Writing:
    """A write that is under way."""

    def __enter__(self) -> Self: ...
    @property
    def current(self) -> bool:
        """Whether the process has not stood still since the write began, and had caught up before."""

    def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...

@final
class Store:
    """The memory of one group in one process."""

    MAIN: Final[int]  # the main copy, at the owner
    NEAR: Final[int]  # a short-lived copy elsewhere
    FORMER: Final[int]  # a main copy that is no longer owned
    OUTCOMES: Final[tuple[str, ...]]  # the counters that count() takes, by position

    # get calls it for a key that is not here, and returns its result. A second argument True: its owner lacks it, too.
    on_miss: Callable[..., Any] | None
    on_unread: Callable[[str, bytes, Exception], object] | None  # of bytes that `decode` refused; they are a miss then
    remote: Remote | None  # get asks it before on_miss, unless writes are pending
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
        packs: bool = False,  # what begins with PACKED is packed: clients are not given it from memory
        plain: bool = False,  # and what does not is returned without `decode`
        # refresh_after, early, stale_while_revalidate and stale_if_error, in seconds
        freshness: tuple[float | None, float, float, float] | None = None,
    ) -> Store: ...
    @property
    def name(self) -> str: ...
    @property
    def floor(self) -> int:
        """The version of the last clear."""

    @property
    def full(self) -> bool:
        """Whether a write of late found no room in the memory of recent writes, as the last sweep saw it."""

    def get(self, key: str, /) -> Any: ...
    def lookup(self, key: str, /) -> Any: ...
    def get_many(self, keys: list[str] | tuple[str, ...], /) -> tuple[dict[str, Any], list[str], dict[str, Exception]]:
        """Return the values that are here, the keys that are not, and what decode raised for others. Counts.

        A key that is known to be absent is in none of the three.
        """

    def peek(self, key: str, /) -> Any:
        """Return the value or None; neither count it nor touch it."""

    def find(self, key: str, /) -> _Found | None:
        """Return the encoded value (None: absent), version, remaining seconds and kind; count nothing."""

    def discard(self, key: str, value: bytes, /) -> bool:
        """Drop the entry of a key if it has exactly these bytes. Return whether it did."""
    def aged(self, key: str, /, *, claim: bool = True) -> _Found | None:
        """Return a main copy for which hits need a decision by now, and the decision in the place of its kind.

        0: answer it; 1: answer it and load it anew, which only this caller is told for a second; 2: load it, and answer
        it if the load fails or takes long. Remaining seconds 0: it is stale. Without `claim` nobody is told.
        """

    def held(self, key: str, /) -> tuple[_Found, float] | None:
        """Return what find returns, of a stale entry too, with 0 remaining seconds; and its age, to 16 ms."""

    def hold(self, key: str, seconds: float, /) -> None:
        """Let hits of an aged entry need no decision for so long, because a load of it has failed or takes long."""

    def known(self, key: str, /) -> int:
        """Return the greatest version known here: of the entry, of a remembered write, the floor, or a prefix."""

    def newer(self, key: str, version: int, value: bytes | None, /) -> list[tuple[str, int]]:
        """Return the writes known here that a copy with this value and version is older than: of the key, of tags."""

    def fits(self, key: str, size: int, /) -> bool:
        """Return whether an entry with a value of this size may be kept: it takes at most an eighth of max_bytes."""

    def put(
        self, key: str, value: bytes | None, version: int, ttl: float | None, kind: int, *, foreign: bool = False
    ) -> bool:
        """Keep a loaded or fetched value, unless a newer version is known, it is too large, or the store is closed.

        With `foreign`, for a value of another node, also not while the memory of recent writes is full.
        """

    def write(self, key: str, value: bytes | None, version: int, ttl: float | None) -> bool:
        """Apply a write as its owner: remember it, and keep the value (None: a delete) unless a newer one is known."""

    def order(self, item: WriteItem, /) -> int:
        """Apply a write as its owner, whatever its terms.

        Return its version, greater than `above` and all that is known of the key. If it had the version `ordered`
        already: the version of a later write that has superseded it, 0 if another node has ordered this one; after
        a clear or the delete of a prefix it is applied as a delete.
        """

    def decide(self, item: WriteItem, inherited: bool, /) -> tuple[int, int, bool, bytes | None, int, int]:
        """Apply a write that has terms if they are met. Return its version, 0 if nothing changed, and an Outcome.

        `inherited`: this node has joined, and what owners before it have of the key was taken in. From then on `place`
        says until when that is to be done.
        """

    def order_by(self, hlc: Hlc, /) -> None:
        """Take the versions of writes from this clock."""

    def note(self, key: str, version: int) -> int:
        """Remember a write and drop what is older. Return the greatest version now known here."""

    def clear(self, version: int) -> int:
        """Raise the floor, in O(1), so that nothing older is served. Return the new floor."""

    def keys(self, prefix: str, /) -> list[str]:
        """Return the keys that begin so, and that have a value here."""

    @property
    def closed(self) -> bool: ...
    def missed(self, since: int, part: int, /) -> tuple[list[tuple[str, int]], int | None, bool]:
        """Return the remembered writes whose numbers are greater than `since`, at most 4,000 or about 256 KiB of them.

        `part` is 0 for the first part, then what the last call returned second; None: that was the last. The third is
        whether a shard that this part reads no longer knows such a write by its key, and no floor covers it. Call
        `arrived` before the first part: what is remembered meanwhile has a greater number.
        """

    shut: bool  # it finds nothing for anybody, and keeps no load that was under way when it was shut

    def forget(self) -> None:
        """Drop all entries, and keep no load that is under way. The remembered writes and the floor stay."""

    def place(
        self, placement: Placement | None, me: int, inherits: float = 0.0, down: Sequence[Flag | None] = ..., /
    ) -> bool:
        """Demote the main copies that member `me` does not own by this placement, and promote those that it owns again.

        A demoted copy is served here for near_ttl more. With None, `me` owns every key. Return whether something here
        belongs to others now. The flags of members that are `down`, by their positions, tell for whom `me` stands in.
        Until `inherits` (seconds of the clock), owners before this node may have what is not here.
        """

    def sweep(self, since: int = ..., /, *, few: bool = False) -> list[tuple[str, Any, str]]:
        """Drop what has expired and what was evicted; with keep_evicted return the (key, value, reason) of each.

        With `few`, return the first ones alone, as they take memory. Keep remembering the writes that arrived at
        `since` (nanoseconds of the clock) or later.
        """

    def evicted(self) -> list[tuple[str, Any, str]]:
        """Return the (key, value, reason) of the next few that were evicted or have expired."""

    def count(self, outcome: int, n: int = 1, /) -> None:
        """Add to a counter of OUTCOMES."""

    def stats(self) -> dict[str, int]:
        """Return the fields of GroupStats by name."""

    def close(self) -> None:
        """Drop everything and keep nothing from now on, so that every get is a miss."""

@final
class Budget:
    """The budget of a store that shares memory with others. While it was never made, a store may use its max_bytes."""

    def __new__(cls, store: Store) -> Budget: ...
    def limit(self, max_bytes: int, /) -> int:
        """Let the store use so many bytes, at most its max_bytes, and evict until that holds. Return what it may use.

        That is more if recent writes, which are not evicted, would take more than half of it.
        """

    def returned(self) -> int:
        """Return the bytes of entries that came back after they had been evicted, since the last call."""

@final
class PendingWrite:
    """A write of a key that waits to be sent.

    While this object lives and is not settled, the store keeps no load of the key, and no caller joins a flight of the
    key. So a get of this node waits for the write.
    """

    def __new__(cls, store: Store, key: str, /) -> Self: ...
    def settle(self) -> None:
        """Take note that the write was sent, or given up."""

@final
class Promise:
    """A result that one thread will set and others wait for. An interrupt never leaves it half set.

    concurrent.futures.Future does the same in Python, where an interrupt of a waiter can leave its lock taken forever.
    """

    def __new__(cls) -> Promise: ...
    def begin(self) -> bool:
        """Return True for the first caller, if no result is set: that caller has to set one."""

    def set_result(self, value: Any, /) -> bool:
        """Set the result and wake all waiters. Return False if one was set before."""

    def set_exception(self, error: BaseException, /) -> bool: ...
    @property
    def ended(self) -> bool: ...
    def result(self) -> Any: ...
    def exception(self) -> BaseException | None: ...
    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called at the end. Return False, and do not call it, if the promise has ended."""

@final
class Flights:
    """The flights of one group, at most one of a key that callers may join.

    Every method is one step, which no signal handler and no asynchronous exception can interrupt.
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
        /,
        *,
        serial: bool = False,
        anew: bool = False,
        given: bool = False,
    ) -> Lead:
        """Prepare to load these keys, or one.

        `here`: this process loads them. `outer`: the flight that the caller's code loads for, `depth` loaders deep.
        `driver`: the event loop that runs the load. `serial`: one thread loads the keys one after the other. `anew`:
        what is in memory does not end the flights. `given`: a function that a caller brings loads the keys.
        """

    def running(self, key: str, here: bool = True, /) -> Flight | None:
        """Return the flight of a key that callers may join; with `here` only one that loads in this process."""

    def end(self, flight: Flight, outcome: Any, /) -> bool:
        """End a flight and wake all waiters. Return False if it had ended before."""

    def end_all(self, outcome: Any, /) -> None:
        """End all flights of the table with one outcome."""

    def oldest(self) -> int:
        """Return the time when the oldest flight began, by the clock of the store in nanoseconds."""

    def watched(self) -> list[Flight]:
        """Return the flights that an event loop or another member runs or will begin, and late ones of functions."""

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
        """Return whether an event loop runs the load from its beginning, and ends it in time."""

    @property
    def ended(self) -> bool: ...
    @property
    def outcome(self) -> Any: ...
    @property
    def version(self) -> int: ...
    def left(self) -> float:
        """Return the seconds that are left until its timeout, infinity without one."""

    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called at the end. Return False, and do not call it, if the flight has ended."""

    def open(self) -> Flight | Lead | None:
        """Return this flight if it is open, else the innermost open load around it."""

    def inside(self, flights: Flights, key: str, /) -> bool:
        """Return whether this flight, or a load around it, loads that key."""

@final
class Lead:
    """The flights that one caller leads, from the start of a `with` to its end, which aborts those still open."""

    def __enter__(self) -> dict[str, Flight] | None:
        """Begin a flight of each key that has none to join.

        Return the flights to join by key, or None if this lead has an open flight of every key.
        """

    def extend(self, keys: list[str], /) -> dict[str, Flight] | None:
        """Do the same for more keys."""

    def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...
    def hand_over(self) -> None:
        """Keep the flights open at the end of the `with`, because other code runs them."""

    def leave(self, joined: dict[str, Flight], /) -> None:
        """Note, once, that its caller waits no more for these flights, nor for those that it joined."""

    @property
    def wanted(self) -> bool:
        """Return whether any caller still waits for these flights."""

    def abandon(self) -> None:
        """Abort the flights that are still open."""

    def take_over(self) -> None:
        """Note that this thread runs the flights, so that code on this thread does not join them."""

    def drive(self, driver: Any, /) -> None:
        """Note the event loop that will run the flights; None: no loop."""

    @property
    def ended(self) -> bool: ...
    @property
    def depth(self) -> int: ...
    @property
    def timed(self) -> bool:
        """Return whether an event loop runs the loads from their beginning, and ends them in time."""

    @property
    def driver(self) -> Any: ...
    @property
    def keys(self) -> list[str]: ...
    def flight(self, key: str, /) -> Flight: ...
    def outcomes(self) -> dict[str, Any]:
        """Return the outcomes of the flights that have ended, by key."""

    @property
    def anew(self) -> bool: ...
    def took(self) -> float:
        """Return the seconds since the lead was made."""

    def left(self) -> float:
        """Return the seconds that are left until its timeout, infinity without one."""

    def wake(self, waker: Callable[[], object], /) -> bool:
        """Have `waker` called when all flights have ended. Return False, and do not call it, if they have."""

    def begin(self, key: str, /) -> bool:
        """Begin the load of a key anew, with the writes known now. Return False if its flight must not go on."""

    def keep(self, key: str, value: bytes | None, ttl: float | None, kind: int, version: int, /) -> bool:
        """Keep a value of this version in the store, unless the flight is late. Return whether it was kept."""

    def loaded(
        self,
        key: str,
        value: bytes | None,
        ttl: float | None,
        kind: int,
        how: int,
        own: bool,
        too_large: Callable[[str, int], object],
        /,
    ) -> bool:
        """Keep a loaded value and end its flight; with `own`, also count its time. Return False if it had ended before.

        A value that is too large, or whose ttl is 0, drops the older one in its place. `too_large` is called with the
        key and the size in bytes of one that is too large, before the callers that wait go on.
        """

    def end(self, key: str, outcome: Any, /) -> bool:
        """End the flight of a key and wake all waiters. Return False if it had ended before."""

    def open(self) -> Flight | Lead | None:
        """Return this lead if a flight of it is open, else the innermost open load around it."""

    def inside(self, flights: Flights, key: str, /) -> bool:
        """Return whether this lead, or a load around it, loads that key."""

@disjoint_base
class Getter(Generic[_V]):
    """The reading half of a store. Each subclass gets native methods of its own.

    The interpreter calls a native method directly only on instances of the very class that has it.
    """

    def __new__(cls, store: Store, /) -> Self: ...
    def __class_getitem__(cls, item: Any, /) -> GenericAlias: ...
    def get(self, key: str, /) -> _V | None: ...
    def get_or_load(self, key: str, load: Callable[[str], _V | Value[_V] | None], /) -> _V | None: ...
    def _lookup(self, key: str, /) -> _V | object | None: ...
    def _bind(self, store: Store, /) -> None:
        """Read another store from now on: the node has begun a new life."""

@final
class Placement:
    """The owner of every key: an immutable table of 65,536 slots (weighted rendezvous hashing with bounded loads)."""

    SLOTS: Final[int]

    def __new__(cls, members: list[tuple[str, float]]) -> Placement:
        """Take (id, weight) pairs in any order. ValueError: none, a repeated id, or a weight that is not positive."""

    def candidates(self, key: str, /) -> tuple[int, ...]: ...
    def owner(self, key: str, /) -> int: ...
    def slots(self) -> list[int]: ...

@final
class Flag:
    """A bool that threads share without the interpreter; false at first."""

    def __new__(cls) -> Flag: ...
    def set(self, value: bool, /) -> None: ...
    def __bool__(self) -> bool: ...

@final
class Remote:
    """The means by which a store asks the memory of owners without Python.

    `peers` are (address, considered dead, the peer itself) by their positions in `placement`, None for this node. For
    a hot value, `keep(key, found, asked)` is called; `asked` is a time of the store's clock. For a peer that does not
    answer within `timeout` seconds, `suspect(peer, PeerError)` is called. `links` has the connections of event loops,
    by loop and address: objects like net.link.Link.
    """

    def __new__(
        cls,
        transport: Transport,
        placement: Placement,
        peers: list[tuple[str, Flag, Any] | None],
        *,
        timeout: float,
        keep: Callable[[str, _Found, float], None] | None,
        suspect: Callable[[Any, Exception], None],
        links: Mapping[Any, Mapping[str, Any]] | None = None,
    ) -> Remote: ...
    def ask(self, store: Store, key: str, /) -> Question | None:
        """Ask the owner of a key for it, over the connection of the running event loop.

        Return None if the owner is not to be asked: this node owns the key, the owner is considered dead, or writes
        are pending; or if that loop has no connection to it yet.
        """

    def get_many(
        self, store: Store, keys: list[str], found: dict[str, Any], failed: dict[str, Exception], /
    ) -> list[str]:
        """Ask the owners of these keys for their values, all at once, and return the keys that they do not have."""

    def write(
        self, store: Store, items: Sequence[WriteItem], listeners: Sequence[str], timeout: float, /
    ) -> tuple[list[Any], list[int], list[tuple[str, Exception]]]:
        """Have the owners order writes of a store, and notify these addresses, each within `timeout`, on this thread.

        Return, by item, the version (0: superseded, None: no owner ordered it) and the greatest version that a listener
        knew beyond that, else 0; and the addresses that failed.
        """

@final
class PolicyRun:
    """An eviction policy alone, for tests and hit ratios: one shard, weight one for each key until reweighed."""

    def __new__(cls, policy: str, capacity: int) -> PolicyRun: ...
    def access(self, key: int) -> bool: ...
    def run(self, keys: list[int]) -> int: ...
    def remove(self, key: int) -> bool: ...
    def demote(self, key: int) -> bool: ...
    def reweigh(self, key: int, weight: int) -> bool: ...
    def contents(self) -> list[int]: ...

@final
class Histogram:
    """Times counted in buckets, from any thread."""

    BOUNDS: Final[tuple[float, ...]]  # the buckets' upper bounds in seconds; one more bucket has none

    def __new__(cls) -> Histogram: ...
    def observe(self, seconds: float, /) -> None: ...
    def read(self) -> tuple[list[int], float]: ...

@final
class Scrape:
    """A request for the metrics. If it is dropped without an answer, the asker gets none."""

    def reply(self, text: str, /) -> None: ...

@final
class Incoming:
    """A call from a peer or a client. If it is dropped without an answer, the asker gets `unavailable`."""

    @property
    def message(self) -> Request | ClientRequest: ...
    @property
    def gone(self) -> bool: ...
    def accept(self) -> None: ...
    def reply(self, message: Reply | ClientReply, /) -> None: ...
    def fail(self, status: str, text: str = "") -> None: ...

@final
class Security:
    """The password and certificates of a node, none of which it shows."""

    def __new__(
        cls,
        *,
        password: str | None = None,
        tls: tuple[str, str, str] | None = None,
        mutual: bool = True,
        service: str = "",
    ) -> Security:
        """Take files as (certificate, key, authorities). ValueError says what is wrong with them or the password.

        Nodes that name another `service` than this one are refused; without one, nothing is named or refused.
        """

    def renewed(self) -> Security: ...
    def guesses(self) -> list[tuple[str, int]]: ...
    def unproven(self) -> list[tuple[str, int]]: ...
    def reload(self) -> bool:
        """Return True if the files have changed, and use the new ones from now on.

        ValueError says, once, what is wrong with the new ones; the old ones stay in use.
        """

@final
class Transport:
    """One port for all protocols, and the connections to other members. It owns one thread, which runs no Python.

    `next_event` returns the ends of calls and the requests of peers. A thread of the node must keep calling it.
    """

    HOT: Final[int]  # flags of an answer: worth a near copy
    ABSENT: Final[int]  # known absent

    def __new__(
        cls,
        *,
        max_message: int,
        max_value: int | None = None,
        patience: float = 5.0,
        security: Security | None = None,
        contacts: Contacts | None = None,
    ) -> Transport: ...
    def listen(self, address: str, /, within: float = 5.0, descriptor: int | None = None) -> str: ...
    def serve(self, store: Store, /) -> None: ...
    def hide(self, group: str, /) -> None: ...
    def peek(self, address: str, group: str, key: str, look: int, timeout: float, /) -> _Found | None: ...
    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: int, timeout: float, /
    ) -> list[list[_Found | None] | PeerError]: ...
    def send_all(self, asks: list[tuple[str, Request]], timeout: float, /) -> list[Reply | PeerError]:
        """Send each request, a WriteRequest or a TellRequest, to its address, all at once on this thread.

        Return the replies in the same order, with an error in the place of a missing one.
        """

    def ping(self, address: str, timeout: float, /) -> None: ...
    def ping_many(self, me: str, addresses: list[str], timeout: float, /) -> list[Contact | Exception]: ...
    def fetch_missed(self, address: str, store: Store, since: int, timeout: float, /) -> bool:
        """Note the writes that a member remembers after a number. Return whether it remembers all of them."""

    def call(self, token: Any, address: str, message: Request, timeout: float | None, /) -> None: ...
    def cancel(self, token: Any, /) -> None:
        """End a call before its time. A load that has not begun at the peer is dropped there."""

    def connect(self, token: Any, address: str, /) -> None: ...
    def answer_to(self, names: list[str], /) -> None: ...
    def ready(self, ready: bool, /) -> None: ...
    def peer_times(self) -> list[tuple[str, str, list[int], float]]: ...
    def next_event(
        self, timeout: float, /
    ) -> Incoming | Scrape | str | tuple[Any, Reply | Pipeline | Exception] | None:
        """Return what happened next: a request, the end of an own one, or "stood"."""

    def forget(self, address: str, /, *, finishing: bool = False) -> None: ...
    def close(self) -> None:
        """Stop listening, end the thread, and end each promise that is the token of a call or connect under way.

        No event brings the end of one of these later, and nothing begins any more.
        """

@final
class Pipeline:
    """One non-blocking connection to the memory of a member, made by Transport.connect for one event loop.

    That loop alone uses it.
    """

    def fileno(self) -> int: ...
    flushing: bool  # what is asked now will be sent, for a flush is due

    def ask(self, token: Any, group: str, keys: list[str], look: int, /) -> None: ...
    def flush(self) -> bool:
        """Send what was asked, and return whether the socket took all of it."""

    def receive(self) -> list[tuple[Any, Any]]:
        """Read, and return the tokens that are answered. Questions that are answered wait for `resume`."""

    def resume(self) -> bool:
        """Continue the tasks that await answered questions, outside of any task, then flush.

        Raises PeerError if the peer gave an error or nonsense for an answer.
        """

    def patience(self, silence: float, whole: float, /) -> float | None: ...
    def close(self, error: Exception | None = None, /) -> list[Any]:
        """Close, fail the questions that are not answered with `error`, and return the tokens that are not."""

@final
class Question(Awaitable[Any]):
    """A future of one key in its owner's memory, made by Remote.ask for the task that awaits it.

    The result is the value, None if it is known to be absent, or MISSING if the owner does not have it or did not
    answer. A question that ends otherwise counts in `joined`.
    """

    _asyncio_future_blocking: bool

    def __await__(self) -> Generator[Question, None, Any]: ...
    def __next__(self) -> Question: ...
    def get_loop(self) -> Any: ...
    def add_done_callback(self, callback: Callable[[Question], object], /, *, context: Context) -> None: ...
    def cancel(self, msg: Any = None) -> bool: ...
    def result(self) -> None: ...

@final
class EtcdSession:
    """One session with etcd: leases kept alive, keys kept written under them, prefixes mirrored.

    It owns one thread, which no Python can hold up, and retries whatever fails. RegistryError: etcd refuses (password,
    rights, certificates). ConnectionError: etcd is out of reach for now, or the session is closed.
    """

    def __new__(
        cls,
        endpoints: list[str],
        *,
        user: str | None = None,
        password: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
    ) -> EtcdSession:
        """Prepare a session that connects at its first use; `ca`, `cert` and `key` are PEM files."""

    def check(self) -> None: ...
    def register(self, entries: list[tuple[str, bytes, int]], timeout: float, /) -> None:
        """Keep keys, values and the seconds written for which each outlives the session."""

    def withdraw(self, timeout: float, /) -> None: ...
    def entries(self, prefix: str, timeout: float, /) -> list[tuple[str, bytes]]: ...
    def drop(self, key: str, /) -> None:
        """Drop a key of another session, which `entries` has shown, soon and if etcd can be reached."""

    def wait(self, seen: int, timeout: float, /) -> int: ...
    @property
    def registered(self) -> bool: ...
    def close(self, timeout: float, /) -> None: ...

@final
class Watch:
    """Wait until a directory changes or a POSIX lock in it becomes free.

    The descriptors of `watch` must stay open until `begin` is called again.
    """

    def __new__(cls) -> Watch: ...
    def begin(self, path: str, /) -> None:
        """Begin to read this directory."""

    def watch(self, locks: list[int], again: float, /) -> None:
        """Watch the directory that was read, and these locks. After `again` seconds it counts as changed."""

    def differs(self) -> bool: ...
    def wait(self, every: float, /) -> bool:
        """Look every so many seconds. Return True if anything differs from what was read, False after `end`."""

    def end(self) -> None: ...
