"""What keeps strangers out: a node's password, and what the engine makes of it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field

from kamacache._engine import Security
from kamacache.addresses import parse_address
from kamacache.errors import ConfigError

log = logging.getLogger("kamacache")

_LONGEST = 512
_PASSWORD = re.compile(rf"[!-~]{{1,{_LONGEST}}}")


@dataclass(frozen=True, slots=True)
class Protection:
    """What a node was given to keep strangers out, checked; nothing is the default."""

    password: str | None = field(default=None, repr=False)

    @classmethod
    def make(cls, password: object) -> Protection:
        """Refuse what is no password, without showing it; ConfigError."""
        if password is not None and not (isinstance(password, str) and _PASSWORD.fullmatch(password)):
            raise ConfigError(
                f"password: must be text of 1 to {_LONGEST} visible ASCII characters without spaces, as in "
                "secrets.token_urlsafe(32)"
            )
        return cls(password)

    @property
    def is_enough(self) -> bool:
        """Whether nobody can talk to the node who was given nothing by its owner."""
        return self.password is not None

    def engine(self) -> Security | None:
        """The same for the engine; None: nothing."""
        return None if self.password is None else Security(password=self.password)

    def warn(self, bound: str) -> None:
        """Say so where the password can be read on its way here."""
        if self.password is None:
            return
        address = parse_address(bound, name="listen")
        if not (address.is_unix or address.is_loopback):
            log.warning("%s: without TLS, whoever can listen in between here and there reads the password", bound)


NOTHING = Protection()
