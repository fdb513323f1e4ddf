"""An HTTP response that is kept: for how long, and what of it answers a request, by RFC 9110 and RFC 9111."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

OK, NOT_MODIFIED = 200, 304
TAGS = b"cache-tag"
_DIRECTIVE = re.compile(rb"""([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*)))?""")
_NOT_KEPT = {b"no-store", b"no-cache", b"private"}
_SECONDS = re.compile(rb"\d+")
_LONG = 2.0**31  # seconds: a greater number counts as this one (RFC 9111, 1.2.2)
_OF_BODY = {b"content-length", b"content-type", b"content-encoding"}
# Headers of one answer: its age, and those of its connection (RFC 9110, 7.6.1).
_OF_ANSWER = {b"age", b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info"}
_OF_ANSWER |= {b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}


class Response(NamedTuple):
    """A response, which was made at `made_at`, in Unix seconds, and is kept for `ttl` seconds.

    Its header names are lowercase. A cache before this one says by Age that it was made earlier than it came.
    """

    status: int
    headers: Headers
    body: bytes = b""
    made_at: float = 0.0
    ttl: float = 0.0

    @classmethod
    def started(cls, message: Message) -> Response:
        """Return what an http.response.start says."""
        headers = [(bytes(name).lower(), bytes(value)) for name, value in message.get("headers", ())]
        return cls(message["status"], headers)

    def said(self, name: bytes) -> bytes:
        """Return the values of a header, with commas."""
        return b",".join(value for one, value in self.headers if one == name)

    def lifetime(self, ttl: float, vary: Iterable[bytes]) -> float | None:
        """Return for how many seconds it may be kept, `ttl` if it does not say; None: not at all."""
        others = {name.strip() for name in self.said(b"vary").lower().split(b",")} - {b"", *vary}
        endless = self.said(b"content-type").lower().startswith(b"text/event-stream")
        if self.status != OK or self.said(b"set-cookie") or others or endless:
            return None
        found = _DIRECTIVE.findall(self.said(b"cache-control"))
        directives = {name.lower(): quoted or plain for name, quoted, plain in found}
        if not _NOT_KEPT.isdisjoint(directives):
            return None
        for name in (b"s-maxage", b"max-age"):
            if name in directives:  # a time that cannot be read is over
                return _above_zero(_seconds(directives[name]) - self._age())
        if expires := self.said(b"expires"):
            made_at = _time(self.said(b"date")) or time.time()
            return _above_zero(_time(expires) - made_at - self._age())
        return ttl

    def _age(self) -> float:
        """Return how old it was when it came."""
        return _seconds(self.said(b"age").partition(b",")[0].strip())

    def tags(self) -> list[str]:
        """Return the tags that its header Cache-Tag names."""
        text = self.said(TAGS).decode("latin-1")
        return list(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))

    def kept(self, ttl: float, vary: Iterable[bytes], etag: bytes = b"") -> Response:
        """Return the response as it is kept from now on, with the headers that tell a client so.

        Without an ETag of its own it gets this one, or that of its body.
        """
        age = self._age()
        more = {
            b"etag": etag or b'"%s"' % hashlib.sha256(self.body).hexdigest()[:32].encode(),
            b"cache-control": b"public, max-age=%d" % (age + ttl),
            b"vary": b", ".join(vary),
        }
        headers = self.headers + [(name, value) for name, value in more.items() if value and not self.said(name)]
        return self._replace(headers=headers, made_at=time.time() - age, ttl=ttl)

    def encoded(self) -> bytes:
        """Return the bytes of it, for `decoded`, without what belongs to the answer to one client."""
        left_out = _OF_ANSWER | {name.strip() for name in self.said(b"connection").lower().split(b",")}
        headers = [(name, value) for name, value in self.headers if name not in left_out]
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return json.dumps([self.status, texts, self.made_at, self.ttl]).encode() + b"\n" + self.body

    @classmethod
    def decoded(cls, data: bytes | None) -> Response:
        """Return what `encoded` has written."""
        head, _, body = (data or b"").partition(b"\n")
        status, headers, made_at, ttl = json.loads(head)
        return cls(
            status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body, made_at, ttl
        )

    def answering(self, asked: Mapping[bytes, bytes]) -> Response:
        """Return the answer of one that is kept to a request with these headers."""
        headers = [one for one in self.headers if one[0] != b"age"]
        headers.append((b"age", b"%d" % max(time.time() - self.made_at, 0)))
        if not self._is_known(asked):
            return self._replace(headers=headers)
        return Response(NOT_MODIFIED, [one for one in headers if one[0] not in _OF_BODY])

    def _is_known(self, asked: Mapping[bytes, bytes]) -> bool:
        """Return whether the client has it already."""
        if (named := asked.get(b"if-none-match")) is not None:
            wanted = [one.strip().removeprefix(b"W/") for one in named.split(b",")]
            return b"*" in wanted or self.said(b"etag").removeprefix(b"W/") in wanted
        changed = _time(self.said(b"last-modified"))
        return 0 < changed <= _time(asked.get(b"if-modified-since", b""))

    async def send(self, send: Send) -> None:
        """Send it as a whole."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def _above_zero(seconds: float) -> float | None:
    return seconds if seconds > 0 else None


def _seconds(text: bytes) -> float:
    """Return a number of seconds; 0 if it is none."""
    return min(float(text), _LONG) if _SECONDS.fullmatch(text) else 0.0


def _time(text: bytes) -> float:
    """Return the Unix seconds of a date; 0 if it is none."""
    with suppress(ValueError, OverflowError):
        found = parsedate_to_datetime(text.decode("latin-1"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return 0.0
