"""The members of the service: owners, listeners, hellos, probes.

*Owners* are the registered members that can load a group; see routes.py. The placement depends on them alone, so equal
views give equal tables. *Listeners* must be notified of writes: all peers but those that said goodbye, refused the
connection, or were silent for longer than the lease of the registry and the longest near_ttl. Client nodes are
listeners, and never owners. A hello makes its sender known before a list shows it, and the answer brings the writes
that the sender missed.

One thread of the node reads the registry, sends hellos and probes, and builds tables; no request waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache.bell import Bell
from kamacache.cluster.differences import Differences
from kamacache.cluster.peers import Peer, Peers
from kamacache.cluster.routes import Route, Routes
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, KamaCacheError, PeerError, RegistryError, UnknownGroup
from kamacache.net.messages import Hello, Member
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.groups import View
    from kamacache.registry.base import Registry
    from kamacache.runtime import Runtime

log = logging.getLogger("kamacache")

PROBE_INTERVAL = 1.0  # seconds
HELLO_TIMEOUT = 1.0  # seconds
AWAY = "the registry does not answer"
UNREGISTERED = "could not register"
_FAILED = "the members could not be brought up to date"
_DENIED = "no trust between this node and "
_QUICK = 50  # members whose table is built in some milliseconds
_STOPPED = 1.0  # seconds by which a wait is late if this process stood still


class Membership:
    """The members as this node sees them: `peers` holds what is known of each, `_routes` who owns each group.

    Invariant, under `_lock`: `_registered` is True only if the registry was given the present `me`.
    """

    def __init__(self, me: Member, runtime: Runtime, registry: Registry | None, service: str, groups: View) -> None:
        self.me = me
        self.joined = False
        self.clients: list[str] = []  # addresses that the registry lists beside the members, to be shown
        self.near_ttl = 0.0  # the longest of all groups here
        self.peers = Peers(runtime.clock)
        self._routes = Routes(runtime.clock, groups.placed, client=me.client)
        self._runtime = runtime
        self._registry = registry
        self._service = service
        self._groups = groups
        self._lock = threading.Lock()
        self._registered = False
        self._troubles: dict[str, str] = {}
        self._differences = Differences()
        self._wake = Bell()
        self._settled = Bell()  # joined, or closing
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._probed: float | None = None  # when the members were last probed; None: probe them now

    # -- for requests ------------------------------------------------------------------------------------------------

    def route(self, group: str) -> Route:
        """Return the owners of a group's keys."""
        return self._routes.get(group)

    def listeners(self) -> list[Peer]:
        """Return the peers that must be notified of a write."""
        return self.peers.listeners(self._silence) if len(self.peers) else []

    def members(self) -> list[Member]:
        """Return the registered members that are not considered dead, this node first."""
        return [self.me, *(peer.member for peer in self.peers.registered() if not peer.dead)]

    def owner(self, group: str, key: str) -> Member | None:
        """Return the member that owns a key or stands in for its owner; None if no member can own it."""
        route = self.route(group)
        peer = route.first(key)
        if peer is None and not route.is_candidate(key):  # all are considered dead
            peer = next(iter(route.candidates(key)), None)
            return None if peer is None else peer.member
        return self.me if peer is None else peer.member

    def suspect(self, peer: Peer, error: Exception) -> None:
        """Skip a peer that did not answer a request, until a probe finds it alive."""
        if isinstance(error, UnknownGroup):  # it is alive, and has other groups than this node believes
            self.peers.greet(peer)
        elif self.peers.died(peer, error):
            self._probed = None
        self._wake.ring()

    def refresh(self) -> None:
        """Read the list now, because a peer has another view."""
        self._wake.ring()

    @property
    def _silence(self) -> float:
        """Seconds of silence after which a peer is no listener any more."""
        return self.near_ttl + (self._registry.lease if self._registry is not None else 0.0)

    def troubles(self) -> dict[str, str]:
        """Return what has failed and is tried again, with the error of each."""
        return dict(self._troubles)

    # -- the life of the thread --------------------------------------------------------------------------------------

    def start(self, deadline: Deadline) -> bool:
        """Read the list, register, read it again, greet its members. Return whether that was done by the deadline.

        The thread goes on with what is left.
        """
        self.peers.own = self.me.address
        if self._registry is None:
            self.joined = True
            self._build()
            self._runtime.lane.ready(True)
            return True
        if self._stopped:
            return False
        self._read()
        self._build()  # a peer that finds this node in the list may call at once
        try:
            self._register()
        except (RegistryError, ConfigError):  # for the caller; all others mean that it cannot be reached now
            raise
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self._trouble(UNREGISTERED, error)
        self._thread = thread.start("kamacache-members", self._run)
        self._settled.wait(deadline)
        return self.joined

    def announce(self, groups: tuple[str, ...], loads: tuple[str, ...]) -> None:
        """Tell the registry and every member that the groups of this node, or those that it can load, have changed."""
        with self._lock:
            self.me = self.me._replace(groups=groups, loads=loads)
            self._registered = False
        self.peers.greet()
        self._build()
        self._wake.ring()

    def stop(self) -> None:
        """End the thread, and a start that waits."""
        self._stopped = True
        self._settled.ring()
        self._wake.ring()

    def leave(self, deadline: Deadline) -> None:
        """Say goodbye and deregister, once stopped."""
        if self._registry is None:
            return
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(deadline.sooner(HELLO_TIMEOUT / 2).left())
        goodbye = Hello(self.me, self._runtime.hlc.latest(), [], leaving=True)
        call, until = self._runtime.lane.call, deadline.sooner(HELLO_TIMEOUT / 2)
        calls = [call(peer.address, goodbye, until) for peer in self.peers.all() if not peer.dead]
        self.deregister()
        for one in calls:
            with suppress(KamaCacheError, TimeoutError):  # its probes will find out
                Wait(one, until).run()

    def deregister(self) -> None:
        """Remove the registration, if there is one."""
        try:
            if self._registry is not None:
                self._registry.deregister()
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            log.warning("could not deregister: %s; other nodes skip this one when it does not answer", error)

    def _run(self) -> None:
        assert self._registry is not None  # noqa: S101 - start made this thread
        while not self._stopped:
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - this thread must go on
                self._trouble(_FAILED, error)
            else:
                self._mended(_FAILED, "the members are up to date again")
            before = time.monotonic()
            self._wake.wait(Deadline.after(self._registry.poll))
            if time.monotonic() - before > self._registry.poll + _STOPPED:
                log.info("this process was stopped for a while; it requests the writes that it missed")
                self.peers.greet()

    def tick(self) -> None:
        """Register, read the list, probe, greet, and rebuild what changed."""
        if not self._registered:
            try:
                self._register()
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                self._trouble(UNREGISTERED, error)
            else:
                self._mended(UNREGISTERED, "registered")
        listed = self._read()
        self._build()  # at once: probing and greeting may take a while
        now = time.monotonic()  # not the node's clock, which a test may stop
        if self._probed is None or now - self._probed >= PROBE_INTERVAL:
            self._probed = now
            self._probe()  # before greeting: no write waits any more for a peer that is found to be gone
        self._greet()
        for peer in self.peers.forget(self._silence):
            self._runtime.lane.forget(peer.address, finishing=peer.left)
            self._troubles.pop(_DENIED + peer.address, None)
            self._differences.forget(peer.id)
        self._build()
        if listed and self._registered and not self.joined and self.peers.settled():
            self.joined = True
            self._runtime.lane.ready(True)
            self._settled.ring()

    def _register(self) -> None:
        assert self._registry is not None  # noqa: S101 - only called with one
        with self._lock:
            me, self._registered = self.me, True
        try:
            self._registry.register(self._service, me, self._wake.ring)
        except BaseException:
            with self._lock:
                self._registered = False
            raise

    def _read(self) -> bool:
        """Read the list of the registry. If that fails, go on with the members known."""
        assert self._registry is not None  # noqa: S101 - only called with one
        try:
            self.peers.listed(self._registry.members(self._service))
            self.clients = self._registry.clients(self._service)
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self._trouble(AWAY, error)
            return False
        self._mended(AWAY, "the registry answers again")
        return True

    def _trouble(self, what: str, error: Exception) -> None:
        """Warn once, however often it is tried, until it is mended."""
        known, self._troubles[what] = what in self._troubles, str(error)
        if known:
            return
        strange = not isinstance(error, KamaCacheError | OSError)  # perhaps a mistake in a registry of the user's
        log.warning("%s: %s; this node tries again until it works", what, error, exc_info=error if strange else None)

    def _mended(self, what: str, now: str) -> None:
        if self._troubles.pop(what, None) is not None:
            log.info("%s", now)

    def _build(self) -> None:
        self._routes.build(lambda: (self.me, self.peers.registered(), self.peers.take_revived()))

    # -- hello and probes --------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """Return what this node says of itself."""
        return Hello(self.me, self._runtime.hlc.latest(), self._groups.states())

    def greeted_by(self, hello: Hello) -> Hello:
        """Take in a peer's hello or goodbye, and return the hello of this node.

        The sender is already registered. The table has it before the answer goes out, so that all members agree on
        ownership when it joins. Only large tables take too long for that.
        """
        self._note(hello, answered=False)
        if len(self.peers) <= _QUICK:
            self._build()
        self._wake.ring()
        return self.hello()

    def _greet(self) -> None:
        """Say hello to each peer that has not answered one yet."""
        peers = self.peers.ungreeted()
        if not peers:
            return
        mine = self.hello()
        deadline = Deadline.after(HELLO_TIMEOUT)
        calls = [(peer, self._runtime.lane.call(peer.address, mine, deadline)) for peer in peers]
        for peer, call in calls:
            try:
                answer: Hello = Wait(call, deadline).run()
            except (KamaCacheError, TimeoutError) as error:
                self._unanswered(peer, error)
            else:
                self._note(answer, answered=True)
                if mine.member is self.me:  # else the groups of this node have changed since
                    self.peers.greeted(peer)
                    self._mended(_DENIED + peer.address, f"{peer.address} answers again")

    def _note(self, hello: Hello, *, answered: bool) -> None:
        """Take in what a hello says: its member, its clock, the writes it knows."""
        good = self._runtime.saw(hello.clock)
        if hello.member.address in (None, self.me.address):
            return
        clock = f"the clock of {hello.member.address} is wrong, or this node's"
        if not good:
            self._trouble(clock, PeerError("it is more than a day ahead; writes that it orders are not taken in here"))
        else:
            self._mended(clock, f"the clocks of {hello.member.address} and this node agree again")
        silent = self.peers.heard(hello.member, leaving=hello.leaving, answered=answered)
        for state in hello.groups:
            if (core := self._groups.get(state.name)) is not None:
                self._differences.look(self.me, core.shown(), hello.member, state)
                core.heard_of(state, silent)

    def _probe(self) -> None:
        """Ping all peers at once, so that the silence of one delays no other."""
        peers = self.peers.all()
        for peer, error in zip(peers, self._runtime.lane.ping_many([peer.address for peer in peers]), strict=True):
            if error is not None:
                self._unanswered(peer, error)
            elif self.peers.answered(peer):  # it is back, and alive once its answer to a hello has said what it missed
                self._wake.ring()

    def _unanswered(self, peer: Peer, error: Exception) -> None:
        if getattr(error, "denied", False):
            self._trouble(_DENIED + peer.address, error)
        self.peers.unanswered(peer, error)
        if not peer.dead:
            self._probed = None  # ask again at once
            self._wake.ring()
