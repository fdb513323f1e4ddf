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
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kamacache.errors import KamaCacheError, RegistryError, UnknownGroup
from kamacache.messages import GroupState, Hello, Member
from kamacache.placing import HANDED_OVER, Peer, Route

if TYPE_CHECKING:
    from kamacache.registry.base import Registry
    from kamacache.runtime import Runtime

log = logging.getLogger("kamacache")

PROBE_INTERVAL = 1.0  # seconds
HELLO_TIMEOUT = 1.0  # seconds
_STOPPED = 1.0  # seconds that a wait took longer than asked for, after which this process must have stood still
_UNANSWERED = 2  # probes in a row after which a member counts as dead
_ALONE = Route([("", 1.0, None)])


class Membership:
    """The members as this node sees them.

    Invariant, under `_lock`: `_peers` holds everyone seen and not yet forgotten by address, this node never among them;
    `_routes` holds a route for every group of this node, made from the registered peers that have it.
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
        self.joined = registry is None
        self.near_ttl = 0.0  # the longest of all groups here
        self._runtime = runtime
        self._registry = registry
        self._service = service
        self._states = states
        self._heard_of = heard_of
        self._placed = placed
        self._lock = threading.Lock()
        self._building = threading.Lock()  # one rebuild at a time, so that an older view never replaces a newer
        self._peers: dict[str, Peer] = {}
        self._routes: dict[str, Route] = {}
        self._registered = registry is None
        self._wake = threading.Event()
        self._changed = threading.Condition(self._lock)
        self._closing = False
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._probed = 0.0
        self._revived = False  # someone was back: what was done in its place is its own again

    # -- what the request paths ask ----------------------------------------------------------------------------------

    def route(self, group: str) -> Route:
        """Who owns the keys of a group."""
        return self._routes.get(group, _ALONE)

    def listeners(self) -> list[Peer]:
        """Everyone who must be told of a write."""
        if not self._peers:
            return []
        now, silence = self._runtime.clock.now(), self._lease + self.near_ttl
        with self._lock:
            return [
                peer for peer in self._peers.values() if not (peer.left or peer.refused or now - peer.heard > silence)
            ]

    def members(self) -> list[Member]:
        """Registered and not held for dead; this node first."""
        with self._lock:
            return [self.me, *(peer.member for peer in self._peers.values() if peer.registered and not peer.dead)]

    def by_id(self, ids: Iterable[str]) -> dict[str, Peer]:
        """Those of these members that are known here."""
        wanted = set(ids)
        with self._lock:
            return {peer.id: peer for peer in self._peers.values() if peer.id in wanted}

    def suspect(self, peer: Peer, error: Exception) -> None:
        """A peer did not answer a request: pass over it until a probe says that it is alive."""
        if isinstance(error, UnknownGroup):  # alive: its groups are others than we think
            with self._lock:
                peer.greeted = False
            self._wake.set()
            return
        with self._lock:
            if getattr(error, "refused", False):
                peer.refused = True
            if peer.dead:
                return
            peer.dead = True
            self._changed.notify_all()
        log.info("%s is held for dead: %s", peer.address, error)
        self._probed = 0.0
        self._wake.set()

    def refresh(self) -> None:
        """Views differ: read the list again now, without waiting for it."""
        self._wake.set()

    @property
    def _lease(self) -> float:
        return self._registry.lease if self._registry is not None else 0.0

    # -- the life of the thread --------------------------------------------------------------------------------------

    def start(self, timeout: float) -> bool:
        """Read the list, register, read it again, greet everyone: whether that was done in time; it goes on."""
        if self._registry is None:
            self._rebuild()
            return True
        if self._closing:
            return False
        self._read()
        self._rebuild()  # whoever finds this node in the list may ask at once, and is answered from the right table
        try:
            self._register()
        except OSError as error:  # out of reach, for now; RegistryError and ConfigError are the caller's
            log.warning("could not register: %s", error)
        self._thread = threading.Thread(target=self._run, name="kamacache-members", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.joined and not self._closing:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return self.joined

    def announce(self, groups: tuple[str, ...]) -> None:
        """The groups of this node have changed: tell the registry and everyone."""
        with self._lock:
            self.me = Member(self.me.id, self.me.address, self.me.weight, groups, self.me.protocol)
            if self._registry is not None:
                self._registered = False
                for peer in self._peers.values():
                    peer.greeted = False
        self._rebuild()
        self._wake.set()

    def stop(self) -> None:
        """End the thread, and a start that waits."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self._stopped.set()
        self._wake.set()

    def leave(self) -> None:
        """Say goodbye and deregister, once stopped."""
        if self._registry is None:
            return
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(HELLO_TIMEOUT / 2)
        with self._lock:
            peers = [peer for peer in self._peers.values() if not peer.dead]
        goodbye = Hello(self.me, self._runtime.hlc.latest(), [], leaving=True)
        calls = [self._runtime.lane.call(peer.address, goodbye, HELLO_TIMEOUT / 2) for peer in peers]
        try:
            self._registry.deregister()
        except (KamaCacheError, OSError) as error:
            log.warning("could not deregister: %s", error)
        _wait_all(calls, HELLO_TIMEOUT / 2)

    def _run(self) -> None:
        assert self._registry is not None  # noqa: S101 - start made this thread
        while not self._closing:
            try:
                self.tick()
            except Exception:
                log.exception("the members could not be brought up to date")
                self._stopped.wait(PROBE_INTERVAL)  # whoever wakes us, an error that stays is not to fill the log
            before = time.monotonic()
            self._wake.wait(self._registry.poll)
            self._wake.clear()
            if time.monotonic() - before > self._registry.poll + _STOPPED:
                self._was_stopped()

    def _was_stopped(self) -> None:
        """The process stood still: ask everyone for the writes it missed."""
        log.info("this process was stopped for a while")
        with self._lock:
            for peer in self._peers.values():
                peer.greeted = False

    def tick(self) -> None:
        """One round: register, read the list, greet, probe, rebuild what changed."""
        if not self._registered:
            try:
                self._register()
            except (KamaCacheError, OSError) as error:
                log.warning("could not register: %s", error)
        listed = self._read()
        self._greet()
        now = self._runtime.clock.now()
        if now - self._probed >= PROBE_INTERVAL or self._probed == 0.0:
            self._probed = now
            self._probe()
        self._forget(now)
        self._rebuild()
        if listed and self._registered and not self.joined:
            with self._changed:
                if all(peer.greeted or peer.dead or not peer.registered for peer in self._peers.values()):
                    self.joined = True
                    self._changed.notify_all()

    def _register(self) -> None:
        assert self._registry is not None  # noqa: S101 - only called with one
        with self._lock:
            me, self._registered = self.me, True
        try:
            self._registry.register(self._service, me, self._wake.set)
        except BaseException:
            self._registered = False
            raise

    def _read(self) -> bool:
        """Bring `_peers` up to the registry's list; with the registry away go on with those known."""
        assert self._registry is not None  # noqa: S101 - only called with one
        try:
            listed = {member.address: member for member in self._registry.members(self._service)}
        except (RegistryError, OSError) as error:
            log.warning("the registry does not answer: %s", error)
            return False
        listed.pop(self.me.address, None)
        with self._lock:
            for address, member in listed.items():
                if address is None:
                    continue
                peer = self._peers.get(address)
                if peer is None or (member.protocol and peer.member.protocol and peer.id != member.id):
                    peer = self._peers[address] = Peer(member, self._runtime.clock.now())
                elif member.protocol:  # what a hello says is known better than a bare list
                    peer.update(member)
                peer.registered = not peer.left
            for address, peer in self._peers.items():
                if address not in listed:
                    peer.registered = False
        return True

    # -- hello -------------------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """What this node says of itself."""
        return Hello(self.me, self._runtime.hlc.latest(), self._states())

    def greeted_by(self, hello: Hello) -> Hello:
        """A peer said hello, or goodbye: take note, and answer with what is known here."""
        self._note(hello, answered=False)
        if hello.leaving:
            self._wake.set()
        return self.hello()

    def _greet(self) -> None:
        """Say hello to whoever has not answered one yet."""
        with self._lock:
            peers = [
                peer
                for peer in self._peers.values()
                if not (peer.greeted or peer.left) and (not peer.dead or not peer.unanswered)
            ]
        if not peers:
            return
        mine = self.hello()
        calls = [(peer, self._runtime.lane.call(peer.address, mine, HELLO_TIMEOUT)) for peer in peers]
        deadline = time.monotonic() + HELLO_TIMEOUT
        for peer, call in calls:
            try:
                answer: Hello = call.result(max(0.0, deadline - time.monotonic()))
            except (KamaCacheError, TimeoutError) as error:
                self._unanswered(peer, error)
            else:
                self._note(answer, answered=True)
                with self._lock:
                    peer.greeted = True

    def _note(self, hello: Hello, *, answered: bool) -> None:
        """Take in what a hello says: its member, its clock, the writes it knows.

        Who was held for dead is alive only once it has answered a hello of ours, and with it learned what it missed.
        """
        self._runtime.saw(hello.clock)
        member = hello.member
        if member.address is None or member.address == self.me.address:
            return
        with self._lock:
            peer = self._peers.get(member.address)
            if peer is None or (peer.member.protocol and peer.id != member.id):
                peer = self._peers[member.address] = Peer(member, self._runtime.clock.now())
                self._wake.set()
            now = self._runtime.clock.now()
            silent = now - peer.heard if peer.member.protocol else 0.0  # what never spoke, we have not missed
            peer.update(member)
            peer.heard = now
            peer.unanswered = 0
            peer.refused = False
            peer.left = hello.leaving
            if hello.leaving:
                peer.dead = True
                peer.registered = False
            elif peer.dead and answered:
                peer.dead = False
                self._revived = True
            elif peer.dead:
                peer.greeted = False
                self._wake.set()
        for state in hello.groups:
            self._heard_of(state, silent)

    # -- probes ------------------------------------------------------------------------------------------------------

    def _probe(self) -> None:
        with self._lock:
            peers = [peer for peer in self._peers.values() if not peer.left]
        for peer in peers:
            if self._closing:
                return
            try:
                self._runtime.lane.ping(peer.address)
            except KamaCacheError as error:
                self._unanswered(peer, error)
                continue
            with self._lock:
                peer.unanswered = 0
                peer.refused = False
                if peer.dead:  # it is back, and alive again once a hello has exchanged what each has missed
                    peer.greeted = False
                    self._wake.set()
                else:
                    peer.heard = self._runtime.clock.now()

    def _unanswered(self, peer: Peer, error: Exception) -> None:
        with self._lock:
            peer.unanswered += 1
            refused = getattr(error, "refused", False)
            dead = refused or peer.unanswered >= _UNANSWERED
        if dead:
            self.suspect(peer, error)
        else:
            self._wake.set()

    def _forget(self, now: float) -> None:
        """Let go of whoever is not registered and no listener any more."""
        silence = self._lease + self.near_ttl
        with self._lock:
            gone = [
                peer
                for peer in self._peers.values()
                if not peer.registered and (peer.left or peer.refused or now - peer.heard > silence)
            ]
            for peer in gone:
                del self._peers[peer.address]
        for peer in gone:
            self._runtime.lane.forget(peer.address)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """A new route for every group whose owners have changed."""
        with self._building:
            self._rebuild_all()

    def _rebuild_all(self) -> None:
        with self._lock:
            me = self.me
            registered = [peer for peer in self._peers.values() if peer.registered]
            self._routes = {name: route for name, route in self._routes.items() if name in me.groups}
            old = dict(self._routes)
            revived, self._revived = self._revived, False
        for name in me.groups:
            owners: list[tuple[str, float, Peer | None]] = [(me.address or "", me.weight, None)]
            owners += [
                (peer.address, peer.member.weight, peer)
                for peer in registered
                if name in peer.member.groups or not peer.member.protocol
            ]
            key = tuple(sorted((address, weight) for address, weight, _ in owners))
            before = old.get(name)
            if before is not None and before.key == key and set(before.peers) == {peer for *_, peer in owners}:
                if revived:
                    self._placed(name, before)
                continue
            route = Route(owners)
            if before is None and len(owners) > 1:  # the others were here first, and what is owned now was theirs
                before = Route([owner for owner in owners if owner[2] is not None])
            if before is not None:
                route.follow(before, self._runtime.clock.now() + HANDED_OVER)
            with self._lock:
                self._routes[name] = route
            self._placed(name, route)


def _wait_all(calls: list[Future[Any]], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    for call in calls:
        try:
            call.result(max(0.0, deadline - time.monotonic()))
        except (KamaCacheError, TimeoutError):  # they will find out by themselves
            continue
