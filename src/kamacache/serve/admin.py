"""The requests of the command line, answered as JSON: KC.INFO, KC.MEMBERS, KC.OWNER, KC.STATS, KC.STATUS, KC.CLEAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kamacache._engine import __version__, check_key, monotonic
from kamacache.errors import UnknownGroup
from kamacache.member import PROTOCOL, Member
from kamacache.process import describe
from kamacache.serve.statuses import Statuses
from kamacache.steps import whole

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.core import GroupCore
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime


class Administration:
    """Show one node and its groups by name."""

    def __init__(self, runtime: Runtime, groups: Mapping[str, GroupCore], options: NodeOptions) -> None:
        self._runtime = runtime
        self._cores = groups
        self._options = options
        self._status = Statuses(runtime, groups, self.info, self.members).answer

    async def answer(self, command: str, arguments: Sequence[str]) -> bytes:
        """Return the answer to a command as JSON; UnknownGroup, InvalidKey."""
        import json  # noqa: PLC0415 - only here

        result: Any
        if command == "kc.info":
            result = self.info()
        elif command == "kc.members":
            result = self.members()
        elif command == "kc.owner":
            result = self.owner(*arguments)
        elif command == "kc.stats":
            result = self.stats(*arguments)
        elif command == "kc.status":
            return await self._status(*arguments)
        else:
            result = {"confirmed": await whole(self._core(*arguments).clear())}
        return json.dumps(result, separators=(",", ":")).encode()

    def info(self) -> dict[str, Any]:
        """Return the node and its groups."""
        me, runtime = self._runtime.membership.me, self._runtime
        return {
            "version": __version__,
            "protocol": PROTOCOL,
            "id": me.id,
            "address": me.address,
            "weight": me.weight,
            "client": me.client,
            "service": self._options.service,
            "registry": _kind(self._options.registry),
            "joined": runtime.joined,
            "troubles": [f"{what}: {error}" for what, error in runtime.membership.troubles.all().items()],
            "uptime": (uptime := monotonic() - runtime.began),
            "clock": (clock := runtime.clock.unix()),
            "process": describe() | {"started": clock - uptime},
            "latest": f"{runtime.hlc.latest():032x}",
            "groups": {name: _options(core) for name, core in list(self._cores.items())},
        }

    def members(self) -> list[dict[str, Any]]:
        """Return the members that this node knows, itself first, then the clients on the list of the registry."""
        membership = self._runtime.membership
        state = "client" if membership.me.client else "alive"
        known = {"me": True, "state": state, "registered": membership.joined, "skipped": False}
        me = membership.me._asdict() | known
        found = [me, *(_peer(peer) for peer in membership.peers.known())]
        members = {
            member["address"] for member in found
        }  # a node that comes or goes may be listed as a client for a moment
        protection = self._options.protection
        # Without the password or a certificate they are refused, as KamaCache-Go's nodes are.
        state = "client" if protection.password is None and protection.tls is None else "unknown"
        return found + [_client(address, state) for address in sorted(membership.clients) if address not in members]

    def owner(self, group: str, key: str) -> dict[str, Any]:
        """Return the owner of a key and the candidates, as this node sees them."""
        check_key(key)
        self._core(group)
        membership = self._runtime.membership
        owner = membership.owner(group, key)
        if owner is None:
            raise UnknownGroup(f"no member has the group {group!r}")
        candidates = membership.route(group).all_candidates(key)
        line = [membership.me if peer is None else peer.member for peer in candidates]
        return {"owner": owner._asdict(), "candidates": [one._asdict() for one in line]}

    def stats(self, group: str | None = None) -> dict[str, Any]:
        """Return the counters of one group or of all, by name."""
        cores = list(self._cores.items()) if group is None else [(group, self._core(group))]
        return {name: core.stats().as_dict() for name, core in cores}

    def _core(self, name: str) -> GroupCore:
        core = self._cores.get(name)
        if core is None:
            raise UnknownGroup(f"no group {name!r} here")
        return core


def _kind(registry: object) -> str | None:
    """Return the scheme of a registry's URL, which may hold a password, or the class of a user's own."""
    if registry is None or isinstance(registry, str):
        return registry and registry.split(":")[0]
    return type(registry).__name__


def _peer(peer: Peer) -> dict[str, Any]:
    alive = "client" if peer.member.client else "alive" if peer.greeted else "unknown"
    state = "left" if peer.left else "dead" if peer.dead else alive
    known = {"me": False, "state": state, "registered": peer.registered, "skipped": peer.skipped}
    return peer.member._asdict() | known


def _client(address: str, state: str) -> dict[str, Any]:
    member = Member("", address, weight=0.0, protocol=0, client=True)
    return member._asdict() | {"me": False, "state": state, "registered": False, "skipped": False}


def _options(core: GroupCore) -> dict[str, Any]:
    """Return the loader and the options of a group by name, as other nodes compare them."""
    return core.shown() | {"loads": not core.loader.missing}
