"""Hold the parts that all groups of a node share: clocks, the network, the members, and threads to run loaders."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kamacache import telemetry
from kamacache._engine import monotonic
from kamacache.carried import Carried
from kamacache.errors import NodeClosed
from kamacache.history import History
from kamacache.load.loop import HomeLoop
from kamacache.load.pool import Pool

if TYPE_CHECKING:
    from kamacache._engine import Clock, Hlc
    from kamacache.cluster.membership import Membership
    from kamacache.cluster.peers import Peer
    from kamacache.cluster.routes import Route
    from kamacache.deadline import Deadline
    from kamacache.net.lane import Lane
    from kamacache.net.messages import WriteRequest
    from kamacache.options import NodeOptions


class Runtime:
    """One life of a node; a forked child makes a new one. The node sets `membership`."""

    membership: Membership

    def __init__(self, clock: Clock, hlc: Hlc, lane: Lane, options: NodeOptions) -> None:
        self.began = monotonic()
        self.clock = clock
        self.hlc = hlc
        self.lane = lane
        self.history = History(clock)
        self.home = HomeLoop()
        self.max_value = options.max_value
        self.client = options.client
        self.carried = Carried(options.context)
        self.telemetry = telemetry.find()
        self._loader_threads = options.loader_threads
        self._loader_queue = options.loader_queue
        self._lock = threading.RLock()
        self._pools: dict[int | None, Pool] = {}  # by depth of nested loads, so that these cannot starve each other
        self._closed = False
        self.refused: Exception | None = None  # by the last start, which is tried again

    @property
    def joined(self) -> bool:
        return self.membership.joined

    def route(self, group: str) -> Route:
        return self.membership.route(group)

    def suspect(self, peer: Peer, error: Exception) -> None:
        """Skip a peer that did not answer. Raises NodeClosed if that is the error: the peer is not to blame."""
        _check_open(error)
        self.membership.suspect(peer, error)

    def doubt(self, peer: Peer, error: Exception) -> None:
        """Skip a peer that did not answer a get in time, until it answers a ping. Raises NodeClosed likewise."""
        _check_open(error)
        self.membership.doubt(peer, error)

    def saw(self, version: int) -> bool:
        """Take in a version that came with a message. Return False, and do nothing, if it is more than a day ahead."""
        return self.hlc.merge(version)

    def until_ms(self, deadline: Deadline) -> int:
        """Return until when an owner may apply an order whose writer waits until the deadline."""
        return self.hlc.until_ms(max(0.0, deadline.at - monotonic()))

    def is_late(self, order: WriteRequest) -> bool:
        """Take in the clock of an order. Return whether its writer has given up."""
        self.saw(order.clock)
        return 0 < order.until_ms < self.hlc.now_ms()

    def pool(self, depth: int | None) -> Pool:
        """Return the pool for loaders that `depth` other loaders wait for; None: for what waits for no loader."""
        with self._lock:
            pool = self._pools.get(depth)
            if pool is None:
                name = "kamacache-leases" if depth is None else f"kamacache-loader-{depth}"
                pool = self._pools[depth] = Pool(self._loader_threads, name, self._loader_queue)
                if self._closed:
                    pool.close()
            return pool

    def close(self) -> None:
        """End the pools and the home loop."""
        with self._lock:
            self._closed = True
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()
        self.home.close()


def _check_open(error: Exception) -> None:
    if isinstance(error, NodeClosed):
        raise error
