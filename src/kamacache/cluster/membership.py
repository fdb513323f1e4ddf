"""Who is there: owners, listeners, hello, probes.

*Owners* are the registered members that have a group; the placement depends on them alone, so that equal views give
equal tables. *Listeners* are to be told of writes: everyone seen who has not said goodbye, refused the connection, or
been silent for longer than the registry's lease and the longest near_ttl. A hello makes a member known to the one it
greets before any list shows it, and its answer brings the writes that the new member was not told of.

One thread of the node reads the registry, sends hellos and probes, and builds tables; no request waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache.bell import Bell
from kamacache.cluster.peers import Peer, Peers
from kamacache.cluster.routes import Route, Routes
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, KamaCacheError, RegistryError, UnknownGroup
from kamacache.net.messages import GroupState, Hello, Member
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.registry.base import Registry
    from kamacache.runtime import Runtime

log = logging.getLogger("kamacache")

PROBE_INTERVAL = 1.0  # seconds
HELLO_TIMEOUT = 1.0  # seconds
AWAY = "the registry does not answer"
UNREGISTERED = "could not register"
_DENIED = "no trust between this node and "
_QUICK = 50  # members whose table is built in some milliseconds
_STOPPED = 1.0  # seconds that a wait took longer than asked for, after which this process must have stood still


class Membership:
    """The members as this node sees them; `peers` holds what is known of each, `_routes` what follows for each group.

    Invariant, under `_lock`: `_registered` says that the registry was given `me` as it is.
    """

    def __init__(
        self,
        me: Member,
        runtime: Runtime,
        registry: Registry | None,
        service: str,
        *,
        states: Callable[[], list[GroupState]],
        heard_of: Callable[[GroupState, float], None],
        placed: Callable[[str, Route], None],
    ) -> None:
        self.me = me
        self.joined = False
        self.clients: list[str] = []  # addresses that the registry lists beside the members, to be shown
        self.near_ttl = 0.0  # the longest of all groups here
        self._peers = Peers(runtime.clock)
        self._routes = Routes(runtime.clock, placed)
        self._runtime = runtime
        self._registry = registry
        self._service = service
        self._states = states
        self._heard_of = heard_of
        self._lock = threading.Lock()
        self._registered = False
        self._troubles: dict[str, str] = {}
        self._wake = Bell()
        self._settled = Bell()  # joined, or closing
        self._ended = Bell()  # has stopped
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._probed: float | None = None  # when the members were last probed; None: they are to be now

    # -- what the request paths ask ----------------------------------------------------------------------------------

    def route(self, group: str) -> Route:
        """Who owns the keys of a group."""
        return self._routes.get(group)

    def listeners(self) -> list[Peer]:
        """Everyone who must be told of a write."""
        return self._peers.listeners(self._silence)

    def members(self) -> list[Member]:
        """Registered and not held for dead; this node first."""
        return [self.me, *(peer.member for peer in self._peers.registered() if not peer.dead)]

    def known(self) -> list[Peer]:
        """Everyone seen and not yet forgotten, the dead and the leaving included."""
        return self._peers.known()

    def by_id(self, ids: Iterable[str]) -> dict[str, Peer]:
        """Those of these members that are known here."""
        return self._peers.by_id(ids)

    def suspect(self, peer: Peer, error: Exception) -> None:
        """A peer did not answer a request: pass over it until a probe says that it is alive."""
        if isinstance(error, UnknownGroup):  # alive: its groups are others than we think
            self._peers.greet(peer)
        elif self._peers.died(peer, error):
            log.info("%s is held for dead: %s", peer.address, error)
            self._probed = None
        self._wake.ring()

    def refresh(self) -> None:
        """Views differ: read the list again now, without waiting for it."""
        self._wake.ring()

    @property
    def _silence(self) -> float:
        """Seconds after which a member that was not heard of is no listener any more."""
        return self.near_ttl + (self._registry.lease if self._registry is not None else 0.0)

    def troubles(self) -> dict[str, str]:
        """What has failed, and is tried again, with the error of each."""
        return dict(self._troubles)

    # -- the life of the thread --------------------------------------------------------------------------------------

    def start(self, deadline: Deadline) -> bool:
        """Read the list, register, read it again, greet everyone. Return whether that was done in time; it goes on."""
        self._peers.own = self.me.address
        if self._registry is None:
            self.joined = True
            self._build()
            self._runtime.lane.ready(True)
            return True
        if self._stopped:
            return False
        self._read()
        self._build()  # whoever finds this node in the list may ask at once, and is answered from the right table
        try:
            self._register()
        except (RegistryError, ConfigError):  # the caller's; all else means that it is out of reach, for now
            raise
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self._trouble(UNREGISTERED, error)
        self._thread = thread.start("kamacache-members", self._run)
        self._settled.wait(deadline)
        return self.joined

    def announce(self, groups: tuple[str, ...]) -> None:
        """The groups of this node have changed: tell the registry and everyone."""
        with self._lock:
            self.me = self.me._replace(groups=groups)
            self._registered = False
        self._peers.greet()
        self._build()
        self._wake.ring()

    def stop(self) -> None:
        """End the thread, and a start that waits."""
        self._stopped = True
        self._ended.ring()
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
        calls = [call(peer.address, goodbye, until.left()) for peer in self._peers.all() if not peer.dead]
        self.deregister()
        for one in calls:
            with suppress(KamaCacheError, TimeoutError):  # that member will find out by itself
                Wait(one, until).run()

    def deregister(self) -> None:
        """Take the registration back, if there is one."""
        try:
            if self._registry is not None:
                self._registry.deregister()
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            log.warning("could not deregister: %s", error)

    def _run(self) -> None:
        assert self._registry is not None  # noqa: S101 - start made this thread
        while not self._stopped:
            try:
                self.tick()
            except Exception:
                log.exception("the members could not be brought up to date")
                self._ended.wait(Deadline.after(PROBE_INTERVAL))  # an error that stays is not to fill the log
            before = time.monotonic()
            self._wake.wait(Deadline.after(self._registry.poll))
            if time.monotonic() - before > self._registry.poll + _STOPPED:
                log.info("this process was stopped for a while")
                self._peers.greet()  # everyone knows of writes that it missed

    def tick(self) -> None:
        """One round: register, read the list, probe, greet, rebuild what changed."""
        if not self._registered:
            try:
                self._register()
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                self._trouble(UNREGISTERED, error)
            else:
                self._mended(UNREGISTERED, "registered")
        listed = self._read()
        self._build()  # at once: probing and greeting may take a while
        now = time.monotonic()  # as all waiting, probing goes by the machine's time
        if self._probed is None or now - self._probed >= PROBE_INTERVAL:
            self._probed = now
            self._probe()  # before greeting: who is found to be gone holds up no write any more
        self._greet()
        for peer in self._peers.forget(self._silence):
            self._runtime.lane.forget(peer.address, finishing=peer.left)
            self._troubles.pop(_DENIED + peer.address, None)
        self._build()
        if listed and self._registered and not self.joined and self._peers.settled():
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
        """Read the registry's list; with the registry away go on with those known."""
        assert self._registry is not None  # noqa: S101 - only called with one
        try:
            self._peers.listed(self._registry.members(self._service))
            self.clients = self._registry.clients(self._service)
        except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
            self._trouble(AWAY, error)
            return False
        self._mended(AWAY, "the registry answers again")
        return True

    def _trouble(self, what: str, error: Exception) -> None:
        """Warn of it once, however often it is tried, until it is mended."""
        known, self._troubles[what] = what in self._troubles, str(error)
        if known:
            return
        strange = not isinstance(error, KamaCacheError | OSError)  # perhaps a mistake in a registry of the user's
        log.warning("%s: %s; tried again until it works", what, error, exc_info=error if strange else None)

    def _mended(self, what: str, now: str) -> None:
        if what in self._troubles:
            del self._troubles[what]
            log.info("%s", now)

    def _build(self) -> None:
        self._routes.build(lambda: (self.me, self._peers.registered(), self._peers.take_revived()))

    # -- hello and probes --------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """What this node says of itself."""
        return Hello(self.me, self._runtime.hlc.latest(), self._states())

    def greeted_by(self, hello: Hello) -> Hello:
        """A peer said hello, or goodbye: take note, and answer with what is known here.

        Who says hello has registered before. The table has it when it gets the answer, so that everyone agrees on who
        owns what as soon as it has joined; only large tables take too long for that.
        """
        self._note(hello, answered=False)
        if len(self._peers) <= _QUICK:
            self._build()
        self._wake.ring()
        return self.hello()

    def _greet(self) -> None:
        """Say hello to whoever has not answered one yet."""
        peers = self._peers.ungreeted()
        if not peers:
            return
        mine = self.hello()
        calls = [(peer, self._runtime.lane.call(peer.address, mine, HELLO_TIMEOUT)) for peer in peers]
        deadline = Deadline.after(HELLO_TIMEOUT)
        for peer, call in calls:
            try:
                answer: Hello = Wait(call, deadline).run()
            except (KamaCacheError, TimeoutError) as error:
                self._unanswered(peer, error)
            else:
                self._note(answer, answered=True)
                if mine.member is self.me:  # else it was greeted for groups that are others by now
                    self._peers.greeted(peer)
                    self._mended(_DENIED + peer.address, f"{peer.address} answers again")

    def _note(self, hello: Hello, *, answered: bool) -> None:
        """Take in what a hello says: its member, its clock, the writes it knows."""
        self._runtime.saw(hello.clock)
        if hello.member.address in (None, self.me.address):
            return
        silent = self._peers.heard(hello.member, leaving=hello.leaving, answered=answered)
        for state in hello.groups:
            self._heard_of(state, silent)

    def _probe(self) -> None:
        """Ping everyone at once, so that the silence of one delays no other."""
        peers = self._peers.all()
        for peer, error in zip(peers, self._runtime.lane.ping_many([peer.address for peer in peers]), strict=True):
            if error is not None:
                self._unanswered(peer, error)
            elif self._peers.answered(peer):  # it is back, and alive once a hello has told it what it missed
                self._wake.ring()

    def _unanswered(self, peer: Peer, error: Exception) -> None:
        if getattr(error, "denied", False):
            self._trouble(_DENIED + peer.address, error)
        if self._peers.unanswered(peer, error):
            log.info("%s is held for dead: %s", peer.address, error)
        elif not peer.dead:
            self._probed = None  # ask again at once
            self._wake.ring()
