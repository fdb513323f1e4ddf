"""A node: one member of a cluster. It has the groups, and lends them the network, the members and the threads.

Its parts are imported when a node is made, so that importing the package costs little.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, Self

from kamacache import fork, thread
from kamacache._engine import Clock, Hlc
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError
from kamacache.everywhere import EverywhereMethods
from kamacache.groups import Cores, Groups, View
from kamacache.log import log
from kamacache.member import Member
from kamacache.net.security import TLS
from kamacache.options import NodeOptions
from kamacache.origin import Origin, warn_of_twins
from kamacache.registry import Registry, parse
from kamacache.shares import Shares
from kamacache.start import GOODBYE, Start
from kamacache.steps import Wait
from kamacache.units import Duration, Size, parse_duration

if TYPE_CHECKING:
    from kamacache.net.lane import Lane
else:  # for typing.get_type_hints; the module is imported when a node is made
    Lane = Any


class Node(EverywhereMethods):
    """Embed one member of a cluster in this process.

    - `listen`: the address to serve other nodes on: "127.0.0.1:8001", "0.0.0.0:0", "unix:/run/app.sock". None: what
      the registry needs, else no socket.
    - `advertise`: the address that others use to reach this node. None: the one it listens on.
    - `registry`: how nodes find each other: "local://", "static://host:port,...", "dns://name:port",
      "kubernetes://service:port", "etcd://host:port", another URL, or a Registry. None: the node is alone.
    - `service`: the name that the nodes of one cluster share.
    - `weight`: this node's share of the keys; 2.0 owns twice the keys of 1.0.
    - `max_bytes`: the memory of all groups together, divided by use; each has its own max_bytes at most. None: the sum.
    - `max_value`: the size over which a value is not kept, in bytes or as text.
    - `loader_threads`: how many plain loaders run at once for async callers and other nodes.
    - `loader_queue`: how many loads of async callers may wait for one of these threads; more raise Overloaded.
    - `tls`: the TLS that encrypts connections; `password`: what every connection must give, or a
      list: the first is sent, the others are taken too, while a new one comes in. None: without.
    - `insecure`: True allows addresses that other machines reach without `tls` and `password`.
    - `client`: True for a client node, in a script, a task or a notebook: it owns no keys and loads for no other. It
      needs no loader; one that it has is called when no member answers.
    - `context`: ContextVars whose values, if they are JSON, travel with a get to a loader on another node, which finds
      them set. Give all nodes the same.
    - `clock`, `lane`: for tests.

    The node starts by itself at the first call that needs it; `start` also waits until it has joined. Close it, or use
    it as a context manager: a node that is dropped without close() warns and closes itself. A copy is the node itself.

    Raises ConfigError for an option that cannot be.
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
        password: str | Sequence[str] | None = None,
        insecure: bool = False,
        client: bool = False,
        max_bytes: Size | None = None,
        context: Sequence[ContextVar[Any]] = (),
        clock: Clock | None = None,
        lane: Lane | None = None,
    ) -> None:
        options = NodeOptions.make(
            *(listen, advertise, registry, service, weight, max_value, loader_threads, loader_queue),
            *(tls, password, insecure, client, max_bytes, context),
        )
        self._setup(options, clock, lane)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **defaults: Any) -> Self:
        """Return a node with the options that the environment names.

        - `environ`: the variables; None: os.environ. KAMACACHE_LISTEN and so on are the options of Node by name, but
          for _TLS_CERT, _TLS_KEY and _TLS_CA. KAMACACHE_REGISTRY=none means alone.
        - `defaults`: options of Node, each used if its variable is not set.

        Raises ConfigError for an option that cannot be.
        """
        node = cls.__new__(cls)
        options = NodeOptions.from_env(os.environ if environ is None else environ, **defaults)
        node._setup(options, None, None)  # noqa: SLF001
        return node

    def _setup(self, options: NodeOptions, clock: Clock | None, lane: Lane | None) -> None:
        from kamacache.net.native import NativeLane
        from kamacache.serve.meters import observe

        self._options = options
        self._origin = Origin.here()
        self._clock = clock if clock is not None else Clock()
        self._find_registry()
        self._listen = options.listen
        self._forked = False
        shares, hooks = Shares(options.max_bytes), (self._ensure, self._aensure, self._is_open)
        self._groups = Groups(self._clock, shares, *hooks)
        self._live(
            lane or NativeLane(max_value=options.max_value, protection=options.protection, service=options.service)
        )
        if self._registry is not None:
            warn_of_twins(self, list(fork.nodes))
        fork.nodes.add(self)
        observe(self)

    def _find_registry(self) -> None:
        self._registry = None if self._options.registry is None else parse(self._options.registry)
        if self._registry is not None and self._options.client:
            self._registry.client = True

    def _live(self, lane: Lane) -> None:
        """Begin a life: in the constructor, again in a forked child, and when a closed node is started.

        It has new parts, with empty stores. What is left of a life before has its own, which stay closed.
        """
        from kamacache.runtime import Runtime
        from kamacache.serve.peers import Serving
        from kamacache.sweeper import Sweeper

        self.id = os.urandom(8).hex()
        options, cores = self._options, Cores()
        self._view = view = View(cores)
        self._runtime = Runtime(self._clock, Hlc(self._clock, int(self.id, 16)), lane, options)
        self._meet()
        self._serving = Serving(self._runtime, view, options)
        self._sweeper = Sweeper(view, self._groups.shares, self._runtime.history)
        self._bound: str | None = None
        self._listens: str | None = None
        self._address: str | None = None
        self._drained = Deadline(0.0)
        self._lock = self._groups.lock  # guards the lives too
        self._groups.live(cores, self._runtime, self._membership)
        self._start = Start(self)

    def _meet(self) -> None:
        """Make a membership that knows no peers."""
        from kamacache.cluster.membership import Membership

        options = self._options
        me = Member(self.id, None, options.weight, client=options.client)
        self._membership = Membership(me, self._runtime, self._registry, options.service, self._view)
        self._runtime.membership = self._membership

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, register, and return when the node has joined, or after 5 s with a warning; it goes on trying.

        A second call does nothing. After close, it begins a new life of the node, as a new member: with the same groups
        and loaders, but without entries, and counters begin at zero. It waits for a close that is under way.

        Raises ConfigError (an address that cannot be bound or advertised), RegistryError, NodeClosed if the node is
        closed meanwhile or the process ends; then nothing of the start is left, and start may be called again.
        """
        thread.check_real()
        fork.revive(self)
        self._runtime.home.adopt_running()
        self._runtime.home.settle()
        self._start.run()

    async def astart(self) -> None:
        """Do what start does, on a thread."""
        import asyncio

        if self._closed:
            await asyncio.to_thread(fork.revive, self)
        self._runtime.home.adopt_running()
        await asyncio.to_thread(self.start)

    def _open(self, deadline: Deadline) -> bool:
        """Listen, tell the membership the address, and join. Return whether that was done by the deadline."""
        from kamacache.registry import given

        fork.close_in_children()
        registry, lane, listen = self._registry, self._runtime.lane, self._listen
        if listen is None and registry is not None:
            listen = given.listen_address(registry, self._options, self.id)
        self._listens = listen
        self._groups.check_codecs(self._options, listen)
        if registry is not None or listen is not None:
            try:
                bound = lane.start(listen, self._serving.receive, deadline)
            except OSError as error:
                raise ConfigError(f"cannot listen on {listen}: {error.strerror or error}") from error
            self._bound = bound
            address = bound and fork.advertised(self._options.advertise, bound, forked=self._forked)
            self._address = address if registry is None else given.own_address(registry, self._options, address)
        with self._lock:
            for core in self._groups.cores.values():
                lane.serve(core.store)
            self._membership.me = self._membership.me._replace(
                address=self._address, groups=tuple(self._groups), loads=self._groups.loads
            )
        self._serving.publish(self._listen, self._address)
        joined = self._membership.start(deadline)
        self._sweeper.start()
        return joined

    def _ensure(self) -> None:
        if not (self._start.done or self._start.closed) and (wait := self._autostart()) is not None:
            with suppress(TimeoutError):
                wait.run()

    async def _aensure(self) -> None:
        if self._start.done or self._start.closed:
            self._runtime.home.adopt_running()
        elif (wait := self._autostart()) is not None:
            with suppress(TimeoutError):
                await wait.arun()

    def _autostart(self) -> Wait | None:
        """Start the node: at once if it is alone, else on a thread. Return the step that waits for that."""
        thread.check_real()
        self._runtime.home.adopt_running()
        alone = self._registry is None and self._listen is None
        return self.start() if alone else self._start.begin()  # type: ignore[func-returns-value]

    def close(self, drain: Duration = "5s") -> None:
        """Send pending writes, hand over what this node owns, say goodbye, and finish what others wait for.

        All that takes at most `drain`, the goodbye a second more if a member is frozen; what is left then is lost.
        The next owners get the values that were used last first, with their versions and their remaining time.

        All calls raise NodeClosed from then on, those that wait too, until `start` begins a new life. In a signal
        handler that interrupts `start`, close returns at once, and `start` closes the node.
        """
        deadline = Deadline.after(parse_duration(drain, name="drain"))
        with self._lock:
            life, lane = self._start, self._runtime.lane
            if life.closed:
                return
            cores = list(self._groups.cores.values())
        lane.ready(False)
        for core in cores:
            if not core.behind.flush(deadline):
                text = "pending writes of %(group)r were not sent before the node was closed; raise drain="
                log.warning(text, group=core.name)
        with self._lock:
            if life.closed:
                return
            life.closer, self._drained, life.closed = get_ident(), deadline, True
        try:
            if life.done:
                peers = self._membership.peers
                self._membership.hand_over(deadline, lambda: fork.is_replaced(peers.parted))
            for core in cores:
                core.store.close()  # after its goodbye it is not notified of writes, so it must serve nothing
            self._membership.stop()  # ends a start that waits
            if not life.is_here:
                life.stop(Deadline.after(GOODBYE))
        finally:
            if not life.is_here:
                life.end()

    async def aclose(self, drain: Duration = "5s") -> None:
        """Do what close does, on a thread."""
        import asyncio

        await asyncio.to_thread(self.close, drain)

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

    @property
    def _closed(self) -> bool:
        return self._start.closed

    @property
    def address(self) -> str | None:
        """The address that others use to reach this node; None if it has no socket or has not started."""
        return self._address

    def members(self) -> list[Member]:
        """Return the registered members that this node does not consider dead, itself first, client nodes included."""
        return self._membership.members()

    def __repr__(self) -> str:
        if "_start" not in vars(self):  # its constructor has raised, and a traceback shows its locals
            return super().__repr__()
        idle = "alone" if self._registry is None else "not started"
        return f"<kamacache.Node {self._options.service!r} {'closed' if self._closed else self._address or idle}>"

    def __deepcopy__(self, _: object = None) -> Self:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Node cannot be pickled: make one in each process; processes of one service find each other")

    def __del__(self) -> None:
        if self._is_open():
            fork.drop(self)

    def _is_open(self) -> bool:
        """Return whether others can see what this node serves and owns."""
        return "_start" in vars(self) and not self._closed and (self._start.done or self._address is not None)
