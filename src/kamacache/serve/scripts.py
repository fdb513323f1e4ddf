"""The Lua scripts by which Redis clients release a lock or prolong it.

There is no Lua here. A script is known by its text, whatever its spaces and comments: those of redis-py, and those of
the documentation of Redis, https://redis.io/docs/latest/develop/clients/patterns/distributed-locks, which most others
use. Each compares the value of a key with the token of the holder of the lock, and changes the key if they are the
same. Here that is a write on terms: the entry must still be the one that was compared.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from kamacache.net.messages import APPLIED, CONFLICT, REPLACE, SAME, TOUCH, ClientReply, ClientRequest, Terms
from kamacache.serve.writes import Refusal, shown
from kamacache.steps import adrive, whole

if TYPE_CHECKING:
    from kamacache.core import GroupCore

_MOST = 100  # texts that are remembered
_TRIES = 20  # of a change whose entry others change meanwhile
_UNKNOWN = "there are no Lua scripts here, but for those that release a lock or prolong it"
_HELD = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call({})else return 0 end"
_OWN = "local token=redis.call('get',KEYS[1])if not token or token~=ARGV[1] then return 0 end {}return 1"
_EXTEND = (
    "local expiration=redis.call('pttl',KEYS[1])if not expiration then expiration=0 end "
    "if expiration<0 then return 0 end "
    "local newttl=ARGV[2]if ARGV[3]=='0'then newttl=ARGV[2]+expiration end redis.call('pexpire',KEYS[1],newttl)"
)
# Of the seconds that an entry has left, and the arguments: the seconds that it then has, none if it goes, or NOTHING.
Change = Callable[[float, list[bytes]], float]
NOTHING = math.nan
_LONGEST = 10**15  # milliseconds


def _release(_left: float, _arguments: list[bytes]) -> float:
    """Let the lock go."""
    return 0.0


def _within(factor: float) -> Change:
    """Return what gives the lock another time, in units of so many seconds."""
    return lambda _, arguments: _number(arguments) * factor


def _extend(left: float, arguments: list[bytes]) -> float:
    """Give the lock more time, or with a third argument but 0 another time."""
    if left == math.inf:
        return NOTHING
    return _number(arguments) / 1000 + (left if arguments[2:] == [b"0"] else 0.0)


def _number(arguments: list[bytes]) -> int:
    """Return the time that stands behind the token."""
    given = arguments[1] if len(arguments) > 1 else b""
    if not re.fullmatch(rb"-?\d{1,20}", given) or (number := int(given)) > _LONGEST:
        raise Refusal("value is not an integer or out of range")
    return number


def _plain(text: str) -> str:
    """Return a script without its comments and what else does not matter."""
    return re.sub(r"\s+|;", "", re.sub(r"--.*", "", text)).replace('"', "'").lower()


_CHANGES: dict[str, Change] = {
    _plain(text): change
    for text, change in (
        (_HELD.format("'del',KEYS[1]"), _release),
        (_HELD.format("'expire',KEYS[1],ARGV[2]"), _within(1.0)),
        (_HELD.format("'pexpire',KEYS[1],ARGV[2]"), _within(0.001)),
        (_OWN.format("redis.call('del',KEYS[1])"), _release),
        (_OWN.format("redis.call('pexpire',KEYS[1],ARGV[2])"), _within(0.001)),
        (_OWN.format(_EXTEND), _extend),
    )
}


class Scripts:
    """The scripts that a node was sent."""

    def __init__(self, core: Callable[[str], GroupCore]) -> None:
        self._core = core
        self._known: dict[str, Change] = {}  # by the SHA-1 of the text, as EVALSHA names it
        self.handlers = {"eval": self._run, "evalsha": self._run, "script": self._load}

    async def _load(self, request: ClientRequest) -> ClientReply:
        """Answer SCRIPT LOAD."""
        digest, _ = self._learn(request.arguments[0])
        return ClientReply([digest.encode()])

    async def _run(self, request: ClientRequest) -> ClientReply:
        """Answer EVAL, and EVALSHA: below 0 if the script is not known."""
        named = request.arguments[0]
        change = self._known.get(named.lower()) if request.command == "evalsha" else self._learn(named)[1]
        return ClientReply(number=-1 if change is None else await self._change(request, change))

    def _learn(self, text: str) -> tuple[str, Change]:
        change = _CHANGES.get(_plain(text))
        if change is None:
            raise Refusal(_UNKNOWN)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._known[digest] = change
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        return digest, change

    async def _change(self, request: ClientRequest, change: Change) -> int:
        """Change the entry if its value is the token. Return 1 if it was. Raises PeerError."""
        ((name, key),), (token, *_) = request.keys, [*request.values, b""]
        core = self._core(name)
        for _ in range(_TRIES):
            # A write on terms that are never met: so the owner says what counts, as for the write below.
            held, _, _ = await whole(core.primitives.decide(key, None, None, Terms(SAME, wants=True)))
            if held.value is None or shown(core, held.value) != token:
                return 0
            entry = await adrive(core.find(key, near=False, bare=True)) if change is _extend else None
            seconds = change(0.0 if entry is None else entry.ttl, list(request.values))
            if seconds is NOTHING:
                return 0
            terms = Terms(SAME, held.held, change=TOUCH if seconds > 0 else REPLACE)
            outcome, _, _ = await whole(core.primitives.decide(key, None, seconds if seconds > 0 else None, terms))
            if outcome.verdict != CONFLICT:
                return int(outcome.verdict == APPLIED)
        raise Refusal("others change this key all the time; nothing was done")
