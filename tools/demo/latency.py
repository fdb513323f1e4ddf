"""Count the durations of reads in a histogram with an error of 1.6 % that is cheap to fill and to merge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_FINE = 6  # each power of two is cut into 2**_FINE


def bucket(nanoseconds: int) -> int:
    """Return the bucket of a duration."""
    shift = max(nanoseconds.bit_length() - _FINE - 1, 0)
    return (shift << _FINE) + (nanoseconds >> shift)


def _least(number: int) -> int:
    shift = max((number >> _FINE) - 1, 0)
    return (number - (shift << _FINE)) << shift


def quantile(counts: Mapping[int, int], share: float) -> float:
    """Return the duration, in seconds, that this share of the reads did not exceed; 0 if there are none."""
    left = sum(counts.values()) * share
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return _least(number) / 1e9
    return 0.0


def merged(all_counts: list[Mapping[int, int]]) -> Counter[int]:
    """Return the sum of the histograms."""
    total: Counter[int] = Counter()
    for counts in all_counts:
        total.update(counts)
    return total
