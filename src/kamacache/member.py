"""Define a member of a cluster. It is not in net/messages.py, so that importing the package stays cheap."""

# No annotations as text: NamedTuple compiles each, and the first compile of a process takes milliseconds.
from typing import NamedTuple

PROTOCOL = 1


class Member(NamedTuple):
    """A node as other nodes know it; str() is its address.

    `loads` are those of its `groups` that it has a loader for. A `client` is a client node: it owns
    no keys and loads for no other. A member that is `leaving` owns none any more, and hands over what it has.
    `revision` counts what the member has changed of all this, so that an older word of it is known as such.
    """

    id: str
    address: str | None
    weight: float = 1.0
    groups: tuple[str, ...] = ()
    protocol: int = PROTOCOL
    loads: tuple[str, ...] = ()
    client: bool = False
    leaving: bool = False
    revision: int = 0

    def __str__(self) -> str:
        return self.address or ""
