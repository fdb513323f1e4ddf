"""For all tests: the number of random inputs, second tries, an end for tests that hang, transports that end."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from kamacache._engine import Security, Transport
from tests.support.sample import EVERY_CASE
from tests.support.tables import share_tables

MakeTransport = Callable[..., Transport]

LIMIT = 120.0 + float(os.environ.get("KAMACACHE_SOAK", "0"))  # seconds for one test; a busy machine takes its time
SOAK_LIMIT = 3600.0

os.environ.setdefault("OTEL_SDK_DISABLED", "true")  # most programs do without it; test_telemetry.py removes this

_patient = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("ci", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_patient)
settings.register_profile("short", max_examples=200, deadline=None, suppress_health_check=_patient, print_blob=True)
settings.register_profile(
    "soak", max_examples=2_000, deadline=timedelta(seconds=60), suppress_health_check=_patient, print_blob=True
)
settings.load_profile("ci")
if not EVERY_CASE:
    share_tables()

ONE_TRY = {"docs", "proof"}  # folders of tests that wait for no other thread

_stderr = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(2)  # before each test's output is captured
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background; processes of tests would inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give the tests of real threads, processes and sockets a second try, but with `--reruns 0`.

    They wait for one another, and a machine that stands still for a second fails one in some thousands.
    """
    if config.option.reruns == 0:  # the plugin itself prefers the mark
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.relative_to(here).parts[0] not in ONE_TRY:
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the failures before a second try as well: each is looked into."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"{report.nodeid} failed at its first try", yellow=True)
        terminalreporter.line(report.longreprtext)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Show where every thread stands, and end, when a test takes far too long."""
    limit = SOAK_LIMIT if settings.get_current_profile_name() == "soak" else LIMIT
    faulthandler.dump_traceback_later(limit, exit=True, file=item.config.stash[_stderr])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def transports() -> Iterator[MakeTransport]:
    """Yield a maker of transports, protected or not, and close them."""
    made: list[Transport] = []

    def make(security: Security | None = None, patience: float = 5.0) -> Transport:
        made.append(Transport(max_message=8 << 20, security=security, patience=patience))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture(params=["tcp", "unix"])
def listen_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return an address to listen on."""
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/node.sock"
