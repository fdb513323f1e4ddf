"""The rules of a group about old values and failures, checked before they are used."""

import math
from typing import NamedTuple

from kamacache.errors import ConfigError
from kamacache.units import Duration, number, parse_duration

_EARLY = "a number from 0, in times of a load; 1.0 is a good choice, 0 is off"


class Rules(NamedTuple):
    """Say when values are loaded anew, and when an old value or a remembered failure is the answer, in seconds."""

    refresh_after: float | None
    early: float
    stale_while_revalidate: float
    stale_if_error: float
    soft_timeout: float | None
    error_ttl: float

    @classmethod
    def make(
        cls,
        refresh_after: Duration | None,
        early: float,
        stale_while_revalidate: Duration,
        stale_if_error: Duration,
        soft_timeout: Duration | None,
        error_ttl: Duration,
        ttl: float | None,
    ) -> "Rules | None":
        """Return the rules of these options of a group with this ttl; None: it has none. Raises ConfigError."""
        given = {
            "stale_while_revalidate": stale_while_revalidate,
            "stale_if_error": stale_if_error,
            "error_ttl": error_ttl,
        }
        for name, value in given.items():
            if value is None:
                raise ConfigError(f"{name}=None: it always ends; write 0 for not at all")
        revalidate, if_error, errors = (parse_duration(value, name=name) for name, value in given.items())
        after = None if refresh_after is None else parse_duration(refresh_after, name="refresh_after")
        soft = None if soft_timeout is None else parse_duration(soft_timeout, name="soft_timeout")
        if after is not None and not 0 < after < (math.inf if ttl is None else ttl):
            raise ConfigError(f"refresh_after={refresh_after!r}: must be more than zero and less than ttl")
        if number(early, name="early", range_=_EARLY) < 0:
            raise ConfigError(f"early={early!r}: must be {_EARLY}")
        if soft is not None and not revalidate and not if_error:
            raise ConfigError(
                f"soft_timeout={soft_timeout!r}: there is never an old value to answer; give stale_if_error= or "
                "stale_while_revalidate= as well"
            )
        rules = cls(after, float(early), revalidate, if_error, soft, errors)
        return None if rules == NO_RULES else rules


NO_RULES = Rules(None, 0.0, 0.0, 0.0, None, 0.0)


def near_life(near_ttl: float, rules: Rules | None) -> float:
    """Return how long near copies live: the owner alone looks whether a value is to be refreshed."""
    after = None if rules is None else rules.refresh_after
    return near_ttl if after is None else min(near_ttl, after)
