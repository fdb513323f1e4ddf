"""Spans and metrics of OpenTelemetry, if it is installed; nothing at all if it is not."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from opentelemetry import baggage, context, metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kamacache import LoadError, Node
from kamacache.deadline import Deadline
from kamacache.net.messages import LoadReply, LoadRequest
from kamacache.steps import Wait
from kamacache.testing import Network
from tests.cluster.cluster import PATIENCE, wait_until
from tests.cluster.traced import recorder, shown

ROOT = Path(__file__).parents[2]
TRACER = trace.get_tracer("test")


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    """Have the nodes of these tests make spans, and return what keeps them. A process has one provider."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OTEL_SDK_DISABLED")
        yield recorder()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> InMemorySpanExporter:
    exporter.clear()
    return exporter


@pytest.fixture
def node(spans: InMemorySpanExporter) -> Iterator[Node]:
    with Node() as node:
        yield node


def ended(spans: InMemorySpanExporter) -> list[ReadableSpan]:
    found = list(spans.get_finished_spans())
    spans.clear()
    return found


def names(spans: InMemorySpanExporter) -> list[str]:
    return [span.name for span in ended(spans)]


def test_load_in_another_process_belongs_to_the_trace_of_its_caller(
    spans: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Follow a get from this process to the query of the loader in the owner's, and its baggage."""
    environment = {name: value for name, value in os.environ.items() if name != "OTEL_SDK_DISABLED"}
    registry = f"local://{tmp_path}"
    with (
        subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.traced", registry],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        Node(registry=registry, client=True) as node,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        group = node.group("users", codec="text")
        wait_until(lambda: len(node.members()) == 2 and node._membership.owner("users", "key") is not None)
        spans.clear()
        with TRACER.start_as_current_span("request"):
            token = context.attach(baggage.set_baggage("user", "ada"))
            assert group.get("key") == "ada"
            context.detach(token)
        process.stdin.write("\n")
        process.stdin.flush()
        theirs = json.loads(process.stdout.readline())
        node.close(drain=0)
    ours = [shown(span) for span in spans.get_finished_spans()]
    by_name = {(span["name"], span["kind"]): span for span in ours + theirs}
    way = [
        ("request", "INTERNAL"),
        ("kamacache.peer", "CLIENT"),
        ("kamacache.peer", "SERVER"),
        ("kamacache.load", "INTERNAL"),
        ("query", "INTERNAL"),
    ]
    assert set(by_name) == set(way)
    assert len({span["trace"] for span in by_name.values()}) == 1
    for above, below in pairwise(way):
        assert by_name[below]["parent"] == by_name[above]["id"]
    for where in way[1:4]:
        about = by_name[where]["attributes"]
        assert (about["kamacache.group"], about["kamacache.keys"]) == ("users", 1)
        assert "key" not in about.values()
        assert by_name[where]["status"] == "UNSET"
    assert by_name[way[1]]["attributes"]["server.address"].startswith("unix:")


def _load(_: str) -> bytes:
    return str(getattr(trace.get_current_span(), "name", "")).encode()


async def _aload(key: str) -> bytes:
    await asyncio.sleep(0)
    return _load(key)


FORMS: dict[str, tuple[dict[str, Any], Callable[[Any], Any]]] = {
    "plain": ({"loader": _load}, lambda group: group.get("k")),
    "plain for a task": ({"loader": _load}, lambda group: asyncio.run(group.aget("k"))),
    "async": ({"loader": _aload}, lambda group: group.get("k")),
    "async in a task": ({"loader": _aload}, lambda group: asyncio.run(group.aget("k"))),
    "looks plain": ({"loader": lambda key: _aload(key)}, lambda group: group.get("k")),  # noqa: PLW0108
    "batch": (
        {"loader": None, "load_many": lambda keys: {key: _load(key) for key in keys}},
        lambda group: group.get_many(["j", "k"])["k"],
    ),
    "get_or_load": ({}, lambda group: group.get_or_load("k", _load)),
    "aget_or_load": ({}, lambda group: asyncio.run(group.aget_or_load("k", _aload))),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_call_of_a_loader_is_a_span(spans: InMemorySpanExporter, node: Node, form: str) -> None:
    """Run each form of a function in a span below that of its caller."""
    options, ask = FORMS[form]
    group = node.group("users", **options)
    with TRACER.start_as_current_span("request"):
        assert ask(group) == b"kamacache.load"
    load, request = ended(spans)
    assert (load.name, load.parent) == ("kamacache.load", request.context)
    assert load.attributes == {"kamacache.group": "users", "kamacache.keys": 2 if form == "batch" else 1}
    ask(group)  # a hit
    assert names(spans) == []


@pytest.mark.parametrize("is_async", [False, True])
def test_failure_is_the_end_of_its_span(spans: InMemorySpanExporter, node: Node, is_async: bool) -> None:
    def load(_: str) -> bytes:
        raise ZeroDivisionError("no")

    async def aload(key: str) -> bytes:
        return load(key)

    group = node.group("users", aload if is_async else load)
    with pytest.raises(LoadError):
        group.get("k")
    (span,) = ended(spans)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ZeroDivisionError"
    assert [event.name for event in span.events] == ["exception"]


def test_failure_at_the_owner_is_the_end_of_both_spans_of_the_call(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    def load(_: str) -> bytes:
        raise ZeroDivisionError("no")

    registry = f"local://{tmp_path}"
    with Node(registry=registry) as asker, Node(registry=registry) as owner:
        groups = [node.group("users", load) for node in (asker, owner)]
        keys = [str(number) for number in range(99)]
        wait_until(lambda: any(asker.owner("users", key).id == owner.id for key in keys))
        key = next(key for key in keys if asker.owner("users", key).id == owner.id)
        with pytest.raises(LoadError):
            groups[0].get(key)
        wait_until(lambda: len(spans.get_finished_spans()) == 3)
        for span in ended(spans):
            assert span.status.status_code is trace.StatusCode.ERROR, span.name
            assert (span.attributes or {})["error.type"] == "ZeroDivisionError", span.name


def test_awaitable_that_nothing_can_await_is_closed(node: Node) -> None:
    """Close what a loader returned where its own loop asks for it, as without spans: no coroutine is left over."""

    async def ask() -> None:
        async with node:
            group = node.group("users", lambda key: _aload(key))  # noqa: PLW0108 - it looks plain
            with pytest.raises(LoadError, match="use aget"):
                group.get("k")
            gc.collect()

    node.close()
    asyncio.run(ask())


@pytest.mark.parametrize("form", ["alone", "direct", "path"])
def test_each_write_is_one_span(spans: InMemorySpanExporter, tmp_path: Path, form: str) -> None:
    """Make one span of a write, whichever way it takes: alone, without a step of Python, or written for tasks."""
    network = Network()

    def make() -> Node:
        return Node(registry=network.registry(), lane=network.lane()) if form == "path" else Node(f"unix:{tmp_path}/s")

    registry = f"local://{tmp_path}"
    nodes = [make()] if form == "alone" else [make() if form == "path" else Node(registry=registry) for _ in range(2)]
    try:
        groups = [node.group("users", lambda _: b"1") for node in nodes]
        for node in nodes:
            node.start()
        wait_until(lambda: all(len(node.members()) == len(nodes) for node in nodes))
        group = groups[0]
        writes: list[Callable[[], object]] = [
            lambda: group.set("k", b"2"),
            lambda: group.set_many({"k": b"2", "l": b"3"}),
            lambda: group.delete("k"),
            lambda: asyncio.run(group.aset("k", b"2")),
            lambda: group.add("n", b"2"),
            lambda: group.pop("n"),
            group.clear,
            lambda: group.delete_prefix("k"),
        ]
        for write in writes:
            assert write()
            (span,) = ended(spans)
            assert span.name == "kamacache.write"
            assert (span.attributes or {})["kamacache.group"] == "users"
    finally:
        for node in nodes:
            node.close(drain=0)


def test_call_that_fails_and_strange_headers(spans: InMemorySpanExporter, tmp_path: Path) -> None:
    """End the span of a call that finds no group, and begin a trace of its own for one that cannot be read."""
    registry = f"local://{tmp_path}"
    with Node(registry=registry) as asker, Node(registry=registry) as owner:
        owner.group("users", lambda _: b"1")
        telemetry, lane, deadline = asker._runtime.telemetry, asker._runtime.lane, Deadline.after(PATIENCE)
        assert telemetry is not None
        address = owner.address or ""
        strange = LoadRequest("users", ["k"], trace={"traceparent": "00-zz", "": "", "baggage": "="})
        reply: LoadReply = Wait(lane.call(address, strange, deadline), deadline).run()
        assert reply.answers[0].value == b"1"
        load, server = ended(spans)
        assert (load.name, server.kind, server.parent) == ("kamacache.load", trace.SpanKind.SERVER, None)
        lost = telemetry.call(
            address, LoadRequest("none", ["k"]), lambda request: lane.call(address, request, deadline)
        )
        with pytest.raises(Exception, match="none"):
            Wait(lost, deadline).run()
        wait_until(spans.get_finished_spans)
        (client,) = ended(spans)
        assert client.status.status_code is trace.StatusCode.ERROR
        assert (client.attributes or {})["error.type"] == "UnknownGroup"

        def refused(_: LoadRequest) -> NoReturn:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            telemetry.call("unix:/run/a:b/it.sock", LoadRequest("users", ["k"]), refused)
        (client,) = ended(spans)
        assert (client.attributes or {})["server.address"] == "unix:/run/a:b/it.sock"


def test_metrics_are_those_of_the_page_for_prometheus(node: Node) -> None:
    group = node.group("users", lambda _: b"1")
    group.get("k")
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    data: Any = reader.get_metrics_data()
    ((scope,),) = [resource.scope_metrics for resource in data.resource_metrics]
    found = {metric.name: metric.data.data_points for metric in scope.metrics}
    page = re.findall(r"^# TYPE kamacache_(\w+?)(?:_total)? (?:counter|gauge)$", node.metrics(), re.MULTILINE)
    assert set(found) == {f"kamacache.{name}" for name in page} - {"kamacache.peer_up"}  # no member has a value for it
    (loads,) = [point for point in found["kamacache.loads"] if point.attributes["kamacache.group"] == "users"]
    assert (loads.value, loads.attributes["kamacache.service"]) == (1, "kamacache")


@pytest.mark.parametrize("how", ["missing", "disabled", "broken", "without its provider"])
def test_nothing_is_done_without_it(how: str) -> None:
    """Import nothing and wrap nothing if it is not installed, disabled, or told to use what there is not."""
    code = f"""if True:
        import sys
        if {how == "missing"}:
            sys.modules["opentelemetry"] = None
        from kamacache import Node
        def load(key):
            return b"1"
        with Node() as node:
            group = node.group("users", load)
            assert group.get("k") == b"1"
            assert group._core.runtime.telemetry is None
            assert group._core.misses.loader.single is load
            assert not vars(group._core.writes).keys() & {{"write", "write_alone", "write_directly"}}
        imported = [name for name in sys.modules if name.startswith("opentelemetry.")]
        assert {how not in ("missing", "disabled")} or not imported
    """
    environment = os.environ | {
        "OTEL_SDK_DISABLED": "true" if how == "disabled" else "",
        "OTEL_PYTHON_TRACER_PROVIDER" if how == "without its provider" else "OTEL_PROPAGATORS": "none such",
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
