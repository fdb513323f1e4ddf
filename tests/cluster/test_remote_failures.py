"""A loader that fails for another process: the caller gets the traceback as a note, the owner's log has it too."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kamacache import Group, LoadError, Node
from kamacache.cli.client import Client, Refused
from kamacache.load import failures
from kamacache.load.loader import Loader
from kamacache.load.outcome import trace_of
from tests.cluster.cluster import wait_until

NOTE = 4096 + 100  # bytes


class Broken(Exception):
    """The error of a loader."""


def fail_in_the_loader(key: str) -> bytes:
    raise Broken(f"no {key}" if len(key) < 100 else "text " * 10_000)


class Pair(NamedTuple):
    """Two nodes over real sockets, and the group of each."""

    asker: Node
    owner: Node
    asking: Group[bytes]
    owning: Group[bytes]

    def key(self, prefix: str = "key") -> str:
        keys = (f"{prefix}{number}" for number in range(1000))
        return next(key for key in keys if self.asker.owner("g", key).id == self.owner.id)


@contextmanager
def pair(directory: Path, **options: Any) -> Iterator[Pair]:
    with ExitStack() as stack:
        nodes = [Node(registry=f"local://{directory}") for _ in range(2)]
        groups = [node.group("g", fail_in_the_loader, **options) for node in nodes]
        for node in nodes:
            stack.enter_context(node)
        yield Pair(nodes[0], nodes[1], groups[0], groups[1])


def note_of(error: LoadError) -> str:
    (note,) = error.__notes__
    assert len(note.encode()) <= NOTE
    return note


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "the loader failed" in record.getMessage()]


def test_the_caller_gets_the_remote_traceback_as_a_note(tmp_path: Path) -> None:
    with pair(tmp_path) as two:
        keys = [two.key(), two.key("other"), two.key("k" * 200)]
        errors = []
        for call in (
            lambda: two.asking.get(keys[0]),
            lambda: asyncio.run(two.asking.aget(keys[0])),
            lambda: two.asking.get_many(keys),
            lambda: asyncio.run(two.asking.aget_many(keys)),
            lambda: two.asking.get(keys[2]),
        ):
            with pytest.raises(LoadError) as caught:
                call()
            errors.append(caught.value)
        for error in errors[:4]:
            assert (error.cause_type, error.__cause__) == ("Broken", None)
            assert note_of(error).startswith("The loader ran in another process, or for an earlier call:\nTraceback")
            assert "fail_in_the_loader" in note_of(error)
            assert note_of(error).endswith(f"Broken: no {keys[0]}")
        assert note_of(errors[4]).endswith("text text")
        with pytest.raises(LoadError) as caught:  # here its cause is there
            two.owning.get(keys[0])
        assert isinstance(caught.value.__cause__, Broken)
        assert not hasattr(caught.value, "__notes__")


def test_one_waits_for_a_lease_of_another_process_that_fails(tmp_path: Path) -> None:
    """Pass the traceback of the holder on through the owner."""
    with pair(tmp_path) as two:
        key = two.key()
        holding, waiting = asyncio.Event(), asyncio.Event()

        async def fail(asked: str) -> bytes:
            holding.set()
            await waiting.wait()
            return fail_in_the_loader(asked)

        async def both() -> tuple[BaseException | bytes | None, ...]:
            first = asyncio.ensure_future(two.asking.aget_or_load(key, fail))
            await holding.wait()
            joined = asyncio.ensure_future(two.owning.aget(key))
            await asyncio.sleep(0.1)
            waiting.set()
            return tuple(await asyncio.gather(first, joined, return_exceptions=True))

        own, waited = asyncio.run(both())
        assert isinstance(own, LoadError)
        assert isinstance(own.__cause__, Broken)
        assert isinstance(waited, LoadError)
        assert "fail_in_the_loader" in note_of(waited)


def test_the_owner_logs_one_failure_in_ten_seconds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pair(tmp_path) as two:
        for _ in range(3):
            with pytest.raises(LoadError):
                two.asking.get(two.key())
        (record,) = logged(caplog)
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], Broken)
        assert "group 'g'" in record.getMessage()
        monkeypatch.setattr(two.owning._core.failures._seldom, "_quiet_until", 0.0)
        with pytest.raises(LoadError):
            two.asking.get(two.key())
        assert "2 such failures" in logged(caplog)[1].getMessage()
        caplog.clear()
        with pytest.raises(LoadError):
            two.owning.get(two.key("own"))  # its caller has the traceback
        assert logged(caplog) == []
    assert failures._EVERY >= 10


def test_a_stranger_sees_the_type_alone_and_the_command_line_the_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pair(tmp_path) as two:
        for node in (two.owner, two.asker):
            two.owning._core.failures._seldom._quiet_until = two.asking._core.failures._seldom._quiet_until = 0.0
            caplog.clear()
            with Client(node.address or "") as client:
                said = []
                for command in ("GET", "KC.LOAD", "MGET"):
                    with pytest.raises(Refused) as caught:
                        client.ask(command, f"g:{two.key()}")
                    said.append(str(caught.value))
            assert said[0] == said[2] == "LOADERR Broken"
            assert said[1] == f"LOADERR g['{two.key()}']: Broken: no {two.key()}"
            assert len(logged(caplog)) == 1
            assert two.owning._core.failures._seldom._noted == 2
            assert two.asking._core.failures._seldom._noted == 0


def test_an_exception_that_cannot_be_shown_leaves_no_trace() -> None:
    class Strange(Exception):
        @property
        def __notes__(self) -> list[str]:  # type: ignore[override]
            raise RuntimeError("strange")

    assert isinstance(trace_of(Strange("x")), str)
    assert trace_of(None) == ""
    long = trace_of(ValueError("\ud800é" * 3000))
    assert 4000 < len(long.encode()) <= 4096


SHOWN = "cannot read \\udcff"  # as it travels; the text itself cannot be written in UTF-8


def cannot_read(_: object) -> bytes:
    raise OSError("cannot read \udcff")  # the name of a file that is not UTF-8


def raised_by(call: Callable[..., Any], *arguments: Any) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the tests look at it
        call(*arguments)
    return caught.value


def test_a_text_that_is_no_utf8_travels_with_backslashes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Fail at the asker, which holds a lease, and at the owner: both get what they would get of any other text."""
    caplog.set_level(logging.CRITICAL + 1, "kamacache")  # pytest-xdist cannot report a log with this text
    with pair(tmp_path, load_timeout="20s") as two:
        began = time.monotonic()
        own = [
            raised_by(two.asking.get_or_load, two.key("a"), cannot_read),
            raised_by(lambda: asyncio.run(two.asking.aget_or_load(two.key("b"), cannot_read))),
            raised_by(two.asking.get_many_or_load, [two.key("c")], cannot_read),
        ]
        assert time.monotonic() - began < 10, "one has waited for load_timeout"
        for error in own:
            assert isinstance(error, LoadError)
            assert isinstance(error.__cause__, OSError)
            assert str(error).endswith(SHOWN)
        calls: list[str] = []

        def count(key: str) -> bytes:
            calls.append(key)
            return cannot_read(key)

        two.owning._core.loader = Loader(count, None)
        for get in (
            two.asking.get,
            lambda key: asyncio.run(two.asking.aget(key)),
            lambda key: two.asking.get_many([key]),
        ):
            error = raised_by(get, two.key("d"))
            assert isinstance(error, LoadError)
            assert (error.cause_type, str(error).endswith(SHOWN)) == ("OSError", True)
            assert note_of(error).endswith(SHOWN)
        assert calls == [two.key("d")] * 3  # not once more at the asker


def test_one_waits_for_a_lease_that_ends_with_such_a_text(tmp_path: Path) -> None:
    """Let the owner wait for the load of the asker: it gets the failure at once, long before load_timeout."""
    with pair(tmp_path, load_timeout="20s") as two:
        holding, waiting = threading.Event(), threading.Event()
        two.owning._core.loader = Loader(cannot_read, None)  # if the second comes too late to wait

        def fail(key: str) -> bytes:
            holding.set()
            assert waiting.wait(10)
            return cannot_read(key)

        with ThreadPoolExecutor() as threads:
            first = threads.submit(raised_by, two.asking.get_or_load, two.key(), fail)
            assert holding.wait(10)
            joined = threads.submit(raised_by, two.owning.get, two.key())
            wait_until(lambda: two.owning.stats().gets == 1)
            time.sleep(0.05)
            waiting.set()
            assert isinstance(first.result(10).__cause__, OSError)
            waited = joined.result(10)
        assert isinstance(waited, LoadError)
        assert str(waited).endswith(SHOWN)


def test_a_cached_function_raises_its_own_exception_with_such_a_text(tmp_path: Path) -> None:
    one, other = (Node(registry=f"local://{tmp_path}") for _ in range(2))
    plain, _ = (node.cached(name="plain")(cannot_read) for node in (one, other))
    tasks, _ = (node.cached(name="tasks")(acannot_read) for node in (one, other))
    with one, other:
        for function in (plain, tasks):
            calls = (number for number in range(1000) if one.owner(function.group.name, str(number)).id == other.id)
            number = next(calls)
            error = raised_by(lambda: asyncio.run(tasks(number)) if function is tasks else plain(number))  # noqa: B023
            assert type(error) is OSError


async def acannot_read(_: int) -> bytes:
    return cannot_read(_)


def test_functions_and_programs_with_such_names_meet(tmp_path: Path) -> None:
    """Say the names of loaders in a hello, as of a program in a file whose name is not UTF-8."""

    def load(key: str) -> bytes:
        return key.encode()

    load.__module__, load.__qualname__ = "caf\udce9", "load\udcff"
    one, other = (Node(registry=f"local://{tmp_path}") for _ in range(2))
    groups = [node.group("g", load) for node in (one, other)]
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", one.cached(load).group.name)
    with one, other:
        assert [group.get("a") for group in groups] == [b"a", b"a"]
        assert one.owner("g", "a").id == other.owner("g", "a").id
