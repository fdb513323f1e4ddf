"""The base of registries, where the nodes of a service find each other. Derive from Registry for your own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from kamacache.member import Member


class Registry(ABC):
    """A list of members for each service. One object serves one node.

    Methods are called from the node's own threads, one at a time, except `close` and `after_fork_in_child`. They may
    block, for a few seconds at most. An exception means "try again later": the node logs it once and goes on with the
    members that it knows. But `start` raises ConfigError and RegistryError from `default_listen`, `advertise` and the
    first `register`.

    To make it known by URL, add an entry point to your package: in the group "kamacache.registries", with the scheme as
    its name, a callable that takes the whole URL and returns the object.
    """

    lease: float = 10.0
    """Seconds of silence after which the registry forgets a member."""

    notices_deaths: bool = True
    """True if a member that dies is not listed any more after the lease. If not, it is a member for ever."""

    poll: float = 1.0
    """Seconds between two calls of `members`, even if `changed` is not called."""

    beyond_machine: bool = True
    """True if members may be on other machines. Then loopback addresses are not advertised."""

    remote: str | None = None
    """Its "host:port", if it has one. The route there decides which address of this machine is advertised."""

    client: bool = False
    """True if its node is a client node, which a fixed list need not name. The node sets it."""

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - for those that need them
        """Return the address to listen on for a node that was given none. Called before `register`.

        With None, or what is no address, `start` raises ConfigError. Only a network of tests chooses one for None.
        """
        return "0.0.0.0:0"

    def foresee(self, listen: str | None, advertise: str | None) -> str | None:  # noqa: ARG002 - the same
        """Return the address that a node with these options will listen on; None if that is known at its start alone.

        For checks of settings, before `start`: it writes nothing, and asks no member. ConfigError if a node with these
        options can never start.
        """
        return listen

    def advertise(self, address: str) -> str:
        """Return the address to register, given the one bound or chosen by the user; ConfigError if there is none.

        `start` refuses one that others cannot connect to, such as 0.0.0.0 or port 0.
        """
        if not self.beyond_machine:
            return address
        from kamacache.net.addresses import advertised  # noqa: PLC0415 - importing the package needs no sockets

        return advertised(address, self.remote)

    @abstractmethod
    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        """Write the registration of this node, or replace it: `me` changes when its groups do.

        The registry keeps it alive by itself until `deregister`. It may call `changed` from any thread when `members`
        may have changed; that returns at once.
        """

    @abstractmethod
    def members(self, service: str) -> list[Member]:
        """Return the members that are registered now, this node included, for exactly this name of a service.

        A change by another node may show a second later, if `changed` is called then. A member of which only the
        address is known has protocol 0. RegistryError if the registry cannot be reached.
        """

    def clients(self, service: str) -> list[str]:  # noqa: ARG002 - most registries list none
        """Return the addresses of clients on the list, to be shown. Called after `members`; errors as there."""
        return []

    def is_dead(self, member: str) -> bool:  # noqa: ARG002 - most registries cannot know
        """Return whether the process of a member, by its id, is known to have ended. Called after `members`."""
        return False

    @property
    def sees_ends(self) -> bool:
        """Return whether it has an `is_dead` of its own, which knows soon of each process that has ended."""
        return type(self).is_dead is not Registry.is_dead

    def lost(self, service: str) -> list[Member]:  # noqa: ARG002 - most registries forget them
        """Return members that registered, did not deregister, and are not listed any more. Called after `members`.

        The node goes on with those that answer, and drops the others: they may be alive and about to register again, as
        when the registry was away for longer than a lease.
        """
        return []

    def drop(self, member: Member) -> None:  # noqa: B027 - the same
        """Return this member as a lost one no more."""

    @abstractmethod
    def deregister(self) -> None:
        """Remove the registration of this node, if there is one. The node still serves for a moment."""

    def close(self) -> None:  # noqa: B027 - many have nothing to release
        """Release everything. Called when the node serves no more; a second call does nothing.

        A node that is started again goes on with its object, and calls `default_listen` and `register` with a new id;
        with a URL, it makes a new object.
        """

    def after_fork_in_child(self) -> None:  # noqa: B027 - the same
        """Forget, in a forked child, what belongs to the parent, and close what was inherited.

        The parent stays registered. The child may call `default_listen` and `register` with a new id afterwards. Take
        no lock of this object: a thread that is not in the child may hold it.
        """
