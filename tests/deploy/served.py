"""An application of gunicorn, uvicorn and Celery with one node: each answer is a value of the cache."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-untyped, unused-ignore]

import kamacache

node = kamacache.Node.from_env(registry="local://", service="served")
folder = os.environ["SERVED_FOLDER"]


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


tasks = Celery("served", broker="filesystem://")
tasks.conf.update(
    broker_transport_options={
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    },
    result_backend=f"file://{folder}/results",
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
)


@tasks.task(name="served.ask")  # type: ignore[untyped-decorator, unused-ignore]
def ask(keys: list[str]) -> None:
    """Get keys, and note that in a file of this process."""
    for key in keys:
        assert group.get(key) == f"value of {key}"
        with Path(folder, "done", str(os.getpid())).open("a") as done:
            done.write(f"{key}\n")
