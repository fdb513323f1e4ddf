"""Describe the end of a load for the callers that led and joined it, for the counters, and for a peer that asked."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kamacache._engine import Store
from kamacache.errors import (
    GroupClosed,
    KamaCacheError,
    LoadCycle,
    LoadError,
    LoadTimeout,
    NodeClosed,
    NoLoader,
    encodable,
    text_of,
)
from kamacache.net.messages import Answer

# The positions in Store.OUTCOMES, in its order.
GETS, HITS, NEAR_HITS, ABSENT, PEER_HITS, JOINED, LOADS, PEER_LOADS, SERVED, LOAD_ERRORS, WRITES = range(11)
UNDECODABLE, STALE, UNANSWERED, TOO_LARGE = 11, 12, 13, 14

_MESSAGE = 32 * 1024 * 1024  # bytes of values in one message that has several
_TRACE = 4096  # bytes of a traceback that travel
_OURS = "kamacache."  # stands before the names of our own errors in Answer.error_type
_TRAVELLING: dict[str, type[LoadError]] = {"LoadTimeout": LoadTimeout, "LoadCycle": LoadCycle}


class Failure(NamedTuple):
    """The reason of a failed load. Each caller makes an error of its own from it."""

    kind: type[KamaCacheError]
    text: str
    cause: BaseException | None = None
    cause_type: str = ""
    trace: str = ""  # the end of the traceback, of a loader in another process


class Outcome(NamedTuple):
    """The end of a flight: a value, absence (value None), or a failure."""

    value: bytes | None = None
    version: int = 0
    remaining: float | None = None
    how: int = LOADS  # the counter for the caller that led the flight
    failure: Failure | None = None
    too_large: bool = False  # given to callers here if the value is, neither kept nor sent to another node
    unloaded: bool = False  # absent because nothing could load it: no answer for a caller that brings a function
    late: bool = False  # the time of the load was over
    due: bool = False  # old: the asker that brought a function is to load it anew


ABORTED = Outcome()  # the leader was interrupted: waiting callers try again


def failed(error: KamaCacheError, how: int = LOADS) -> Outcome:
    """Return the outcome of a load that ended with one of our own errors."""
    return Outcome(how=how, failure=Failure(type(error), str(error), error.__cause__))


def caused(error: BaseException, where: str = "") -> Failure:
    """Return the failure of a load that raised `error`."""
    return Failure(LoadError, where + text_of(error), error, type(error).__name__)


def timed_out(key: str, timeout: float | None, how: int) -> Outcome:
    """Return the outcome of a load that took too long."""
    text = f"the load of {key!r} took longer than {timeout or 0:g} s"
    return Outcome(how=how, failure=Failure(LoadTimeout, text, None, "LoadTimeout"), late=True)


def in_memory(store: Store, key: str, *, former: bool = False) -> Outcome | None:
    """Return the entry that the store has by now, as an outcome; a former copy only with `former`."""
    found = store.find(key)
    if found is None or (found[3] == Store.FORMER and not former):
        return None
    value, version, remaining, kind = found
    return Outcome(value, version, remaining, ABSENT if value is None else NEAR_HITS if kind == Store.NEAR else HITS)


def raised(failure: Failure, key: str) -> KamaCacheError:
    """Return a new error for one caller."""
    if not issubclass(failure.kind, LoadError):
        return failure.kind(failure.text)
    error = failure.kind(failure.text or failure.cause_type, key=key, cause_type=failure.cause_type)
    error.__cause__ = failure.cause
    if failure.trace:
        error.add_note(f"The loader ran in another process, or for an earlier call:\n{failure.trace}")
    return error


def batch_error(failures: dict[str, Exception], loaded: dict[str, Any]) -> KamaCacheError:
    """Return one error for a batch: that of the first failed key, with the values of the others."""
    key, first = next(iter(failures.items()))
    if isinstance(first, GroupClosed | NodeClosed):
        return first
    kind = type(first) if isinstance(first, LoadError) else LoadError
    cause_type = first.cause_type if isinstance(first, LoadError) else type(first).__name__
    error = kind(str(first), key=key, cause_type=cause_type, loaded=loaded)
    error.__cause__ = first.__cause__ if isinstance(first, LoadError) else first
    if isinstance(first, LoadError):
        for note in getattr(first, "__notes__", ()):
            error.add_note(note)
    return error


def trace_of(error: BaseException | None) -> str:
    """Return the end of the traceback of an exception, for another process."""
    if error is None:
        return ""
    try:
        text = "".join(traceback.format_exception(error)).rstrip()
    except Exception:  # noqa: BLE001 - the exception is the user's, and may raise anything
        return ""
    last = text.encode(errors="backslashreplace")[-_TRACE:]
    return last.decode(errors="ignore")


def is_unloaded(outcome: Outcome) -> bool:
    """Return whether a load ended so because there was nothing to load with."""
    return outcome.unloaded or (outcome.failure is not None and outcome.failure.kind is NoLoader)


def answers(outcomes: Iterable[tuple[str, Outcome]], is_kept: Callable[[str], bool]) -> list[Answer]:
    """Return the answers for the peer that asked, which asks again for kept values that the message has no room for.

    Others that do not fit are called too large.
    """
    told: list[Answer] = []
    left = _MESSAGE
    for key, outcome in outcomes:
        size = len(outcome.value or b"")
        if size <= left or not told:
            left -= size
            told.append(answer_of(outcome))
        else:
            kept = is_kept(key)
            told.append(Answer(too_large=not kept, later=kept))
    return told


def answer_of(outcome: Outcome) -> Answer:
    """Return the answer for one key. All its texts can be written in UTF-8, whatever a user's exception says."""
    failure = outcome.failure
    if outcome.too_large:
        return Answer(too_large=True)
    if failure is not None:
        ours = failure.kind is not LoadError
        error_type = _OURS + failure.kind.__name__ if ours else failure.cause_type or "LoadError"
        trace = failure.trace or trace_of(failure.cause)
        texts = [encodable(text) for text in (error_type, failure.text, trace)]
        return Answer(error_type=texts[0], error_text=texts[1], error_trace=texts[2])
    return Answer(outcome.value, outcome.version, outcome.remaining, due=outcome.due)


def failure_in(answer: Answer) -> Failure | None:
    """Return the failure of a peer's load; None if it did not fail."""
    if not answer.error_type:
        return None
    name = answer.error_type.removeprefix(_OURS)
    kind = LoadError if name == answer.error_type else _TRAVELLING.get(name, LoadError)
    return Failure(kind, answer.error_text, None, answer.error_type, answer.error_trace)
