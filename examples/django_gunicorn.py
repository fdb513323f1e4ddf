"""Run two workers of the Django example, which join before their first request and hand over at their end.

So the cache survives a HUP that comes without traffic. Without this, a worker joins with its first call of the cache.
"""

from __future__ import annotations

import os
from typing import Any

wsgi_app = "django_app"
workers = 2


def post_worker_init(_: Any) -> None:
    """Join the other workers with the groups of all caches."""
    from kamacache.integrations.django import nodes  # here, after gunicorn has loaded the settings in the worker

    for node in nodes():
        node.start()


def worker_exit(_: Any, worker: Any) -> None:
    """Hand over, after SIGTERM and the last request, to workers that stay, or that come within five seconds."""
    if worker.pid == os.getpid():  # gunicorn also calls this in its master, for a worker that has vanished
        from kamacache.integrations.django import nodes

        for node in nodes():
            node.close(drain="5s")
