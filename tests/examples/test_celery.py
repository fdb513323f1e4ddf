"""The tasks of examples/celery_worker, run by a worker with two processes."""

from __future__ import annotations

from tests.examples.conftest import Examples


def test_results_are_in_the_group_and_a_task_runs_once(examples: Examples) -> None:
    queue = str(examples.directory / "queue")
    worker = examples.start("Celery", QUEUE=queue)
    sender = examples.start("Celery", 1, QUEUE=queue)
    assert sender.end() == 0, sender.said + worker.said
    sender.wait_for(r"in the group: b'\{.*\"result\": 2400")
    said = [line for line in sender.said.splitlines() if not line.startswith(("this node", "in the group"))]
    assert said == [
        "total: 2400",
        "by its id: 2400",
        "first: report of monday",
        "again: done before",
        "chord: 10",
    ]
    worker.wait_for("the report of monday is written")
    assert worker.said.count("the report of monday fails") == 1
    assert worker.said.count("the report of monday is written") == 1
