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
_SECONDS = re.compile(rb"\d{1,10}")
_OF_BODY = {b"content-length", b"content-type", b"content-encoding"}


class Response(NamedTuple):
    """A response, which is kept for `ttl` seconds since `kept_at`, in Unix seconds. Its header names are lowercase."""

    status: int
    headers: Headers
    body: bytes = b""
    kept_at: float = 0.0
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
                said = directives[name]
                return float(said) or None if _SECONDS.fullmatch(said) else None
        if expires := self.said(b"expires"):
            left = _time(expires) - (_time(self.said(b"date")) or time.time())
            return left if left > 0 else None
        return ttl

    def tags(self) -> list[str]:
        """Return the tags that its header Cache-Tag names."""
        text = self.said(TAGS).decode("latin-1")
        return list(dict.fromkeys(tag.strip() for tag in text.split(",") if tag.strip()))

    def kept(self, ttl: float, vary: Iterable[bytes], etag: bytes = b"") -> Response:
        """Return the response as it is kept from now on, with the headers that tell a client so.

        Without an ETag of its own it gets this one, or that of its body.
        """
        more = {
            b"etag": etag or b'"%s"' % hashlib.sha256(self.body).hexdigest()[:32].encode(),
            b"cache-control": b"public, max-age=%d" % ttl,
            b"vary": b", ".join(vary),
        }
        headers = [one for one in self.headers if one[0] != b"age"]
        headers += [(name, value) for name, value in more.items() if value and not self.said(name)]
        return self._replace(headers=headers, kept_at=time.time(), ttl=ttl)

    def encoded(self) -> bytes:
        """Return the bytes of it, for `decoded`."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
        return json.dumps([self.status, headers, self.kept_at, self.ttl]).encode() + b"\n" + self.body

    @classmethod
    def decoded(cls, data: bytes | None) -> Response:
        """Return what `encoded` has written."""
        head, _, body = (data or b"").partition(b"\n")
        status, headers, kept_at, ttl = json.loads(head)
        return cls(
            status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers], body, kept_at, ttl
        )

    def answering(self, asked: Mapping[bytes, bytes]) -> Response:
        """Return the answer of one that is kept to a request with these headers."""
        headers = [*self.headers, (b"age", b"%d" % max(time.time() - self.kept_at, 0))]
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


def _time(text: bytes) -> float:
    """Return the Unix seconds of a date; 0 if it is none."""
    with suppress(ValueError, OverflowError):
        found = parsedate_to_datetime(text.decode("latin-1"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    return 0.0
