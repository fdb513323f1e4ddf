"""Serve a FastAPI app in front of a slow, limited API: the workers of uvicorn share what they have fetched.

The loader is async and runs on the loop of uvicorn, with the HTTP client of the app.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

import kamacache

UPSTREAM = os.environ.get("UPSTREAM", "https://api.github.com")  # 60 requests an hour without a token

node = kamacache.Node.from_env(registry="local://", service="fastapi-app")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Join before the first request; at the end close the node first, because its loads need the client."""
    async with httpx.AsyncClient(base_url=UPSTREAM, timeout=10) as app.state.upstream, node:
        yield


app = FastAPI(title="Users", lifespan=lifespan)


@node.loader("users", codec="json", ttl="10m", negative_ttl="1m")
async def users(login: str) -> dict[str, str | None] | None:
    """Ask the slow API. None: there is no such user. An exception reaches the callers as a LoadError."""
    answer = await app.state.upstream.get(f"/users/{quote(login, safe='')}")
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    found = answer.raise_for_status().json()
    return {"login": found["login"], "name": found["name"]}


@app.get("/users/{login}")
async def user(login: str) -> dict[str, str | None]:
    """Answer from the cache of any worker, or with one request to the slow API."""
    found = await users.aget(login)
    if found is None:
        raise HTTPException(404, f"there is no user {login}")
    return found


@app.post("/users/{login}/changed")
async def changed(login: str) -> dict[str, bool]:
    """Drop a user that has changed, for example for a webhook: no worker answers with the old one from now on."""
    return {"everywhere": await users.adelete(login) is True}


@app.get("/healthz")
async def healthz() -> dict[str, Any]:
    """Say that this worker serves. The node has /healthz, /readyz and /metrics of its own, on its own socket."""
    return {"worker": os.getpid(), "node": node.address, "members": len(node.members())}


@app.exception_handler(kamacache.LoadError)
async def no_answer(_: Request, error: kamacache.LoadError) -> JSONResponse:
    """Report the failure of the slow API. A failure is not kept, so the next request asks again."""
    return JSONResponse({"detail": f"the users cannot be asked: {error.cause_type}"}, 502)
