"""A node: what a process embeds. It holds the groups, and lends them the network, the members and the threads.

Its parts are imported when one is made: importing the package is to cost little.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Self

from kamacache import fork, thread
from kamacache._engine import Clock, Hlc, check_key
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, NodeClosed, UnknownGroup
from kamacache.groups import Grouping
from kamacache.log import log
from kamacache.member import Member
from kamacache.options import TLS, Duration, NodeOptions, Size, check_listen, parse_duration
from kamacache.registry import parse as parse_registry
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.group import Group
    from kamacache.net.lane import Lane
    from kamacache.registry import Registry

GOODBYE = 1.0  # seconds to leave


class Node(Grouping):
    """One member of a cluster, embedded in this process.

    `listen` is the address to serve peers on ("127.0.0.1:8001", "0.0.0.0:0", "unix:/run/app.sock"; None: what the
    registry needs, else no socket), `advertise` the one others use. `registry` says how nodes find each other: None
    (alone), "local://", "static://host:port,...", a URL of an installed registry, or a Registry. `weight` is this
    node's share of the keys beside others', `max_value` the size over which values are not kept, `loader_threads` how
    many plain loaders run at once for async callers and peers. `tls` (a TLS) encrypts, `password` is asked of whoever
    connects; `insecure=True` allows addresses beyond this machine without. `clock` and `lane` are for tests.

    Raises ConfigError. The node starts by itself at the first call that needs it; `start` waits until it has joined.
    """

    def __init__(
        self,
        listen: str | None = None,
        *,
        advertise: str | None = None,
        registry: str | Registry | None = None,
        service: str = "kamacache",
        weight: float = 1.0,
        max_value: Size = "4 MiB",
        loader_threads: int = 32,
        loader_queue: int = 10_000,
        tls: TLS | None = None,
        password: str | None = None,
        insecure: bool = False,
        clock: Clock | None = None,
        lane: Lane | None = None,
    ) -> None:
        options = NodeOptions.make(
            listen,
            advertise=advertise,
            registry=registry,
            service=service,
            weight=weight,
            max_value=max_value,
            loader_threads=loader_threads,
            loader_queue=loader_queue,
            tls=tls,
            password=password,
            insecure=insecure,
        )
        self._setup(options, clock, lane)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **defaults: Any) -> Self:
        """A node by KAMACACHE_LISTEN, _ADVERTISE, _REGISTRY, _SERVICE, _WEIGHT, _MAX_VALUE, … of the environment.

        Options given here hold where the environment says nothing.
        """
        node = cls.__new__(cls)
        options = NodeOptions.from_env(os.environ if environ is None else environ, **defaults)
        node._setup(options, None, None)  # noqa: SLF001
        return node

    def _setup(self, options: NodeOptions, clock: Clock | None, lane: Lane | None) -> None:
        from kamacache.net.native import NativeLane

        self._options = options
        self._clock = clock if clock is not None else Clock()
        self._registry = None if options.registry is None else parse_registry(options.registry)
        self._listen = options.listen
        self._groups: dict[str, Group[Any]] = {}
        self._closed = False
        self._forked = False
        self._live(lane or NativeLane(max_value=options.max_value, protection=options.protection))
        fork.keep(self)

    def _live(self, lane: Lane) -> None:
        """Begin a life: in the constructor, and again in a forked child."""
        from kamacache.runtime import Runtime
        from kamacache.serve.peers import Serving
        from kamacache.start import Start
        from kamacache.sweeper import Sweeper

        self.id = os.urandom(8).hex()
        options = self._options
        hlc = Hlc(self._clock, int(self.id, 16))
        self._runtime = Runtime(
            self._clock,
            hlc,
            lane,
            max_value=options.max_value,
            loader_threads=options.loader_threads,
            loader_queue=options.loader_queue,
        )
        self._meet()
        self._serving = Serving(self._runtime, self._groups, options)
        self._sweeper = Sweeper(self._groups)
        self._lock = threading.RLock()  # guards the groups and the start; never held while a peer is waited for
        self._start = Start(self._open, self._undo, lambda: self._closed, self._end, self.__repr__)
        self._ended = False
        self._bound: str | None = None
        self._address: str | None = None
        self._drained = Deadline(0.0)

    def _meet(self, near_ttl: float = 0.0) -> None:
        """Begin with no other members."""
        from kamacache.cluster.membership import Membership

        self._membership = Membership(
            Member(self.id, None, self._options.weight),
            self._runtime,
            self._registry,
            self._options.service,
            states=self._states,
            heard_of=self._heard_of,
            placed=self._placed,
        )
        self._membership.near_ttl = near_ttl
        self._runtime.membership = self._membership

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, register, and return when joined; after 5 s with a warning, and go on trying.

        Raises ConfigError (an address that cannot be bound or advertised), RegistryError, NodeClosed: then nothing of
        the start is left, and another may follow. Twice is fine.
        """
        thread.check_real()
        self._runtime.home.adopt_running()
        self._runtime.home.settle()
        self._start.run()

    async def astart(self) -> None:
        """See start."""
        import asyncio

        self._runtime.home.adopt_running()
        await asyncio.to_thread(self.start)

    def _open(self, deadline: Deadline) -> bool:
        """Bind, tell the membership who we are, and join. Return whether that was done by the deadline."""
        registry, lane, listen = self._registry, self._runtime.lane, self._listen
        if listen is None and registry is not None:
            listen = registry.default_listen(self._options.service, self.id)
            if listen is not None:
                check_listen(listen, protected=self._options.protected)
        if registry is not None or listen is not None:
            try:
                bound = lane.start(listen, self._serving.receive, deadline)
            except OSError as error:
                raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}") from error
            self._bound = bound
            if bound is not None:
                address = fork.advertised(self._options.advertise, bound, forked=self._forked)
                self._address = address if registry is None else registry.advertise(address)
        with self._lock:
            for group in self._groups.values():
                lane.serve(group._core.store)
            self._membership.me = Member(self.id, self._address, self._options.weight, tuple(self._groups))
        self._serving.publish(self._listen, self._address)
        joined = self._membership.start(deadline)
        self._sweeper.start()
        return joined

    def _undo(self) -> None:
        """Close what a start has opened that failed, and put new things in its place for another start."""
        self._membership.stop()
        self._membership.leave(Deadline.after(GOODBYE))
        lane = self._runtime.lane
        self._runtime.lane = lane.renewed()
        lane.close()
        self._membership.deregister()  # a second time: nothing listens any more
        self._sweeper.close()
        self._bound = self._address = None
        self._meet(self._membership.near_ttl)
        for name in list(self._groups):
            self._placed(name, self._membership.route(name))  # nobody is asked through the closed lane

    def _ensure(self) -> None:
        if not (self._start.done or self._closed) and (wait := self._autostart()) is not None:
            with suppress(TimeoutError):
                wait.run()

    async def _aensure(self) -> None:
        if self._start.done or self._closed:
            self._runtime.home.adopt_running()
        elif (wait := self._autostart()) is not None:
            with suppress(TimeoutError):
                await wait.arun()

    def _autostart(self) -> Wait | None:
        """Start a node that is alone at once, another on a thread. Return the step that waits for it."""
        thread.check_real()
        self._runtime.home.adopt_running()
        alone = self._registry is None and self._listen is None
        return self.start() if alone else self._start.begin()  # type: ignore[func-returns-value]

    def close(self, drain: Duration = "5s") -> None:
        """Send pending writes, say goodbye, finish what is served, for `drain` at most. NodeClosed from then on.

        In a signal handler that interrupts `start` it returns at once, and `start` closes the node instead.
        """
        deadline = Deadline.after(parse_duration(drain, name="drain"))
        with self._lock:
            if self._closed:
                return
            groups = list(self._groups.values())
        self._runtime.lane.ready(False)
        for group in groups:
            if not group._core.behind.flush(deadline):
                log.warning("writes of %r were still pending when the node was closed", group.name)
        with self._lock:
            if self._closed:
                return
            self._closed, self._drained = True, deadline
        for group in groups:
            group._core.store.close()  # after its goodbye a node hears of no write, so it serves nothing from memory
        self._membership.stop()  # a start that waits gives way
        if not self._start.is_here:
            self._start.stop(Deadline.after(GOODBYE))
            self._end()

    def _end(self) -> None:
        """Close everything that `close` has stopped."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
        self._membership.leave(Deadline.after(GOODBYE))
        self._serving.drain(self._drained)
        for group in list(self._groups.values()):
            group._core.close(NodeClosed("the node was closed"))
        self._serving.close()
        self._runtime.lane.close()
        self._runtime.close()
        self._sweeper.close()
        if self._registry is not None:
            self._registry.close()

    async def aclose(self, drain: Duration = "5s") -> None:
        """See close."""
        import asyncio

        await asyncio.to_thread(self.close, drain)

    def after_fork_in_child(self) -> None:
        """Become a new member: nothing of the parent's threads, sockets and locks is usable here."""
        if self._closed:
            return
        if self._registry is not None:
            self._registry.after_fork_in_child()
        self._listen = fork.free_address(self._listen)
        self._forked = True
        self._live(self._runtime.lane.renewed())
        self._renew()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.astart()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- who is there ------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str | None:
        """What others use to reach this node; None where it has no socket or has not started."""
        return self._address

    def members(self) -> list[Member]:
        """The registered members that this node does not hold for dead, itself first."""
        return self._membership.members()

    def owner(self, group: str, key: str) -> Member:
        """The member that owns a key, as this node sees it. UnknownGroup, InvalidKey."""
        check_key(key)
        if group not in self._groups:
            raise UnknownGroup(f"there is no group {group!r} on this node")
        peer = self._membership.route(group).first(key)
        return self._membership.me if peer is None else peer.member

    def __repr__(self) -> str:
        if "_start" not in vars(self):  # its constructor has raised: what shows the locals of a traceback comes here
            return super().__repr__()
        state = "closed" if self._closed else self._address or ("alone" if self._registry is None else "not started")
        return f"<kamacache.Node {self._options.service!r} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Node cannot be pickled: make one in each process; processes of one service find each other")

    def _regroup(self, change: Callable[[Lane], None]) -> None:
        """Under the lock: the groups have changed, and so has what this node serves and owns."""
        if self._address is not None or self._start.done:
            change(self._runtime.lane)
            self._membership.announce(tuple(self._groups))
