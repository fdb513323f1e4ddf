"""The members of the service: owners, listeners, hellos, probes.

*Owners* are the registered members that can load a group; see routes.py. The placement depends on them alone, so equal
views give equal tables. *Listeners* must be notified of writes: see contact.py, which also says what members have
missed. Client nodes are listeners, and never owners. A hello makes its sender known before a list shows it.

One thread of the node reads the registry, sends hellos and probes, and builds tables; no request waits for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import join, monotonic
from kamacache.bell import Bell
from kamacache.cluster.contact import Standstill
from kamacache.cluster.exchange import HELLO_TIMEOUT, PROBE_INTERVAL, Exchange
from kamacache.cluster.handover import HandOver
from kamacache.cluster.peers import Peer, Peers
from kamacache.cluster.routes import Route, Routes
from kamacache.cluster.troubles import Troubles
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, KamaCacheError, RegistryError, UnknownGroup
from kamacache.log import log
from kamacache.net.messages import Hello, Member, WriteReply
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.groups import View
    from kamacache.registry.base import Registry
    from kamacache.runtime import Runtime

AWAY = "the registry does not answer"
UNREGISTERED = "could not register"
_FAILED = "the members could not be brought up to date"
_BACK = 3.0  # seconds in which members register anew once the registry is back: it may have lost what it knew
_QUICK = 50  # members whose table is built in some milliseconds


class Membership:
    """The members as this node sees them: `peers` holds what is known of each, `_routes` who owns each group.

    Invariant, under `_lock`: `_registered` is True only if the registry was given the present `me`.
    """

    def __init__(self, me: Member, runtime: Runtime, registry: Registry | None, service: str, groups: View) -> None:
        self.me = me
        self.joined = False
        self.single = registry is None  # it never has members
        self.clients: list[str] = []  # addresses that the registry lists beside the members, to be shown
        self.near_ttl = 0.0  # the longest of all groups here
        self.troubles = Troubles()
        notices, sees = (True, False) if registry is None else (registry.notices_deaths, registry.sees_ends)
        self.peers = Peers(runtime.lane.contacts, notices_deaths=notices, sees_ends=sees)
        self._routes = Routes(runtime.clock, self._placed, client=me.client)
        self._handing = HandOver(self, runtime, groups)
        self._retiring = False
        self._retired = Bell()
        self._runtime = runtime
        self._registry = registry
        self._service = service
        self._groups = groups
        self._lock = threading.Lock()
        self._registered = False
        self._away = -math.inf  # when the registry last did not answer
        self._standstill = Standstill(runtime.lane.contacts, 0.0 if registry is None else registry.lease)
        self._everyone: list[Member] = []
        self._wake = Bell()
        self._exchange = Exchange(self, runtime, groups)
        self._settled = Bell()  # joined, or closing
        self.stopped = False
        self._thread: threading.Thread | None = None

    # -- for requests ------------------------------------------------------------------------------------------------

    def route(self, group: str) -> Route:
        """Return the owners of a group's keys."""
        return self._routes.get(group)

    def listeners(self) -> tuple[Peer, ...]:
        """Return the peers that must be notified of a write."""
        return self.peers.listeners(self._silence)

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
            self._exchange.again()
        self._wake.ring()

    def doubt(self, peer: Peer, error: Exception) -> None:
        """Skip a peer that did not answer a get in time, until it answers a ping: now. Pings decide whether it is dead.

        A peer that only had no time, as on a busy machine, is still notified of writes, and needs no hello afterwards.
        """
        if isinstance(error, UnknownGroup) or getattr(error, "refused", False) or getattr(error, "denied", False):
            self.suspect(peer, error)
        elif self.peers.doubt(peer):
            self._exchange.again()
            self._wake.ring()

    def everyone(self) -> list[Member]:
        """Return this node, if it is registered, and the registered members."""
        mine = [self.me] if self._registered and not (self.me.client or self.me.leaving) else []
        return mine + [peer.member for peer in self.peers.registered()]

    def refusal(self) -> WriteReply:
        """Return the answer to a peer that takes this node for the owner of what it does not own."""
        hlc = self._runtime.hlc
        return WriteReply([], refused=True, clock=hlc.latest(), members=self.everyone(), now_ms=hlc.now_ms())

    def learn(self, refusal: WriteReply) -> None:
        """Take in time and members as another one knows them. The registry is read now, and has the last word."""
        self._runtime.hlc.heard(refusal.now_ms)
        self.peers.introduced(refusal.members)
        self._build()
        self._wake.ring()

    def refresh(self) -> None:
        """Read the list now, because a peer has another view."""
        self._wake.ring()

    @property
    def _silence(self) -> int:
        """Probes that a peer has left unanswered when no copy of its memory is served any more."""
        registry = self._registry
        lease = 0.0 if registry is None or registry.notices_deaths else registry.lease
        return math.ceil((self.near_ttl + lease) / PROBE_INTERVAL) + 1

    # -- the life of the thread --------------------------------------------------------------------------------------

    def start(self, deadline: Deadline) -> bool:
        """Read the list, register, read it again, greet its members. Return whether that was done by the deadline.

        The thread goes on with what is left.
        """
        self.peers.own = self.me.address
        self._runtime.lane.contacts.name(self.me.id, self._runtime.hlc)
        self._runtime.lane.stood = self._wake.ring
        if self._registry is None:
            self.joined = True
            self._build()
            self._runtime.lane.ready(True)
            return True
        if self.stopped:
            return False
        self._read()
        self._build()  # a peer that finds this node in the list may call at once
        try:
            self._register()
        except (RegistryError, ConfigError):  # for the caller; all others mean that it cannot be reached now
            raise
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self.troubles.note(UNREGISTERED, error)
        self._runtime.lane.watch()
        self._thread = thread.start("kamacache-members", self._run)
        self._settled.wait(deadline)
        return self.joined

    def greeted_by(self, hello: Hello) -> Hello:
        """Take in a peer's hello or goodbye, and return the hello of this node.

        The sender is already registered. The table has it before the answer goes out, so that all members agree on
        ownership when it joins. Only large tables take too long for that.
        """
        self._exchange.take_in(hello)
        if len(self.peers) <= _QUICK:
            self._build()
        self._wake.ring()
        return self._exchange.hello(hello.member.id)

    def announce(self, **changes: Any) -> None:
        """Change fields of this node's member, and tell the registry and every member so."""
        with self._lock:
            self.me, self._registered = self.me._replace(revision=self.me.revision + 1, **changes), False
        self.peers.greet()
        self._build()
        self._wake.ring()

    def _placed(self, name: str, route: Route) -> None:
        if self._groups.placed(name, route) and not self.me.leaving:
            self._handing.begin()

    def hand_over(self, deadline: Deadline, is_replaced: Callable[[], bool]) -> None:
        """Give up all keys, and hand over what is here to their next owners; see handover.py.

        If there are none, wait for them if this node `is_replaced`. One without entries does it too: it gets none then.
        """
        others = any(not peer.dead for peer in self.peers.all()) or is_replaced()
        if not others or self._thread is None or self.me.client or deadline.passed:
            return
        self._retiring = True
        self._wake.ring()
        if self._retired.wait(deadline):
            self._handing.finish(deadline, is_replaced)

    def _retire(self) -> None:
        self.announce(leaving=True)
        self._exchange.greet()  # before the registry says so, as a hello brings the clock
        self._retired.ring()

    def stop(self) -> None:
        """End the thread, and a start that waits."""
        self.stopped = True
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
            text = "could not deregister: %(error)s; other nodes skip this one when it does not answer"
            log.warning(text, error=error)

    def _run(self) -> None:
        assert self._registry is not None  # noqa: S101 - start made this thread
        while not self.stopped:
            try:
                self.tick()
            except Exception as error:  # noqa: BLE001 - this thread must go on
                self.troubles.note(_FAILED, error)
            else:
                self.troubles.mended(_FAILED, "the members are up to date again")
            self._wake.wait(Deadline.after(self._registry.poll))

    def tick(self) -> None:
        """Register, read the list, probe, greet, and rebuild what changed."""
        standstill = self._standstill
        if standstill.look():  # before the list is read
            with self._lock:
                self._registered = False
            self.peers.greet()
        if self._retiring and not self.me.leaving:
            self._retire()
        if not self._registered:
            try:
                self._register()
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                self.troubles.note(UNREGISTERED, error)
            else:
                self.troubles.mended(UNREGISTERED, "registered")
        listed = self._read()
        if standstill.number and self._exchange.went_on(listed and self._registered, joins=standstill.dropped):
            self._build()  # before anything is ordered here: a member that is back owns its keys
            standstill.over()
        self._build()  # at once: probing and greeting may take a while
        self._exchange.probe()  # before greeting: no write waits any more for a peer that is found to be gone
        self._exchange.greet()
        for peer in self.peers.forget(self._silence):
            self._runtime.lane.forget(peer.address, finishing=peer.left)
            self._exchange.forget(peer)
        self._build()
        listed &= monotonic() > self._away + _BACK  # else others may not be registered yet
        if listed and self._registered and not self.joined and self.peers.settled():
            self.joined = True
            for core in self._groups.values():
                join(core.store)
            text = "this node, %(node)s at %(address)s, has joined the service %(service)r with %(count)s other members"
            me, count = self.me, len(self.members()) - 1
            log.info(text, node=me.id, address=me.address, service=self._service, count=count)
            self._runtime.lane.ready(not self.me.leaving)
            self._settled.ring()

    def _register(self) -> None:
        assert self._registry is not None  # noqa: S101 - only called with one
        with self._lock:
            me, self._registered = self.me, True
        try:
            self._exchange.call_oneself()
            self._registry.register(self._service, me, self._wake.ring)
        except BaseException:
            with self._lock:
                self._registered = False
            raise

    def _read(self) -> bool:
        """Read the list of the registry. If that fails, go on with the members known."""
        assert self._registry is not None  # noqa: S101 - only called with one
        try:
            listed = self._registry.members(self._service)
            lost = self.peers.remaining(self._registry.lost(self._service), self._registry.drop)
            self.peers.listed([*listed, *lost], self._registry.is_dead)
            self.clients = self._registry.clients(self._service)
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self.troubles.note(AWAY, error)
            self._away = monotonic()
            return False
        self.troubles.mended(AWAY, "the registry answers again")
        return True

    def _build(self) -> None:
        self._routes.build(lambda: (self.me, self.peers.registered(), self.peers.take_turned()))
        if (everyone := self.everyone()) != self._everyone:
            self._everyone = everyone
            self._runtime.lane.contacts.know(everyone)
