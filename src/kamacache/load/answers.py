"""How a load ended, as it travels between nodes and as it is raised to callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kamacache.errors import GroupClosed, KamaCacheError, LoadCycle, LoadError, LoadTimeout, NodeClosed
from kamacache.load.flight import Failure, Outcome
from kamacache.net.messages import Answer

_MESSAGE = 32 * 1024 * 1024  # bytes of values that one message carries, where there are several
_TRAVELLING: dict[str, type[LoadError]] = {"LoadTimeout": LoadTimeout, "LoadCycle": LoadCycle}
_OURS = "kamacache."  # stands before the names of these in Answer.error_type


def answers(outcomes: Iterable[Outcome]) -> list[Answer]:
    """What to tell the peer that asked for these loads; values that do not fit into the message are too large."""
    told: list[Answer] = []
    size = 0
    for outcome in outcomes:
        size += len(outcome.value or b"")
        told.append(_answer(outcome) if size <= _MESSAGE or not told else Answer(too_large=True))
    return told


def _answer(outcome: Outcome) -> Answer:
    failure = outcome.failure
    if failure is not None:
        ours = failure.kind is not LoadError
        error_type = _OURS + failure.kind.__name__ if ours else failure.cause_type or "LoadError"
        return Answer(error_type=error_type, error_text=failure.text)
    if outcome.too_large:
        return Answer(too_large=True)
    return Answer(outcome.value, outcome.version, outcome.remaining)


def failure_told(answer: Answer) -> Failure | None:
    """Why the load of a peer failed; None: it did not."""
    if not answer.error_type:
        return None
    name = answer.error_type.removeprefix(_OURS)
    kind = LoadError if name == answer.error_type else _TRAVELLING.get(name, LoadError)
    return Failure(kind, answer.error_text, None, answer.error_type)


def error(failure: Failure, key: str) -> KamaCacheError:
    """An error of its own for one caller."""
    if not issubclass(failure.kind, LoadError):
        return failure.kind(failure.text)
    raised = failure.kind(failure.text or failure.cause_type, key=key, cause_type=failure.cause_type)
    raised.__cause__ = failure.cause
    return raised


def batch_error(failed: dict[str, Exception], values: dict[str, Any]) -> KamaCacheError:
    """One error for a batch: the first key's, with what the others brought."""
    key, first = next(iter(failed.items()))
    if isinstance(first, GroupClosed | NodeClosed):
        return first
    kind = type(first) if isinstance(first, LoadError) else LoadError
    cause_type = first.cause_type if isinstance(first, LoadError) else type(first).__name__
    whole = kind(str(first), key=key, cause_type=cause_type, loaded=values)
    whole.__cause__ = first.__cause__ if isinstance(first, LoadError) else first
    return whole
