"""The metrics of all nodes of this process as instruments of OpenTelemetry, read when its exporter wants them."""

# ruff: noqa: SLF001 - the nodes lend what operators see of them

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kamacache import fork
from kamacache._engine import __version__
from kamacache.log import log
from kamacache.serve.metrics import Sample, measure

if TYPE_CHECKING:
    from kamacache.node import Node

_made = False  # a process has each instrument once


class _Reading(dict[str, tuple[str, str, list[Sample]]]):
    """The metrics of one node at one moment, by name: kind, text and samples."""

    def metric(self, name: str, kind: str, text: str, samples: Iterable[Sample]) -> None:
        """Take a counter or a gauge. An exporter to Prometheus makes its name there of the one here."""
        self[name.removesuffix("_total").replace("_", ".", 1)] = kind, text, list(samples)


def _read(node: Node) -> _Reading:
    reading = _Reading()
    measure(reading, node._groups.cores, node._runtime)
    return reading


def observe(node: Node) -> None:
    """Make the instruments, one for each metric that a node has, if the API is installed and none was made yet."""
    global _made  # noqa: PLW0603 - see there
    if _made or node._runtime.telemetry is None:
        return
    _made = True
    try:
        from opentelemetry import metrics  # noqa: PLC0415 - it is installed

        meter = metrics.get_meter("kamacache", __version__)
    except Exception as error:  # noqa: BLE001 - it imports and makes what the environment names
        log.warning("OpenTelemetry makes no meter, so there are no metrics of it: %(error)s", error=error)
        return
    for name, (kind, text, _) in _read(node).items():
        make = meter.create_observable_counter if kind == "counter" else meter.create_observable_gauge
        make(name, [_observer(name, metrics.Observation)], description=text)


def _observer(name: str, observation: Callable[..., Any]) -> Callable[[object], list[Any]]:
    """Return the callback of an instrument. Labels become attributes, beside the service of their node."""

    def observed(_: object) -> list[Any]:
        return [
            observation(value, _attributes(labels | {"service": node._options.service}))
            for node in list(fork.nodes)
            if node._is_open()
            for labels, value in _read(node)[name][2]
        ]

    return observed


def _attributes(labels: dict[str, str]) -> dict[str, str]:
    return {f"kamacache.{label}": text for label, text in labels.items()}
