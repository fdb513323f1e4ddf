"""Spans of OpenTelemetry, if its API is installed: for calls of loaders, for loads by other nodes, and for writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from functools import wraps
from time import time_ns
from typing import TYPE_CHECKING, Any

from kamacache._engine import __version__
from kamacache.log import log

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from kamacache._engine import Promise
    from kamacache.core import GroupCore
    from kamacache.load.loader import Loader
    from kamacache.net.messages import Answer, LoadReply, LoadRequest
    from kamacache.serve.loads import ServedLoad
    from kamacache.steps import Path

_RPC = {"rpc.system": "grpc", "rpc.service": "kamacache.v1.Peer", "rpc.method": "Load"}


def find() -> Telemetry | None:
    """Return what makes spans; None if opentelemetry-api is not installed, or OTEL_SDK_DISABLED is true."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    try:
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - most programs do without it

        return Telemetry(trace, propagate, context.attach)
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001 - it imports and makes what the environment names
        log.warning("OpenTelemetry cannot be used, so there are no spans and no metrics of it: %(error)s", error=error)
        return None


class Telemetry:
    """Make the spans of one life of a node. Whether they are recorded is for the program's TracerProvider to say."""

    def __init__(self, trace: Any, propagate: Any, attach: Callable[[Any], Any]) -> None:
        self._trace = trace
        self._propagate = propagate
        self._attach = attach
        self._tracer = trace.get_tracer("kamacache", __version__)

    def _begin(self, name: str, group: str, keys: int | None = None, **how: Any) -> Span:
        about = {"kamacache.group": group} if keys is None else {"kamacache.group": group, "kamacache.keys": keys}
        attributes = about | how.pop("attributes", {})
        return self._tracer.start_span(name, attributes=attributes, **how)  # type: ignore[no-any-return]

    def end(self, span: Span, error: BaseException | None = None) -> None:
        """End a span, with the error that is its result."""
        if error is not None and span.is_recording():
            self._mark(span, type(error).__name__)
            with suppress(Exception):  # the user's class may have no text
                span.record_exception(error)
        span.end()

    def _mark(self, span: Span, kind: str) -> None:
        """Say that a span has failed, by an error of this type."""
        span.set_attribute("error.type", kind)
        span.set_status(self._trace.StatusCode.ERROR)

    def _end_with(self, promise: Promise, span: Span) -> None:
        def end() -> None:
            error = promise.exception()
            if error is None and span.is_recording() and (kind := _failed(promise.result())):
                self._mark(span, kind)
            self.end(span, error)

        if not promise.wake(end):
            end()

    # -- calls of loaders --------------------------------------------------------------------------------------------

    def trace_loader(self, group: str, loader: Loader) -> None:
        """Have each call of a loader's functions be a span, which is current while they run."""
        loader.single = loader.single and self._traced(group, loader.single)
        loader.many = loader.many and self._traced(group, loader.many)

    def _traced(self, group: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @wraps(function, updated=())
        def load(argument: Any) -> Any:
            span = self._begin("kamacache.load", group, len(argument) if isinstance(argument, list) else 1)
            try:
                with self._use(span):
                    value = function(argument)
            except BaseException as error:
                self.end(span, error)
                raise
            if hasattr(value.__class__, "__await__"):
                return _Awaitable(self._awaited(span, value), value)
            self.end(span)
            return value

        return load

    async def _awaited(self, span: Span, value: Any) -> Any:
        try:
            with self._use(span):
                result = await value
        except BaseException as error:
            self.end(span, error)
            raise
        self.end(span)
        return result

    def _use(self, span: Span) -> AbstractContextManager[Span]:
        current: AbstractContextManager[Span] = self._trace.use_span(
            span, record_exception=False, set_status_on_exception=False
        )
        return current

    # -- loads by other nodes ----------------------------------------------------------------------------------------

    def call(self, address: str, request: LoadRequest, send: Callable[[LoadRequest], Promise]) -> Promise:
        """Send a request to a peer in a span, which ends with the call."""
        where: dict[str, Any] = {"server.address": address}
        if not address.startswith("unix:"):
            host, _, port = address.rpartition(":")
            where = {"server.address": host.strip("[]"), "server.port": int(port)}
        kind = self._trace.SpanKind.CLIENT
        span = self._begin("kamacache.peer", request.group, len(request.keys), kind=kind, attributes=where | _RPC)
        headers: dict[str, str] = {}
        try:
            self._propagate.inject(headers, self._trace.set_span_in_context(span))
            call = send(request._replace(trace=headers))
        except BaseException as error:
            self.end(span, error)
            raise
        self._end_with(call, span)
        return call

    def serve(self, request: LoadRequest, context: Context, load: Callable[[], ServedLoad]) -> ServedLoad:
        """Begin a load for a peer in a span below that of the peer, which ends with the answer.

        The span is the current one in `context`, in which the load runs.
        """
        above, kind = self._propagate.extract(request.trace), self._trace.SpanKind.SERVER
        about = {"kind": kind, "attributes": _RPC, "context": above}
        span = self._begin("kamacache.peer", request.group, len(request.keys), **about)
        context.run(self._attach, self._trace.set_span_in_context(span, above))
        try:
            served = load()
        except BaseException as error:
            self.end(span, error)
            raise
        self._end_with(served.answer, span)
        return served

    # -- writes ------------------------------------------------------------------------------------------------------

    def trace_writes(self, core: GroupCore) -> None:
        """Have each write of a group be a span."""

        def one(_: object) -> int:
            return 1

        ways: list[tuple[Any, str, Callable[[Any], int] | None]] = [
            (core.writes, "write", len),
            (core.decisions, "decide", one),
            (core.drops, "_drop", None),
        ]
        for part, name, count in ways:
            setattr(part, name, self._path(core.name, getattr(part, name), count))
        for name in ("write_alone", "write_directly"):
            setattr(core.writes, name, self._written(core.name, getattr(core.writes, name)))

    def _path(
        self, group: str, write: Callable[..., Path[Any]], count: Callable[[Any], int] | None
    ) -> Callable[..., Path[Any]]:
        def traced(what: Any, *others: Any) -> Path[Any]:
            span = self._begin("kamacache.write", group, count and count(what))
            try:
                result = yield from write(what, *others)
            except BaseException as error:
                self.end(span, error)
                raise
            self.end(span)
            return result

        return traced

    def _written(self, group: str, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a way to write that makes a span of what it has done, and none if `write` has to do the rest."""

        def traced(items: Any) -> Any:
            began = time_ns()
            result = write(items)
            if result is True or result == []:
                self.end(self._begin("kamacache.write", group, len(items), start_time=began))
            return result

        return traced


def _failed(loaded: LoadReply | list[Answer]) -> str:
    """Return the type of the first load that failed, or nothing."""
    answers = loaded if isinstance(loaded, list) else loaded.answers
    return next((answer.error_type for answer in answers if answer.error_type), "")


class _Awaitable:
    """What a loader returned, to be awaited in its span, or closed if nothing can await it."""

    def __init__(self, traced: Coroutine[Any, Any, Any], value: Any) -> None:
        self._traced = traced
        self._value = value

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._traced.__await__()

    def close(self) -> None:
        self._traced.close()
        if hasattr(self._value, "close"):
            self._value.close()
