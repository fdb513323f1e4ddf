"""Send tasks, and read their results from the group."""

# pyright: reportFunctionMemberAccess=false, reportOptionalMemberAccess=false
# Celery has no types.

from __future__ import annotations

from celery import chord
from tasks import node, report, results, tasks, total

with node:
    sum_ = total.delay([900, 1500])
    print("total:", sum_.get(timeout=30))
    print("by its id:", tasks.AsyncResult(sum_.id).result)
    print("in the group:", results.get(sum_.id))
    first = report.delay("monday")
    print("first:", first.get(timeout=30))
    print("again:", report.delay("monday").get(timeout=30))
    print("chord:", chord([total.s([1, 2]), total.s([3, 4])])(total.s()).get(timeout=30))
