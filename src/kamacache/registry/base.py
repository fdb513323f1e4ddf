"""What a registry is: the place where the nodes of a service find each other. Derive from Registry for your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from kamacache.member import Member


class Registry(ABC):
    """A list of members for each service. One object serves one node.

    Methods are called from the node's own threads, one at a time, except `close` and `after_fork_in_child`. They may
    block, for a few seconds at most. What they raise means "try again later", and is logged once: the node goes on with
    the members it knows. ConfigError and RegistryError from `default_listen`, `advertise` and the first `register`
    reach the user from `start`.

    To have it found by URL, name a callable that takes the whole URL and returns the object in the entry points of
    your package, under "kamacache.registries", by the scheme.
    """

    lease: float = 10.0
    """Seconds of silence after which a member counts as gone."""

    poll: float = 1.0
    """Seconds between two calls of `members`, also when `changed` was not called."""

    beyond_machine: bool = True
    """Whether members may be on other machines: loopback addresses are not advertised to them then."""

    remote: str | None = None
    """Its "host:port", where it has one: the route there tells which address of this machine to advertise."""

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - for those that need them
        """Where a node listens if the user did not say; None: nowhere. Called before `register`."""
        return "0.0.0.0:0"

    def advertise(self, address: str) -> str:
        """Turn the address bound, or the one the user chose, into what to register; ConfigError where none can be."""
        if not self.beyond_machine:
            return address
        from kamacache.net.addresses import advertised  # noqa: PLC0415 - importing the package needs no sockets

        return advertised(address, self.remote)

    @abstractmethod
    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        """Write the node's own registration, or replace it: `me` changes when groups do.

        From then on, until `deregister`, the registry keeps it alive by itself. `changed` may be called from any
        thread whenever `members` may answer something else; it returns at once.
        """

    @abstractmethod
    def members(self, service: str) -> list[Member]:
        """List who is registered now, this node included; names of services must match whole.

        What others have just changed may show a second later, if `changed` is called then.
        A member that was heard of, but not from, has protocol 0. RegistryError if the registry cannot be reached.
        """

    def clients(self, service: str) -> list[str]:  # noqa: ARG002 - most registries list none
        """List the addresses of those that are listed but are no nodes: they may call, and are never sent anything.

        They are shown, and that is all. Asked after `members`; errors as there.
        """
        return []

    @abstractmethod
    def deregister(self) -> None:
        """Take the own registration back, if there is one. The node still serves for a moment."""

    def close(self) -> None:  # noqa: B027 - nothing to let go of is common
        """Let go of everything; called once the node serves no more. Twice is fine."""

    def after_fork_in_child(self) -> None:  # noqa: B027 - the same
        """Forget, in a forked child, what belongs to the parent, and close what was inherited.

        The parent stays registered. The child may call `default_listen` and `register` with a new id afterwards. No
        lock of this object may be taken here: a thread that is not in the child may hold it.
        """
