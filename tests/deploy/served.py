"""An application of gunicorn, uvicorn and, in served_tasks.py, Celery: each answer is a value of the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import kamacache

node = kamacache.Node.from_env(registry="local://", service="served")


def load(key: str) -> str:
    time.sleep(0.002)
    return f"value of {key}"


group = node.group("g", load, codec="text", ttl="1s", near_ttl="500ms")

if os.environ.get("SERVED_EARLY"):  # before any fork
    assert group.get("early") == "value of early"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a WSGI request with the value of a key."""
    body = (group.get(environ["PATH_INFO"].strip("/")) or "").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Answer an ASGI request with the value of a key."""
    if scope["type"] != "http":
        raise NotImplementedError
    body = (await group.aget(scope["path"].strip("/")) or "").encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
