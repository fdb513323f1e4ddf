"""A process that owns the keys of a group and records its spans. A line of input has it print them and end."""

from __future__ import annotations

import functools
import json
import sys

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kamacache import Node


@functools.cache
def recorder() -> InMemorySpanExporter:
    """Make the provider of this process, which has one for ever, and return what keeps its spans."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def shown(span: ReadableSpan) -> dict[str, object]:
    """Return a span as JSON."""
    assert span.context is not None
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": span.context.trace_id,
        "id": span.context.span_id,
        "parent": span.parent and span.parent.span_id,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
    }


def load(_: str) -> str:
    """Show what the loader finds, in the span of its call."""
    with trace.get_tracer("source").start_as_current_span("query"):
        return str(baggage.get_baggage("user"))


def main() -> None:
    exporter = recorder()
    with Node(registry=sys.argv[1]) as node:
        node.group("users", load, codec="text")
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        print(json.dumps([shown(span) for span in exporter.get_finished_spans()]), flush=True)  # noqa: T201
        node.close(drain=0)


if __name__ == "__main__":
    main()
