"""The tasks of the application, apart because Celery takes long to import."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery  # type: ignore[import-untyped, unused-ignore]

from tests.deploy.served import group

folder = os.environ["SERVED_FOLDER"]
tasks = Celery("served", broker="filesystem://")
tasks.conf.update(
    broker_transport_options={
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    },
    result_backend=f"file://{folder}/results",
    task_ignore_result=True,
    worker_prefetch_multiplier=4,
)


@tasks.task(name="served.ask")  # type: ignore[untyped-decorator, unused-ignore]
def ask(keys: list[str]) -> None:
    """Get keys, and note that in a file of this process."""
    for key in keys:
        assert group.get(key) == f"value of {key}"
        with Path(folder, "done", str(os.getpid())).open("a") as done:
            done.write(f"{key}\n")
