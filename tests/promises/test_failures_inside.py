"""A failure inside the library reaches the caller with its cause, and the log with its traceback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from kamacache import Group, KamaCacheError, Node
from kamacache.testing import MemoryLane, Network
from tests.promises.support import KINDS, Log, Source, came_from, in_tasks, isolated, make_group, right
from tests.unit.groups import Caller, until

WAYS = ("get", "get_many", "aget", "aget_many")

kinds = pytest.mark.parametrize("kind", KINDS)
ways = pytest.mark.parametrize("way", WAYS)


class Odd(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __repr__(self) -> str:
        return "Odd()"


class OddBase(BaseException):
    """An error that is no Exception."""


ERRORS: dict[str, Callable[[], BaseException]] = {
    "RuntimeError": lambda: RuntimeError("broken"),
    "SystemError": lambda: SystemError("broken"),
    "StopIteration": lambda: StopIteration("broken"),
    "StopAsyncIteration": lambda: StopAsyncIteration("broken"),
    "TimeoutError": lambda: TimeoutError("broken"),
    "Odd": Odd,
    "OddBase": OddBase,
}
errors = pytest.mark.parametrize("error", ERRORS)


def outcomes(group: Group[Any], way: str, key: str = "k", callers: int = 3) -> list[Any]:
    """Return the value, or the error, that each of some callers gets at the same time."""
    single = way in {"get", "aget"}

    def unpacked(got: Any) -> Any:
        return got.get(key) if isinstance(got, Mapping) else got

    if way.startswith("a"):
        calls = [lambda: getattr(group, way)(key if single else [key])] * callers
        return [unpacked(got) for got in in_tasks(*calls)]
    asked = [Caller(getattr(group, way), key if single else [key]) for _ in range(callers)]
    return [caller.error() or unpacked(caller.result()) for caller in asked]


def check(found: list[Any], cause: type[BaseException]) -> None:
    """Check that each caller got an error that tells its cause."""
    for each in found:
        assert isinstance(each, BaseException), each
        assert came_from(each, cause), repr(each)
        if not isinstance(each, cause):
            assert isinstance(each, KamaCacheError), repr(each)
            assert "interrupted" not in str(each)


class BrokenCodec:
    """A codec that raises while it is broken."""

    shareable = True

    def __init__(self, method: str, error: Callable[[], BaseException]) -> None:
        self.method = method
        self.error = error
        self.broken = True

    def encode(self, value: bytes) -> bytes:
        return self._turned("encode", value)

    def decode(self, data: bytes) -> bytes:
        return self._turned("decode", data)

    def _turned(self, method: str, data: bytes) -> bytes:
        if self.broken and self.method == method:
            raise self.error()
        return data


@pytest.mark.parametrize("method", ["encode", "decode"])
@errors
@kinds
@isolated()
def test_a_codec(method: str, error: str, kind: str) -> None:
    codec = BrokenCodec(method, ERRORS[error])
    group = make_group(Node(), kind, Source(), codec=codec, load_timeout=None)
    for way in WAYS:
        check(outcomes(group, way), type(ERRORS[error]()))
    codec.broken = False
    assert all(right("k", value) for each in WAYS for value in outcomes(group, each))


@errors
@kinds
@isolated()
def test_a_loader(error: str, kind: str) -> None:
    broken = True
    source = Source()

    def answer(key: str) -> bytes:
        if broken:
            raise ERRORS[error]()  # noqa: RSE102 - a function
        return source(key)

    group = make_group(Node(), kind, answer, load_timeout=None)
    expected = type(ERRORS[error]())
    for way in WAYS:
        # Python turns a StopIteration of a coroutine into another error that names it.
        check(outcomes(group, way), RuntimeError if error == "StopIteration" and kind.startswith("async") else expected)
    broken = False
    assert all(right("k", value) for each in WAYS for value in outcomes(group, each))


class BrokenMapping(Mapping[str, bytes]):
    """A batch that cannot be read."""

    def __getitem__(self, key: str) -> bytes:
        raise RuntimeError("broken")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("broken")

    def __len__(self) -> int:
        raise RuntimeError("broken")


@isolated()
def test_a_batch_that_cannot_be_read() -> None:
    broken = True

    def load_many(keys: list[str]) -> Mapping[str, bytes]:
        return BrokenMapping() if broken else {key: f"{key}=".encode() for key in keys}

    group = Node().group("g", load_many=load_many, load_timeout=None)
    for way in WAYS:
        check(outcomes(group, way), RuntimeError)
    broken = False
    assert all(right("k", value) for each in WAYS for value in outcomes(group, each))


class BrokenLane(MemoryLane):
    """A lane that raises an unexpected error while its peeks or its calls are broken."""

    broken = ""
    raised = 0

    def _break(self, what: str) -> None:
        if self.broken == what:
            self.raised += 1
            raise RuntimeError("the lane broke")

    def peek(self, *args: Any, **options: Any) -> Any:
        self._break("peeks")
        return super().peek(*args, **options)

    async def apeek(self, *args: Any, **options: Any) -> Any:
        self._break("peeks")
        return await super().apeek(*args, **options)

    def peek_many(self, *args: Any, **options: Any) -> Any:
        self._break("peeks")
        return super().peek_many(*args, **options)

    async def apeek_many(self, *args: Any, **options: Any) -> Any:
        self._break("peeks")
        return await super().apeek_many(*args, **options)

    def call(self, *args: Any, **options: Any) -> Any:
        self._break("calls")
        return super().call(*args, **options)


@pytest.mark.parametrize("broken", ["peeks", "calls"])
@kinds
@ways
@isolated()
def test_a_lane(broken: str, kind: str, way: str) -> None:
    log = Log()
    network = Network()
    lane = BrokenLane(network)
    here, there = Node(registry=network.registry(), lane=lane), Node(registry=network.registry(), lane=network.lane())
    groups = [make_group(node, kind, Source(), load_timeout=None) for node in (here, there)]
    here.start()
    there.start()
    until(lambda: len(here.members()) == len(there.members()) == 2)
    keys = (f"k{number}" for number in range(1000))
    key = next(key for key in keys if here.owner("g", key).address == there.address)
    lane.broken = broken
    found = outcomes(groups[0], way, key)
    lane.broken = ""
    assert lane.raised, "the lane was not used: this test has to be told how it is used now"
    for each in found:
        if isinstance(each, BaseException):
            check([each], RuntimeError)
        else:
            assert right(key, each)  # loaded without the peer
    # In a thread that leads, the traceback is the caller's own.
    assert way in {"get", "get_many"} or log.tells(RuntimeError, "the lane broke"), [
        record.getMessage() for record in log.records
    ]
    assert all(right(key, value) for each in WAYS for value in outcomes(groups[0], each, key))


@pytest.mark.parametrize("method", ["aget", "aget_many"])
@kinds
@isolated()
def test_a_task_factory(method: str, kind: str) -> None:
    log = Log()
    group = make_group(Node(), kind, Source(), load_timeout=None)
    raised = 0

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal raised
        raised += 1
        coroutine.close()
        raise RuntimeError("no more tasks")

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        try:
            return await (group.aget("k") if method == "aget" else group.aget_many(["k"]))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            return error
        finally:
            loop.set_task_factory(None)

    found = asyncio.run(main())
    if isinstance(found, BaseException):
        check([found], RuntimeError)
    else:  # no task was needed, or another loop was found
        assert right("k", found["k"] if method == "aget_many" else found)
    assert not raised or log.tells(RuntimeError, "no more tasks"), [record.getMessage() for record in log.records]
    assert all(right("k", value) for each in WAYS for value in outcomes(group, each))
