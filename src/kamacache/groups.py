"""Make the groups of a node once for each name, find them again, announce and close them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kamacache.errors import ConfigError, GroupExists, KamaCacheError
from kamacache.group import Group
from kamacache.options import GroupOptions, NodeOptions

if TYPE_CHECKING:  # imported when a group is made: importing the package is to cost little
    from kamacache._engine import Clock
    from kamacache.cluster.membership import Membership
    from kamacache.cluster.routes import Route
    from kamacache.core import GroupCore
    from kamacache.load.loader import Loader
    from kamacache.net.lane import Lane
    from kamacache.net.messages import GroupState
    from kamacache.runtime import Runtime
    from kamacache.shares import Shares


class Groups:
    """Hold the groups of one node by name, and in `cores` the core of each. Both change under `lock` alone."""

    def __init__(
        self,
        clock: Clock,
        shares: Shares,
        ensure: Callable[[], None],
        aensure: Callable[[], Awaitable[None]],
        is_open: Callable[[], bool],
    ) -> None:
        self.by_name: dict[str, Group[Any]] = {}
        self.cores = Cores()
        self.lock = threading.RLock()  # never held while a peer is waited for
        self._clock = clock
        self._ensure = ensure
        self._aensure = aensure
        self.shares = shares
        self._is_open = is_open  # whether others can see what this node serves and owns

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self.by_name))

    def after_fork_in_child(self) -> None:
        """Take new locks: a thread of the parent may hold the old ones."""
        self.lock = threading.RLock()
        self.shares.after_fork_in_child()

    def live(self, cores: Cores, runtime: Runtime, membership: Membership) -> None:
        """Begin a life of the node, with a new core for each group. Its view shows the groups once all are there."""
        self._runtime = runtime
        self._membership = membership
        self.shares.forget()
        made = {name: self.cores[name].renewed(runtime, self._clock) for name in self.by_name}
        for name, core in made.items():
            self.shares.add(core.store, core.options.max_bytes)
            self._use(core.options)
            self.by_name[name]._live(core)  # noqa: SLF001 - made here
        cores.update(made)
        self.cores = cores

    def meet(self, membership: Membership) -> None:
        """Go on with a new membership; no member of the old one is asked any more."""
        with self.lock:
            self._membership = membership
            for name, core in self.cores.items():
                self._use(core.options)
                core.misses.route(membership.route(name))

    def _use(self, options: GroupOptions) -> None:
        self._membership.near_ttl = max(self._membership.near_ttl, options.near_ttl)

    def make(
        self, name: str, loader: Loader, options: GroupOptions, closed: KamaCacheError | None = None
    ) -> Group[Any]:
        """Make a group, or return the one of this name that has the same loader and options, else GroupExists.

        A group without a loader may get one later. With `closed` a new one raises that error in this life of the node.
        """
        from kamacache.core import GroupCore, make_store

        _suit(loader, options)
        if (telemetry := self._runtime.telemetry) is not None:
            telemetry.trace_loader(name, loader)
        with self.lock:
            if name in self.by_name:
                core = self.cores[name]
                late = core.loader.missing and core.loader.cached is None and not loader.missing
                _check_same(core, core.loader if not late else loader, loader, options)
                core.loader = loader
                if late:
                    self._announce()
                return self.by_name[name]
            store = make_store(name, options, self._clock)
            self.shares.add(store, options.max_bytes)
            core = GroupCore(name, store, loader, options, self._runtime)
            group: Group[Any] = _class_of(options)(
                name.partition("@")[0], core, ensure=self._ensure, aensure=self._aensure, leave=self.close
            )
            self.by_name[name], self.cores[name] = group, core
            self._use(options)
            if closed is not None:
                core.close(closed)
            self._announce(lambda lane: lane.serve(store))
        return group

    def check_codecs(self, options: NodeOptions, listen: str | None) -> None:
        """Raise ConfigError if a node that listens there must not have the codec of one of the groups."""
        with self.lock:
            for core in self.cores.values():
                options.check_codec(core.options.codec, listen)

    def reset(self) -> None:
        """Make every group like a new one, on this node."""
        for core in list(self.cores.values()):
            core.reset()
        self._runtime.home.forget()

    def close_all(self, error: KamaCacheError) -> None:
        """Close all groups for the rest of this life; their names stay taken."""
        for core in list(self.cores.values()):
            core.close(error)

    def close(self, group: Group[Any], error: KamaCacheError) -> None:
        """Close a group and free its name; its methods raise `error` from now on."""
        with self.lock:  # so that no thread finds a closed group, or makes a new one that this call would hide
            core = group._core  # noqa: SLF001 - made here; under the lock its life does not change
            core.close(error)
            if self.cores.get(core.name) is core:
                del self.by_name[core.name], self.cores[core.name]
                self.shares.remove(core.name)
                self._announce(lambda lane: lane.hide(core.name))

    def _announce(self, change: Callable[[Lane], None] = lambda _: None) -> None:
        if self._is_open():
            change(self._runtime.lane)
            self._membership.announce(groups=tuple(self.by_name), loads=self.loads)

    @property
    def loads(self) -> tuple[str, ...]:
        """The names of the groups that have a loader of their own, also while a test has put another in its place."""
        return tuple(name for name, core in self.cores.items() if not core.loader.missing)


class Cores(dict[str, "GroupCore"]):
    """The cores of a node's groups in one life of the node, by name."""


class View(Mapping[str, "GroupCore"]):
    """Show the cores of one life to its threads and its membership, which must not keep alive a node that was dropped.

    Every answer is a copy, so that it can be iterated while groups are made. It is empty once the node is gone, or has
    begun a new life: a thread that is left of an old one finds no groups.
    """

    def __init__(self, cores: Cores) -> None:
        self._cores = weakref.ref(cores)

    def _copy(self) -> dict[str, GroupCore]:
        cores = self._cores()
        return {} if cores is None else cores.copy()

    def __getitem__(self, name: str) -> GroupCore:
        cores = self._cores()
        if cores is None:
            raise KeyError(name)
        return cores[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._copy())

    def __len__(self) -> int:
        return len(self._copy())

    def values(self) -> Any:
        return self._copy().values()

    def items(self) -> Any:
        return self._copy().items()

    def states(self) -> list[GroupState]:
        """Return the state of each group for a hello."""
        return [core.state() for core in self.values()]

    def placed(self, name: str, route: Route) -> bool:
        """Pass a new table of owners on to its group. Return whether something here belongs to others now."""
        core = self.get(name)
        return core is not None and core.misses.route(route)


def _suit(loader: Loader, options: GroupOptions) -> None:
    """Have the loader get keys as the options say. Raises ConfigError for an option that does not apply to it."""
    if options.batch_window is not None and loader.single is not None and loader.many is None:
        raise ConfigError("batch_window: gathers keys for one load_many; give load_many=, too")
    if options.key_codec is not None:
        from kamacache.keycodec import give_keys

        give_keys(loader)


def _class_of(options: GroupOptions) -> type[Group[Any]]:
    base = Group
    if options.key_codec is not None:
        from kamacache.group.keyed import KeyedGroup as base  # noqa: N813 - one of the two
    if not options.cache_none:
        return base
    from kamacache.group.nones import with_default

    return with_default(base)


def _check_same(core: GroupCore, old: Loader, loader: Loader, options: GroupOptions) -> None:
    remedy = "close() that group first, or take another name"
    here, there = old.place or "no loader", loader.place or "no loader"
    if here != there:
        raise GroupExists(f"group {core.name!r} exists with {here}, and cannot have {there} too; {remedy}")
    if old.cached is not None and (difference := old.cached.difference(loader.cached)):
        what = "of another object or closure" if difference == "function" else f"with another {difference}"
        raise GroupExists(f"group {core.name!r} exists for {here} {what}; {remedy}")
    if not old.is_same(loader):
        raise GroupExists(f"group {core.name!r} exists with {here} of another object or closure; {remedy}")
    if differences := core.options.differences(options):
        raise GroupExists(f"group {core.name!r} of {here} exists with other options: {differences}; {remedy}")
