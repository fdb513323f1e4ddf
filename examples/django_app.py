"""Serve a Django project of one file: the workers of gunicorn share the cache, its sessions and its cached pages."""

from __future__ import annotations

import os
import time
from typing import Any

import django
from django.conf import settings
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.cache import cache_page

settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES={
        "default": {
            "BACKEND": "kamacache.integrations.django.KamaCache",
            "LOCATION": "local://",
            "TIMEOUT": 600,
            "OPTIONS": {"service": "django-app", "max_bytes": "64 MiB"},
        }
    },
    INSTALLED_APPS=["django.contrib.sessions", "kamacache.integrations.django"],  # the latter for its checks
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of an example",  # noqa: S106 - it protects nothing
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)
django.setup()


def report(number: int) -> dict[str, Any]:
    """Compute what takes long."""
    time.sleep(0.2)
    print(f"worker {os.getpid()} computes report {number}", flush=True)
    return {"number": number, "computed by": os.getpid()}


def reports(request: HttpRequest, number: int) -> HttpResponse:
    """Answer with a report, which one worker computes for all, or drop it everywhere."""
    if request.method == "DELETE":
        return JsonResponse({"existed": cache.delete(f"report:{number}")})
    return JsonResponse(cache.get_or_set(f"report:{number}", lambda: report(number)))


def home(_: HttpRequest) -> HttpResponse:
    """Answer with a page that is kept whole, for all workers."""
    return HttpResponse(f"rendered by worker {os.getpid()}\n".encode())


urlpatterns = [path("", cache_page(60)(home)), path("reports/<int:number>", reports)]
application = get_wsgi_application()
